//! Who may do what.
//!
//! Owns: users, roles and permissions, whether they count, and the auth revision that each change of them takes.
//! In:   [`AuthCommand`]s of the log; an [`Actor`] beside every command, and beside every read.
//! Out:  [`Auth`], one state of all of it, which the writer and readers ask.
//!
//! - It is a function of the log, like keys are: each member decides each command alike, at the same place of the log.
//! - A command is judged by the state that all commands before it left, not by the one its caller saw.
//! - A range is permitted if the union of what the user's roles permit contains all of it.
//! - What is hidden in a request counts as what is plain: nested transactions, both branches, previous versions, and
//!   the keys that already hang on a lease.

mod access;
mod actor;
mod command;
mod edit;
mod keys;
mod refusal;
mod rows;
mod state;
mod user;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use actor::{Actor, Entry};
pub use command::{AuthCommand, TokenDigest};
pub use refusal::AuthRefusal;
pub use state::Auth;
pub use user::{Kind, PasswordHash, Permission, ROOT, Role, User};

pub(crate) use edit::Edit;
pub(crate) use keys::{End, KeySet};
pub(crate) use rows::{SPACE, load};
