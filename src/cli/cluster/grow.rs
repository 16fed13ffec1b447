//! `cluster add` and `cluster replace`: invitations of new members.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use client::{ClientError, membership::Invite};

use super::{find, member_name, shown};
use crate::cli::{
    KeyVerb, Session,
    connection::Flags,
    duration, expiry,
    failure::{Exit, Failure},
    mesh::Administration,
};

/// Invites a member, and prints the line by which it joins, to be run on its host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: a second member, and one that only follows
  meshstore cluster add b --credentials credentials --mesh-endpoint 10.0.0.1:15012
  meshstore cluster add reader --learner --ttl 15m")]
pub(crate) struct AddArgs {
    /// The new member's name
    #[arg(value_parser = member_name)]
    name: String,
    /// It stays without a vote until somebody promotes it
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    invitation: InvitationFlags,
}

/// How an invitation is made.
#[derive(Debug, clap::Args)]
struct InvitationFlags {
    /// How long the invitation can be used [default: the server's hour]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_ttl)]
    ttl: Option<Duration>,
    /// Where the new member will find a mesh port [default: that of --mesh-endpoint]
    #[arg(long, value_name = "HOST:PORT")]
    join_endpoint: Option<String>,
    #[command(flatten)]
    administration: Administration,
}

/// Takes a member out that is lost, and invites another in its place: prints the line by which that joins.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: b's host has burnt down
  meshstore cluster replace b --credentials credentials --mesh-endpoint 10.0.0.1:15012")]
pub(crate) struct ReplaceArgs {
    /// The member that is lost, by its name or its ID in hexadecimal
    member: String,
    /// The new member's name [default: that of the lost one]
    #[arg(long, value_name = "NAME", value_parser = member_name)]
    name: Option<String>,
    #[command(flatten)]
    invitation: InvitationFlags,
    #[command(flatten)]
    flags: Flags,
}

impl AddArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.invitation.invite(self.name, self.learner, None).await
    }
}

impl KeyVerb for ReplaceArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let lost = find(&session.client()?, &self.member).await?;
        let name = self.name.unwrap_or_else(|| shown(&lost));
        self.invitation.invite(name, false, Some(lost.id)).await
    }
}

impl InvitationFlags {
    async fn invite(self, name: String, learner: bool, replaces: Option<u64>) -> Result<(), Failure> {
        let client = self.administration.client()?;
        let invite = Invite { name: name.clone(), ttl: self.ttl, learner, replaces };
        let invitation = client.invite_member(invite).await.map_err(refused)?;
        let endpoint = self.join_endpoint.unwrap_or_else(|| self.administration.first_endpoint());
        let until = expiry::told(invitation.expires_at);
        writeln!(io::stderr(), "once, until {until}, on the new member's host:")?;
        let (token, authority) = (&invitation.token, &invitation.authority);
        Ok(writeln!(io::stdout(), "{}", JoinLine { endpoint: &endpoint, name: &name, token, authority })?)
    }
}

/// The mesh API's errors that have a better next step than the store's.
fn refused(error: ClientError) -> Failure {
    let next = match &error {
        ClientError::Unavailable { .. } => "is the server running there? name another by --mesh-endpoint",
        ClientError::Denied { .. } => "are these the administrator's credentials of this cluster?",
        _ => return error.into(),
    };
    Failure::new(Exit::Error, error.to_string()).next(next)
}

/// The command by which an invited member joins.
pub(crate) struct JoinLine<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) name: &'a str,
    pub(crate) token: &'a str,
    pub(crate) authority: &'a str,
}

impl fmt::Display for JoinLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, name, token, authority } = self;
        write!(f, "meshstore cluster join {endpoint} --name {name} --token {token} --authority {authority}")
    }
}
