//! `cluster members|status|probe|add|join|promote|remove|replace|transfer`: the cluster as a person sees and changes it.
//!
//! - What is read, and what etcd's `Cluster` service can do, goes by the client port, with etcdctl's flags.
//! - Invitations are the administrator's, by the mesh port.

mod grow;
mod join;
mod render;
mod report;

pub(crate) use grow::{AddArgs, JoinLine, ReplaceArgs};
pub(crate) use join::JoinArgs;
pub(crate) use report::ReportArgs;

use client::{Client, MemberInfo, Probed};

use super::{KeyVerb, Session, connection::Flags, failure::Failure};
use std::{
    io::{self, Write},
    time::Instant,
};

/// What is done to one member.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// The member, by its name or its ID in hexadecimal
    pub(crate) member: String,
    #[command(flatten)]
    flags: Flags,
}

/// Gives a learner its vote.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore cluster promote c")]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    one: OneArgs,
}

/// Takes a member out of the cluster, for good; the leader, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore cluster remove c")]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    one: OneArgs,
}

/// Has the members agree on something that changes nothing: whether the cluster can write, and how fast.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore cluster probe")]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    flags: Flags,
}

/// Lets another member lead.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore cluster transfer b")]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    one: OneArgs,
}

impl KeyVerb for PromoteArgs {
    fn flags(&self) -> &Flags {
        &self.one.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let client = session.client()?;
        let member = find(&client, &self.one.member).await?;
        client.member_promote(member.id).await?;
        told(&member, "has a vote now")
    }
}

impl KeyVerb for ProbeArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let client = session.client()?;
        // A connection is no part of what is measured.
        client.versions().await?;
        let begun = Instant::now();
        let Probed { index, cluster_version } = client.probe().await?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        Ok(writeln!(io::stdout(), "the cluster at {cluster_version} agreed on entry {index} in {took:.1} ms")?)
    }
}

impl KeyVerb for RemoveArgs {
    fn flags(&self) -> &Flags {
        &self.one.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let client = session.client()?;
        let member = find(&client, &self.one.member).await?;
        client.member_remove(member.id).await?;
        told(&member, "is no member any more; its data directory is of no further use")
    }
}

impl KeyVerb for TransferArgs {
    fn flags(&self) -> &Flags {
        &self.one.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let client = session.client()?;
        let members = client.member_list().await?.members;
        let member = pick(&members, &self.one.member)?;
        // Only the leader lets another one lead.
        let leader = client.status().await?.leader;
        let urls = members.iter().find(|member| member.id == leader).map(|member| member.client_urls.clone());
        let urls = urls.filter(|urls| !urls.is_empty()).ok_or_else(|| {
            Failure::new(super::failure::Exit::Error, "nobody leads now").next("see `meshstore cluster members`")
        })?;
        session.connection.client_of(urls)?.move_leader(member.id).await?;
        told(member, "leads now")
    }
}

async fn find(client: &Client, name: &str) -> Result<MemberInfo, Failure> {
    let members = client.member_list().await?.members;
    pick(&members, name).cloned()
}

/// The member of this name or id. A name that is another's id, too, is a name.
fn pick<'a>(members: &'a [MemberInfo], name: &str) -> Result<&'a MemberInfo, Failure> {
    let by_id = |member: &&MemberInfo| u64::from_str_radix(name, 16) == Ok(member.id);
    let by_name = |member: &&MemberInfo| !name.is_empty() && member.name == name;
    let found = members.iter().find(by_name).or_else(|| members.iter().find(by_id));
    found.ok_or_else(|| {
        let names: Vec<_> = members.iter().map(shown).collect();
        Failure::bad_args(format!("there is no member {name}")).next(format!("there are {}", names.join(", ")))
    })
}

/// Its name, or its id while it has told none.
fn shown(member: &MemberInfo) -> String {
    if member.name.is_empty() { format!("{:x}", member.id) } else { member.name.clone() }
}

fn told(member: &MemberInfo, what: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{} {what}", shown(member))?)
}

/// Reads a member's name.
pub(crate) fn member_name(text: &str) -> Result<String, String> {
    let is_allowed =
        |character: char| !character.is_whitespace() && !character.is_control() && !"=,".contains(character);
    if !text.is_empty() && text.chars().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} can not be a member's name: it is empty, or has a space, '=' or ','"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str) -> MemberInfo {
        MemberInfo { id, name: name.to_owned(), peer_urls: vec![], client_urls: vec![], is_learner: false }
    }

    #[test]
    fn a_member_is_meant_by_its_name_or_its_id() {
        let members = [member(0xa1, "a"), member(0xb, "b"), member(0xc, "")];
        let picked = |name| pick(&members, name).map(|member| member.id).ok();
        assert_eq!(picked("a"), Some(0xa1));
        assert_eq!(picked("a1"), Some(0xa1));
        assert_eq!(picked("b"), Some(0xb), "a name comes before an id");
        assert_eq!(picked("c"), Some(0xc));
        assert_eq!(picked("d"), None);
        assert_eq!(picked(""), None, "nobody is meant by nothing");
    }
}
