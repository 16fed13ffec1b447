//! One moment of an engine.

use bytes::Bytes;

use crate::{Cursor, Engine, EngineError, Space, journal::PinnedJournal, memory::PinnedMemory, rocks::PinnedRocks};

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

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

    /// Shows all rows of a space, in order, for as long as `see` takes them.
    ///
    /// # Errors
    /// Those of `see`, the disk's, and an unknown space.
    fn walk<E: From<EngineError>>(
        &self,
        space: Space,
        mut see: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = self.cursor(space)?;
        cursor.seek(&[]);
        while let Some((key, value)) = cursor.entry() {
            see(key, value)?;
            cursor.next();
        }
        Ok(cursor.status()?)
    }

    /// All rows of a space, in order. They must fit in memory.
    ///
    /// # Errors
    /// The disk's, and an unknown space.
    fn rows(&self, space: Space) -> Result<Vec<Row>, EngineError> {
        let mut rows = Vec::new();
        self.walk(space, |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok::<_, EngineError>(())
        })?;
        Ok(rows)
    }
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
