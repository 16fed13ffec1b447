//! On whose behalf a command or a read runs.

use std::sync::Arc;

use crate::Command;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Actor {
    /// Somebody who did not say who they are; also the writers of logs from before there were users.
    #[default]
    Nobody,
    /// The member itself: its control plane, which knows its own callers, and what it does unasked.
    Trusted,
    /// A user, recognized by a token or a certificate.
    User {
        /// Their name; there need be no such user any more.
        name: Arc<str>,
        /// The auth revision at which they were recognized.
        revision: u64,
    },
}

/// One entry of the log: a command, and who gave it. Encoded by [`Entry::encode`], read back by [`Entry::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub actor: Actor,
    /// What.
    pub command: Command,
}

/// A command that nobody in particular gave.
impl From<Command> for Entry {
    fn from(command: Command) -> Self {
        Self { actor: Actor::Nobody, command }
    }
}
