//! `lease grant|revoke|timetolive|list|keep-alive`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::{Exit, Failure},
    lease_id,
    output::{Format, Response},
};
use client::{Code, LeaseLost};
use std::{io::Write, time::Duration};
use types::LeaseId;

/// Keys that live as long as somebody says so.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Lease {
    /// Grants a lease
    #[command(after_help = "Example:\n  meshstore lease grant 60")]
    Grant {
        /// Seconds that it lives without renewal
        ttl: u64,
        #[command(flatten)]
        flags: Flags,
    },
    /// Ends a lease and deletes its keys
    #[command(after_help = "Example:\n  meshstore lease revoke 32695410dcc0ca06")]
    Revoke {
        /// The lease, hexadecimal
        #[arg(value_parser = lease_id)]
        id: LeaseId,
        #[command(flatten)]
        flags: Flags,
    },
    /// Tells how long a lease still lives
    #[command(name = "timetolive", after_help = "Example:\n  meshstore lease timetolive --keys 32695410dcc0ca06")]
    TimeToLive {
        /// The lease, hexadecimal
        #[arg(value_parser = lease_id)]
        id: LeaseId,
        /// Print its keys, too
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Lists all leases
    #[command(after_help = "Example:\n  meshstore lease list")]
    List {
        #[command(flatten)]
        flags: Flags,
    },
    /// Renews a lease until Ctrl-C, or once
    #[command(after_help = "Example:\n  meshstore lease keep-alive --once 32695410dcc0ca06")]
    KeepAlive {
        /// The lease, hexadecimal
        #[arg(value_parser = lease_id)]
        id: LeaseId,
        /// Renew it once
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        flags: Flags,
    },
}

impl KeyVerb for Lease {
    fn flags(&self) -> &Flags {
        match self {
            Self::Grant { flags, .. }
            | Self::Revoke { flags, .. }
            | Self::TimeToLive { flags, .. }
            | Self::List { flags }
            | Self::KeepAlive { flags, .. } => flags,
        }
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let client = session.client()?;
        match self {
            Self::Grant { ttl, .. } => {
                session.print(&Response::Grant(&client.lease_grant(Duration::from_secs(ttl), None).await?))
            }
            Self::Revoke { id, .. } => {
                let revoked = client.lease_revoke(id).await;
                let failed = |error| Failure::new(Exit::Error, format!("failed to revoke lease ({error})"));
                session.print(&Response::Done(Some(revoked.map_err(failed)?), format!("lease {id} revoked")))
            }
            Self::TimeToLive { id, keys, .. } => {
                session.print(&Response::TimeToLive(&client.lease_time_to_live(id, keys).await?, keys))
            }
            Self::List { .. } => session.print(&Response::Leases(&client.leases().await?)),
            Self::KeepAlive { id, once: true, .. } => {
                let kept = client.lease_keep_alive_once(id).await;
                let kept = kept.map_err(|error| Failure::new(Exit::BadConnection, error.to_string()))?;
                session.print(&Response::KeepAlive(&kept))
            }
            Self::KeepAlive { id, .. } => keep_alive(&session, id).await,
        }
    }
}

async fn keep_alive(session: &Session, id: LeaseId) -> Result<(), Failure> {
    let failed = |error: client::ClientError| Failure::new(Exit::BadConnection, error.to_string());
    let gone = || Ok(writeln!(std::io::stdout(), "lease {id} expired or revoked.")?);
    let mut keeper = match session.client()?.lease_keep_alive(id).await {
        Err(error) if error.code() == Some(Code::NotFound) => return gone(),
        keeper => keeper.map_err(failed)?,
    };
    loop {
        match keeper.renewed().await {
            Ok(kept) => session.print(&Response::KeepAlive(&kept))?,
            Err(LeaseLost::Gone) => return gone(),
            Err(lost) => return Err(Failure::new(Exit::BadConnection, lost.to_string())),
        }
    }
}
