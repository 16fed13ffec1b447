//! `alarm list|disarm`, `defrag`, `move-leader`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    endpoint::{self, Endpoints},
    failure::{Exit, Failure},
    member::member_id,
    output::{Format, Response},
};
use client::{AlarmsResponse, Header};
use std::io::{self, Write};

/// What makes a cluster refuse writes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Alarm {
    /// Lists all alarms
    #[command(after_help = "Example:\n  meshstore alarm list")]
    List {
        #[command(flatten)]
        flags: Flags,
    },
    /// Ends all alarms; one whose cause is still there comes back
    #[command(after_help = "Example: after space was made
  meshstore compaction 1000
  meshstore alarm disarm")]
    Disarm {
        #[command(flatten)]
        flags: Flags,
    },
}

impl KeyVerb for Alarm {
    fn flags(&self) -> &Flags {
        let (Self::List { flags } | Self::Disarm { flags }) = self;
        flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let client = session.client()?;
        let raised = client.alarms().await?;
        if let Self::List { .. } = self {
            return session.print(&Response::Alarms(&raised));
        }
        let mut ended = AlarmsResponse { header: Header::default(), revision: None, alarms: Vec::new() };
        for alarm in raised.alarms {
            ended.alarms.extend(client.alarm_disarm(alarm).await?.alarms);
        }
        session.print(&Response::Alarms(&ended))
    }
}

/// Has members give space back. A meshstore does that by itself, and answers at once; an etcd serves nothing meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore defrag --cluster --command-timeout 1m")]
pub(crate) struct DefragArgs {
    #[command(flatten)]
    endpoints: Endpoints,
    #[command(flatten)]
    flags: Flags,
}

impl KeyVerb for DefragArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let mut failed = false;
        for endpoint in self.endpoints.of(&session).await? {
            match defragment(&session, &endpoint).await {
                Ok(()) => writeln!(io::stdout(), "Finished defragmenting etcd member[{endpoint}]")?,
                Err(failure) => {
                    failed = true;
                    writeln!(io::stderr(), "Failed to defragment etcd member[{endpoint}] ({})", failure.text)?;
                }
            }
        }
        if failed { Err(Failure::told(Exit::Error)) } else { Ok(()) }
    }
}

/// One endpoint, alone: the next must go on serving meanwhile.
pub(crate) async fn defragment(session: &Session, endpoint: &str) -> Result<(), Failure> {
    Ok(session.connection.client_of(vec![endpoint.to_owned()])?.defragment().await?)
}

/// Has the leader hand over to another member
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  meshstore move-leader 8e9e05c52164694d --endpoints 10.0.0.1:2379,10.0.0.2:2379")]
pub(crate) struct MoveLeaderArgs {
    /// The member that is to lead, hexadecimal
    #[arg(value_parser = member_id)]
    target: u64,
    #[command(flatten)]
    flags: Flags,
}

impl KeyVerb for MoveLeaderArgs {
    fn flags(&self) -> &Flags {
        &self.flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table, Format::Fields])?;
        let (leader, client) = endpoint::leader(&session).await?;
        client.move_leader(self.target).await?;
        let line = format!("Leadership transferred from {leader:x} to {:x}", self.target);
        session.print(&Response::Done(None, line))
    }
}
