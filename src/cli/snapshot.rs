//! `snapshot`: all of a member's state as one file.

mod save;

use super::{connection::Flags, failure::Failure, in_session};

/// Everything that a member has, as a file.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Snapshot {
    Save(save::SaveArgs),
}

impl Snapshot {
    /// `before`: the flags that stand before the verb.
    pub(crate) async fn run(self, before: Flags) -> Result<(), Failure> {
        match self {
            Self::Save(arguments) => in_session(arguments, before).await,
        }
    }
}
