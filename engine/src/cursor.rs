//! Ordered walks.

use crate::{EngineError, error::fault, journal::JournalCursor, memory::MemoryCursor, rocks::RocksCursor};

/// A place in a space, which does not see what is written after it was made.
#[derive(Debug)]
pub struct Cursor<'engine>(pub(crate) Place<'engine>);

pub(crate) enum Place<'engine> {
    Rocks(RocksCursor<'engine>),
    Journal(JournalCursor),
    Memory(MemoryCursor),
}

impl std::fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rocks(_) => "Rocks",
            Self::Journal(_) => "Journal",
            Self::Memory(_) => "Memory",
        })
    }
}

impl Cursor<'_> {
    /// Goes to the first key that is at least `key`.
    pub fn seek(&mut self, key: &[u8]) {
        match &mut self.0 {
            Place::Rocks(cursor) => cursor.seek(key),
            Place::Journal(cursor) => cursor.seek(key),
            Place::Memory(cursor) => cursor.seek(key),
        }
    }

    /// Goes to the last key that is at most `key`.
    pub fn seek_back(&mut self, key: &[u8]) {
        match &mut self.0 {
            Place::Rocks(cursor) => cursor.seek_for_prev(key),
            Place::Journal(cursor) => cursor.seek_back(key),
            Place::Memory(cursor) => cursor.seek_back(key),
        }
    }

    /// Goes to the next key; nowhere stays nowhere.
    pub fn next(&mut self) {
        match &mut self.0 {
            Place::Rocks(cursor) if cursor.valid() => cursor.next(),
            Place::Rocks(_) => {}
            Place::Journal(cursor) => cursor.next(),
            Place::Memory(cursor) => cursor.next(),
        }
    }

    /// Goes to the key before; nowhere stays nowhere.
    pub fn previous(&mut self) {
        match &mut self.0 {
            Place::Rocks(cursor) if cursor.valid() => cursor.prev(),
            Place::Rocks(_) => {}
            Place::Journal(cursor) => cursor.previous(),
            Place::Memory(cursor) => cursor.previous(),
        }
    }

    /// The key and value here; `None` past either end, or after a fault: see [`Cursor::status`].
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        match &self.0 {
            Place::Rocks(cursor) => cursor.item(),
            Place::Journal(cursor) => cursor.entry(),
            Place::Memory(cursor) => cursor.entry(),
        }
    }

    /// Whether the walk so far met a fault of the disk. Ask when [`Cursor::entry`] is `None`.
    pub fn status(&self) -> Result<(), EngineError> {
        match &self.0 {
            Place::Rocks(cursor) => cursor.status().map_err(fault),
            Place::Journal(cursor) => cursor.status(),
            Place::Memory(_) => Ok(()),
        }
    }
}
