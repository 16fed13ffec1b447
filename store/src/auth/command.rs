//! What can be asked of users and roles.
//!
//! - No password is here: it was hashed, or checked, before the command was made.

use types::KeyRange;

use super::{PasswordHash, Permission};

/// A change of users and roles, or a login. Each change takes one auth revision. Source: etcd v3 `Auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthCommand {
    /// Permissions count from now on.
    Enable,
    /// They count no more, and everybody may do everything.
    Disable,
    /// Makes a user without roles.
    UserAdd {
        /// Its name.
        name: String,
        /// Its password's hash; none for one that logs in by certificate only.
        password: Option<PasswordHash>,
    },
    /// Takes a user away.
    UserDelete {
        /// Its name.
        name: String,
    },
    /// Gives a user another password; one that has none keeps none.
    UserChangePassword {
        /// Its name.
        name: String,
        /// The hash.
        password: PasswordHash,
    },
    /// Gives a role to a user.
    UserGrantRole {
        /// To whom.
        user: String,
        /// Which.
        role: String,
    },
    /// Takes a role from a user.
    UserRevokeRole {
        /// From whom.
        user: String,
        /// Which.
        role: String,
    },
    /// Makes a role without permissions.
    RoleAdd {
        /// Its name.
        name: String,
    },
    /// Takes a role away, from those who have it too.
    RoleDelete {
        /// Its name.
        name: String,
    },
    /// Permits something to a role; replaces what it was permitted on the same range.
    RoleGrantPermission {
        /// To which.
        role: String,
        /// What.
        permission: Permission,
    },
    /// Takes a role's permission on exactly this range.
    RoleRevokePermission {
        /// From which.
        role: String,
        /// On which keys.
        keys: KeyRange,
    },
    /// Somebody proved their password: they are logged in if that still holds.
    Authenticate {
        /// Who.
        user: String,
        /// The auth revision at which the password was checked; [`OldRevision`](super::AuthRefusal) if it is another now.
        checked_at: u64,
        /// What the token that they will be given is recognized by; none if tokens prove themselves.
        token: Option<TokenDigest>,
    },
}

/// The SHA-256 of a token's secret part: it tells the token from others, and does not tell the token.
pub type TokenDigest = [u8; 32];
