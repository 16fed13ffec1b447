//! Moving a whole store: out of an engine, and into an empty one.
//!
//! Owns: the order in which a store's keys travel, that of their history.
//! In:   one moment of an engine; or steps and leases that came from another store.
//! Out:  steps and leases; or an engine that [`Store::open`](crate::Store::open) takes.
//!
//! - A store that was moved answers every read, at every revision that is left, as the one that it came from.
//! - What is in memory is one step, or one batch of them, whatever the size of the store.

mod export;
mod load;

use types::Revision;

pub use export::{Export, Steps};
pub use load::{Load, LoadError, Loaded};

use crate::Change;

/// One write of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its place among those of its revision, ascending; not every number need be there.
    pub place: u32,
    /// What was written.
    pub change: Change,
}

impl Step {
    /// The revision that wrote it.
    pub fn revision(&self) -> Revision {
        match &self.change {
            Change::Put(kv) => kv.mod_revision,
            Change::Delete { revision, .. } => *revision,
        }
    }
}

#[cfg(test)]
mod tests;
