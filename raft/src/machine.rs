//! What this room asks of the state machine that stands on it.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use types::Release;

use crate::MachineError;

/// A deterministic state machine: the same entries in the same order give the same state and answers on every member.
pub trait Machine: Send + 'static {
    /// What one command came to, a refusal included. Handed to whoever proposed it.
    type Answer: Send + 'static;

    /// What the last [`Machine::apply`] or [`Machine::install`] left with the state; `None` if nothing was ever applied.
    ///
    /// # Errors
    /// The disk's. The member does not start, or stops.
    fn record(&self) -> Result<Option<Bytes>, MachineError>;

    /// The cluster's version as of what is applied: every member is of this release or a later one, and commands and
    /// formats of it may be in the log from here on. `None` until the log has agreed on one, which is also the answer of a
    /// machine without versions. It never falls.
    fn version(&self) -> Option<Release> {
        None
    }

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

    /// All that was applied, record included, as an image that lies on stable storage and that later applies do not
    /// change. It is dropped when nobody is sent it any more, and what it takes up is to be free then.
    ///
    /// Called on the apply thread alone, which waits for it: what is large must not be copied here.
    ///
    /// # Errors
    /// The disk's. The member stops. A machine without images, which is the default, fits a member that has no others.
    fn image(&mut self) -> Result<Arc<dyn Image>, MachineError> {
        Err(MachineError::new("this machine makes no images"))
    }

    /// Where another member's image is put together, beside the state. Of an earlier collection of the same image that
    /// was not finished, what had come is still there; those of other images are gone. Called on the apply thread alone.
    ///
    /// `id` is the image's [`Image::id`] as another member sent it: it is not to be trusted as part of a path.
    ///
    /// # Errors
    /// The disk's. The image is not taken; the member goes on.
    fn collect(&mut self, id: &str) -> Result<Box<dyn Collector>, MachineError> {
        Err(MachineError::new(format!("this machine takes no images, and not {id:?}")))
    }

    /// Puts a collected and finished image in the place of all state, atomically: after a crash it is the old state or
    /// the new one. [`Machine::record`] then tells what the image holds. Called on the apply thread alone.
    ///
    /// # Errors
    /// Whatever it is, the member stops.
    fn install(&mut self, collected: Box<dyn Collector>) -> Result<(), MachineError> {
        drop(collected);
        Err(MachineError::new("this machine takes no images"))
    }
}

/// One part of an image, such as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Unique in the image. From another member it is not to be trusted as part of a path.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A machine's state of one moment, as parts that may be read in any order, by any number of readers, on any thread.
pub trait Image: Send + Sync + 'static {
    /// Names this image among all that any member ever made.
    fn id(&self) -> &str;

    /// Its parts, in the order in which they are sent.
    fn parts(&self) -> &[Part];

    /// At most `bytes` of the part at position `part` of [`Image::parts`], from `offset` on; fewer only at its end.
    ///
    /// # Errors
    /// The disk's, or that the part is not as it was written.
    fn read(&self, part: usize, offset: u64, bytes: usize) -> Result<Bytes, MachineError>;
}

/// What came of another member's image so far. [`Machine::install`] gets it back, and may take it for its own type again.
/// Dropped unfinished, it keeps what came for a later attempt.
pub trait Collector: Any + Send {
    /// How many bytes of the start of `part` are there.
    fn held(&self, part: &Part) -> u64;

    /// Adds `data` at `offset` of `part`, which is where what is held ends.
    ///
    /// # Errors
    /// The disk's, or that the part can not be one of an image of this machine.
    fn write(&mut self, part: &Part, offset: u64, data: Bytes) -> Result<(), MachineError>;

    /// All of `parts` came: brings them to stable storage and checks that they are a whole image.
    ///
    /// # Errors
    /// The disk's, or what is wrong with the image: nothing of it is kept then.
    fn finish(&mut self, parts: &[Part]) -> Result<(), MachineError>;
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
