//! Users, roles and permissions, as plain data.

use std::fmt;

use bytes::Bytes;
use types::KeyRange;

/// The name of the user and of the role that may do everything.
pub const ROOT: &str = "root";

/// Somebody who may log in. Source: etcd `authpb.User`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Not empty, unique.
    pub name: String,
    /// What a password is checked against; empty if there is none.
    pub password_hash: PasswordHash,
    /// Names of roles, sorted, each once; `root` needs no role of that name.
    pub roles: Vec<String>,
    /// Logs in by client certificate only.
    pub no_password: bool,
}

impl User {
    /// Whether it may do everything.
    pub fn is_root(&self) -> bool {
        self.has_role(ROOT)
    }

    /// Whether a role was granted to it.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.binary_search_by(|one| one.as_str().cmp(role)).is_ok()
    }
}

/// A bcrypt hash in its own text form, `$2a$10$…`. Not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PasswordHash(Bytes);

impl PasswordHash {
    /// Takes a hash as bcrypt writes it; empty is none.
    pub fn new(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The text form; empty is none.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "PasswordHash(none)" } else { "PasswordHash(secret)" })
    }
}

/// A named list of permissions. Source: etcd `authpb.Role`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Not empty, unique.
    pub name: String,
    /// In key order; at most one for each range.
    pub permissions: Vec<Permission>,
}

impl Role {
    /// What it permits, as it is shown: `root` permits everything, whatever was granted to it.
    pub fn shown(&self) -> Vec<Permission> {
        if self.name == ROOT {
            return vec![Permission { kind: Kind::ReadWrite, keys: KeyRange::all() }];
        }
        self.permissions.clone()
    }
}

/// What may be done to the keys of a range. Source: etcd `authpb.Permission`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What.
    pub kind: Kind,
    /// Which keys; never an empty range, and never one that starts at the empty key.
    pub keys: KeyRange,
}

/// What a [`Permission`] permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To read.
    Read,
    /// To write and delete.
    Write,
    /// Both.
    ReadWrite,
}

impl Kind {
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}
