//! `role add|get|list|delete|grant-permission|revoke-permission`.

use super::{
    KeyVerb, Session,
    connection::Flags,
    failure::Failure,
    output::{Format, Response},
    range,
};
use bytes::Bytes;
use client::{Permission, PermissionKind};
use types::KeyRange;

/// What users may do with which keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// Adds a role that may do nothing yet
    #[command(after_help = "Example:\n  meshstore role add readers")]
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Prints what a role may do
    #[command(after_help = "Example:\n  meshstore role get readers")]
    Get {
        /// Its name
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Lists all roles
    #[command(after_help = "Example:\n  meshstore role list")]
    List {
        #[command(flatten)]
        flags: Flags,
    },
    /// Deletes a role, and takes it from its users
    #[command(after_help = "Example:\n  meshstore role delete readers")]
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Lets a role read or write keys
    #[command(after_help = "Examples:
  meshstore role grant-permission readers read --prefix /config/
  meshstore role grant-permission writers readwrite a z")]
    GrantPermission {
        /// The role
        role: String,
        /// What it may do
        #[arg(value_enum, ignore_case = true)]
        kind: Kind,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        flags: Flags,
    },
    /// Takes from a role what was granted for exactly these keys
    #[command(after_help = "Example:\n  meshstore role revoke-permission readers --prefix /config/")]
    RevokePermission {
        /// The role
        role: String,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        flags: Flags,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    Read,
    Write,
    Readwrite,
}

/// The keys of a permission.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    /// The key, or the first of a range
    #[arg(value_parser = range::bytes())]
    key: Bytes,
    /// The end of the range, itself not in it
    #[arg(value_parser = range::bytes())]
    range_end: Option<Bytes>,
    /// All keys that start with KEY
    #[arg(long)]
    prefix: bool,
    /// KEY and all that follow
    #[arg(long)]
    from_key: bool,
}

impl Keys {
    fn range(&self) -> Result<KeyRange, Failure> {
        range::parse(&self.key, self.range_end.as_ref(), self.prefix, self.from_key)
    }
}

impl KeyVerb for Role {
    fn flags(&self) -> &Flags {
        match self {
            Self::Add { flags, .. }
            | Self::Get { flags, .. }
            | Self::List { flags }
            | Self::Delete { flags, .. }
            | Self::GrantPermission { flags, .. }
            | Self::RevokePermission { flags, .. } => flags,
        }
    }

    async fn run(self, session: Session) -> Result<(), Failure> {
        let session = session.without(&[Format::Table])?;
        let client = session.client()?;
        let (by, line) = match self {
            Self::Get { name, .. } => return session.print(&Response::Role(&client.role_get(&name).await?, &name)),
            Self::List { .. } => return session.print(&Response::Roles(&client.role_list().await?)),
            Self::Add { name, .. } => (client.role_add(&name).await?, format!("Role {name} created")),
            Self::Delete { name, .. } => (client.role_delete(&name).await?, format!("Role {name} deleted")),
            Self::GrantPermission { role, kind, keys, .. } => {
                let permission = Permission { kind: kind.into(), range: keys.range()? };
                (client.role_grant_permission(&role, permission).await?, format!("Role {role} updated"))
            }
            Self::RevokePermission { role, keys, .. } => {
                let range = keys.range()?;
                let by = client.role_revoke_permission(&role, &range).await?;
                (by, format!("Permission of {} is revoked from role {role}", named(&range)))
            }
        };
        session.print(&Response::Done(Some(by), line))
    }
}

impl From<Kind> for PermissionKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Read => Self::Read,
            Kind::Write => Self::Write,
            Kind::Readwrite => Self::ReadWrite,
        }
    }
}

/// A range as etcdctl names it.
fn named(range: &KeyRange) -> String {
    let (key, end) = range.to_wire();
    let (key, end) = (String::from_utf8_lossy(&key), String::from_utf8_lossy(&end));
    match range {
        KeyRange::One(_) => format!("key {key}"),
        KeyRange::Between(..) => format!("range [{key}, {end})"),
        KeyRange::AtLeast(_) => format!("range [{key}, <open ended>"),
    }
}
