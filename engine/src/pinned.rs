//! One moment of an engine.

use bytes::Bytes;

use crate::{Cursor, Engine, EngineError, Space, journal::PinnedJournal, memory::PinnedMemory, rocks::PinnedRocks};

/// What can be read.
pub trait Read {
    /// The value of `key`.
    ///
    /// # Errors
    /// The disk's, and an unknown space.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// A walk over the space; it starts nowhere, so seek first.
    ///
    /// # Errors
    /// Only an unknown space; what the disk has to say comes with [`Cursor::status`].
    fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError>;
}

impl Read for Engine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Self::get(self, space, key)
    }

    fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        Self::cursor(self, space)
    }
}

/// All spaces of an engine as of one moment: no batch is seen in part, nor in one space and not in another. What is
/// overwritten meanwhile takes up room until this is dropped.
#[derive(Debug)]
pub struct Pinned<'engine>(pub(crate) Kind<'engine>);

#[derive(Debug)]
pub(crate) enum Kind<'engine> {
    Rocks(PinnedRocks<'engine>),
    Journal(PinnedJournal),
    Memory(PinnedMemory),
}

impl Read for Pinned<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.get(space, key),
            Kind::Journal(journal) => journal.get(space, key),
            Kind::Memory(memory) => memory.get(space, key),
        }
    }

    fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        match &self.0 {
            Kind::Rocks(rocks) => rocks.cursor(space),
            Kind::Journal(journal) => journal.cursor(space),
            Kind::Memory(memory) => memory.cursor(space),
        }
    }
}
