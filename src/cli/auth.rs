//! `auth enable|disable|status`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::Failure,
    output::{Format, Response},
};
use client::{Client, ClientError};
use std::io::{self, Write};

/// etcd's words for a root user that may not do everything yet.
const NO_ROOT_ROLE: &str = "etcdserver: root user does not have root role";

/// Whether the cluster demands users.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Auth {
    /// Demands users from now on; the user root must exist
    #[command(after_help = "Example: from nothing to a cluster that demands users
  meshstore user add root
  meshstore auth enable
  meshstore --user root auth status")]
    Enable {
        #[command(flatten)]
        flags: Flags,
    },
    /// Demands no users any more
    #[command(after_help = "Example:\n  meshstore --user root auth disable")]
    Disable {
        #[command(flatten)]
        flags: Flags,
    },
    /// Tells whether users are demanded
    #[command(after_help = "Example:\n  meshstore auth status")]
    Status {
        #[command(flatten)]
        flags: Flags,
    },
}

impl KeyVerb for Auth {
    fn flags(&self) -> &Flags {
        let (Self::Enable { flags } | Self::Disable { flags } | Self::Status { flags }) = self;
        flags
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let client = session.client()?;
        match self {
            Self::Enable { .. } => {
                enable(&client).await?;
                Ok(writeln!(io::stdout(), "Authentication Enabled")?)
            }
            Self::Disable { .. } => {
                client.auth_disable().await?;
                Ok(writeln!(io::stdout(), "Authentication Disabled")?)
            }
            Self::Status { .. } => session.print(&Response::AuthStatus(&client.auth_status().await?)),
        }
    }
}

/// As etcdctl does, gives the user root the role that it must have.
async fn enable(client: &Client) -> Result<(), ClientError> {
    match client.auth_enable().await {
        Err(ClientError::Refused { text, .. }) if text == NO_ROOT_ROLE => {
            match client.role_add("root").await {
                Err(ClientError::Refused { text, .. }) if text == "etcdserver: role name already exists" => {}
                outcome => drop(outcome?),
            }
            client.user_grant_role("root", "root").await?;
            client.auth_enable().await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}
