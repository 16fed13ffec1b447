//! Ordered bytes in atomic batches.
//!
//! Owns: the files of one data directory, or their in-memory twin. Alone in the house it names `rocksdb`.
//! In:   batches, each written wholly or not at all; images of other engines.
//! Out:  points and ordered walks, each walk a consistent view as of its start; images.
//!
//! - A batch written [`Durability::Synced`] survives power loss once `write` returns; a [`Durability::Buffered`] one survives
//!   the death of the process at once, and power loss after the next synced write or [`Engine::sync`].
//! - Batches survive in the order in which they were written: a later one is never there without an earlier one.
//! - What is damaged on the disk is an error that names the file, when it is opened or when it is read; only the torn end
//!   of a write that was never acknowledged is cut.
//! - An [`Image`] is one moment, whatever is written later. What comes in as one takes the engine's place in its [`Home`]
//!   wholly or not at all, over any crash; who still reads the engine that was there before goes on reading it.
//! - There are three kinds: RocksDB, a journal for logs, and a twin in memory. All answer alike; a property test holds them
//!   together. In a simulation the twin also forgets what was not synced, and takes its time.

mod batch;
mod cursor;
mod error;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing {
    //! What the fuzz targets in `fuzz/` call, and the tests too.
    pub use crate::journal::fuzzing::journal;
}
mod home;
mod image;
mod incoming;
mod journal;
mod memory;
mod pinned;
mod rocks;
mod simulated;
mod workers;

use std::path::Path;

use bytes::Bytes;

pub use batch::Batch;
pub use cursor::Cursor;
pub use error::EngineError;
pub use home::Home;
pub use image::{Image, Part};
pub use incoming::Incoming;
pub use pinned::{Pinned, Read, Row};
pub use simulated::Pace;
pub use workers::Workers;

use crate::{journal::Journal, memory::Memory, rocks::Rocks};

/// A named, ordered key space of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(&'static str);

impl Space {
    /// Names a space; two spaces of one name are the same.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name, as on disk.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// What a written batch has survived when `write` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of the process.
    Buffered,
    /// Power loss.
    Synced,
}

/// How one engine uses memory and disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Blocks kept in memory for reads, bytes. Default 64 MiB.
    pub cache_bytes: usize,
    /// Writes gathered in memory before they become a file, bytes for each space. Default 32 MiB.
    pub write_buffer_bytes: usize,
    /// Whether keys that are looked up exactly are worth a filter for each file. Default true.
    pub point_filter: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, write_buffer_bytes: 32 << 20, point_filter: true }
    }
}

/// An ordered store of bytes. Clones share it; the last one to go closes it, which may take a moment: it ends what the
/// engine does behind the scenes.
#[derive(Clone, Debug)]
pub struct Engine(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Rocks(Rocks),
    Journal(Journal),
    Memory(Memory),
}

impl Engine {
    /// Opens or creates the engine in the folder `dir`, with these spaces. One process at a time.
    ///
    /// # Errors
    /// [`EngineError::Damaged`]; [`EngineError::Storage`] if the folder cannot be used, or is in use.
    pub fn open(dir: &Path, spaces: &[Space], options: &Options) -> Result<Self, EngineError> {
        Rocks::open(dir, spaces, options).map(|rocks| Self(Kind::Rocks(rocks)))
    }

    /// Opens or creates an engine of the kind for logs in the folder `dir`: rows that are written once, seldom read, and soon
    /// deleted from the oldest on. Every write is on stable storage when it returns. One process at a time.
    ///
    /// # Errors
    /// [`EngineError::Damaged`]; [`EngineError::Layout`] if the folder has another kind of engine;
    /// [`EngineError::Storage`] if it cannot be used, [`EngineError::InUse`] if it is in use.
    pub fn journal(dir: &Path, spaces: &[Space]) -> Result<Self, EngineError> {
        Journal::open(dir, spaces).map(|journal| Self(Kind::Journal(journal)))
    }

    /// An engine that keeps nothing, for simulation and tests.
    pub fn in_memory(spaces: &[Space]) -> Self {
        Self(Kind::Memory(Memory::new(spaces)))
    }

    /// An engine in memory that a simulation can crash ([`Engine::crash`]) and slow (`pace`).
    pub fn simulated(spaces: &[Space], pace: Pace) -> Self {
        Self(Kind::Memory(Memory::simulated(spaces, pace)))
    }

    /// Leaves what a loss of power would: all that was synced, and of the batches written since then the first `kept`.
    /// Nothing happens to an engine that is not simulated.
    pub fn crash(&self, kept: usize) {
        if let Kind::Memory(memory) = &self.0 {
            memory.crash(kept);
        }
    }

    /// How many batches a loss of power could take; 0 of an engine that is not simulated.
    pub fn unsynced_batches(&self) -> usize {
        match &self.0 {
            Kind::Rocks(_) | Kind::Journal(_) => 0,
            Kind::Memory(memory) => memory.unsynced_batches(),
        }
    }

    /// Where work is done that waits for this engine.
    pub fn workers(&self) -> Workers {
        match &self.0 {
            Kind::Memory(memory) if memory.pace().is_some() => Workers::Tasks,
            Kind::Memory(_) | Kind::Journal(_) | Kind::Rocks(_) => Workers::Threads,
        }
    }

    /// Returns when the next write may begin: at once, since a disk makes its writers wait itself; a simulated one can not,
    /// and does it here.
    pub async fn ready(&self) {
        if let Kind::Memory(memory) = &self.0
            && let Some(pace) = memory.pace()
        {
            pace.wait().await;
        }
    }

    /// The value of `key`.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.get(space, key),
            Kind::Journal(journal) => journal.get(space, key),
            Kind::Memory(memory) => memory.get(space, key),
        }
    }

    /// A walk over the space as it is now; it starts nowhere, so seek first.
    ///
    /// # Errors
    /// Only an unknown space; what the disk has to say comes with [`Cursor::status`].
    pub fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.cursor(space),
            Kind::Journal(journal) => journal.cursor(space),
            Kind::Memory(memory) => memory.cursor(space),
        }
    }

    /// All spaces as they are now.
    pub fn pin(&self) -> Pinned<'_> {
        Pinned(match &self.0 {
            Kind::Rocks(rocks) => pinned::Kind::Rocks(rocks.pin()),
            Kind::Journal(journal) => pinned::Kind::Journal(journal.pin()),
            Kind::Memory(memory) => pinned::Kind::Memory(memory.pin()),
        })
    }

    /// Writes the batch, wholly or not at all.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.write(&batch, durability),
            Kind::Journal(journal) => journal.write(batch),
            Kind::Memory(memory) => memory.write(batch, durability),
        }
    }

    /// Returns when all that was written survives power loss.
    pub fn sync(&self) -> Result<(), EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.sync(),
            Kind::Journal(_) => Ok(()),
            Kind::Memory(memory) => {
                memory.sync();
                Ok(())
            }
        }
    }

    /// Bytes taken on disk, or in memory by the twin.
    pub fn disk_bytes(&self) -> Result<u64, EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.disk_bytes(),
            Kind::Journal(journal) => Ok(journal.disk_bytes()),
            Kind::Memory(memory) => Ok(memory.bytes()),
        }
    }

    /// About how many bytes these spaces hold that are not overwritten or deleted, and what waits in memory to become a
    /// file. Cheap, but not for every request: it takes the engine's own lock.
    pub fn live_bytes(&self, spaces: &[Space]) -> Result<u64, EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.live_bytes(spaces),
            Kind::Journal(journal) => Ok(journal.bytes_of(spaces)),
            Kind::Memory(memory) => Ok(memory.bytes_of(spaces)),
        }
    }

    /// Rewrites these spaces without what is overwritten or deleted, so that its bytes are free and no more counted. Reads
    /// and writes go on meanwhile; blocks for as long as the rewriting takes.
    pub fn reclaim(&self, spaces: &[Space]) -> Result<(), EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.reclaim(spaces),
            Kind::Journal(_) | Kind::Memory(_) => Ok(()),
        }
    }

    /// About how many keys a space holds.
    pub fn key_count(&self, space: Space) -> Result<u64, EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.key_count(space),
            Kind::Journal(journal) => journal.key_count(space),
            Kind::Memory(memory) => memory.key_count(space),
        }
    }

    /// Ends what [`Engine::reclaim`] and the engine itself do behind the scenes, so that closing need not wait for it.
    /// For the end: nothing may be written any more.
    pub fn rest(&self) {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.rest(),
            Kind::Journal(_) | Kind::Memory(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
