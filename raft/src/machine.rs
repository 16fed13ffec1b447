//! What this room asks of the state machine that stands on it.

use bytes::Bytes;

use crate::MachineError;

/// A deterministic state machine: the same entries in the same order give the same state and answers on every member.
pub trait Machine: Send + 'static {
    /// What one command came to, a refusal included. Handed to whoever proposed it.
    type Answer: Send + 'static;

    /// What the last [`Machine::apply`] stored with its effects; `None` if nothing was ever applied.
    ///
    /// # Errors
    /// The disk's. The member does not start.
    fn record(&self) -> Result<Option<Bytes>, MachineError>;

    /// Applies committed entries in order, and stores `record` (opaque to the machine) in the same atomic write.
    /// Gives the answers of each entry, one for each of its commands.
    ///
    /// Called on the member's apply thread alone. The write need not be synced: until [`Machine::sync`] the log can
    /// bring it back.
    ///
    /// # Errors
    /// Only what no state can explain (the disk failed, a command does not decode): the member stops.
    fn apply(&mut self, entries: Vec<Committed>, record: Bytes) -> Result<Vec<Vec<Self::Answer>>, MachineError>;

    /// Makes durable all that was applied, so that the log before it may be purged. Called on the apply thread alone.
    ///
    /// # Errors
    /// The disk's. The member stops.
    fn sync(&mut self) -> Result<(), MachineError>;
}

/// One entry of the log that a quorum has on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log, one after that of the entry before it.
    pub index: u64,
    /// The term of the leader who proposed it.
    pub term: u64,
    /// What was proposed, in the order in which it is to be applied. Empty where the log holds an election or a change of
    /// membership.
    pub commands: Vec<Bytes>,
}
