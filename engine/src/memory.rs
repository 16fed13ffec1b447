//! The in-memory twin: the same answers, and nothing on disk.

mod dump;

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{Batch, Cursor, EngineError, Space, batch::Write, cursor::Place};

pub(crate) type Keys = BTreeMap<Bytes, Bytes>;

/// A cursor keeps the map of its start; the first write after that copies the map.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<RwLock<BTreeMap<Space, Arc<Keys>>>>);

impl Memory {
    pub(crate) fn new(spaces: &[Space]) -> Self {
        Self(Arc::new(RwLock::new(spaces.iter().map(|&space| (space, Arc::default())).collect())))
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let spaces = self.0.read();
        Ok(spaces.get(&space).ok_or(EngineError::UnknownSpace(space))?.get(key).cloned())
    }

    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        let keys = self.0.read().get(&space).cloned().ok_or(EngineError::UnknownSpace(space))?;
        Ok(Cursor(Place::Memory(MemoryCursor { keys, here: None })))
    }

    /// The spaces of one moment.
    pub(crate) fn all(&self) -> BTreeMap<Space, Arc<Keys>> {
        self.0.read().clone()
    }

    /// A twin that holds this.
    pub(crate) fn of(spaces: BTreeMap<Space, Arc<Keys>>) -> Self {
        Self(Arc::new(RwLock::new(spaces)))
    }

    pub(crate) fn pin(&self) -> PinnedMemory {
        PinnedMemory(self.all())
    }

    pub(crate) fn write(&self, batch: Batch) -> Result<(), EngineError> {
        let mut spaces = self.0.write();
        let unknown = batch.writes.iter().map(Write::space).find(|space| !spaces.contains_key(space));
        if let Some(space) = unknown {
            return Err(EngineError::UnknownSpace(space));
        }
        for write in batch.writes {
            if let Some(keys) = spaces.get_mut(&write.space()) {
                write.perform(Arc::make_mut(keys));
            }
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.read().values().map(bytes).sum()
    }

    pub(crate) fn bytes_of(&self, of: &[Space]) -> u64 {
        let spaces = self.0.read();
        of.iter().filter_map(|space| spaces.get(space)).map(bytes).sum()
    }

    pub(crate) fn key_count(&self, space: Space) -> Result<u64, EngineError> {
        let spaces = self.0.read();
        Ok(spaces.get(&space).ok_or(EngineError::UnknownSpace(space))?.len() as u64)
    }
}

fn bytes(keys: &Arc<Keys>) -> u64 {
    keys.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

impl Write {
    pub(crate) fn space(&self) -> Space {
        match self {
            Self::Put(space, ..) | Self::Delete(space, _) | Self::DeleteRange(space, ..) => *space,
        }
    }

    fn perform(self, keys: &mut Keys) {
        match self {
            Self::Put(_, key, value) => {
                keys.insert(key, value);
            }
            Self::Delete(_, key) => {
                keys.remove(&key);
            }
            Self::DeleteRange(_, from, to) => keys.retain(|key, _| *key < from || *key >= to),
        }
    }
}

/// The maps of one moment.
#[derive(Debug)]
pub(crate) struct PinnedMemory(BTreeMap<Space, Arc<Keys>>);

impl PinnedMemory {
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.keys(space)?.get(key).cloned())
    }

    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        Ok(Cursor(Place::Memory(MemoryCursor { keys: Arc::clone(self.keys(space)?), here: None })))
    }

    fn keys(&self, space: Space) -> Result<&Arc<Keys>, EngineError> {
        self.0.get(&space).ok_or(EngineError::UnknownSpace(space))
    }
}

pub(crate) struct MemoryCursor {
    keys: Arc<Keys>,
    here: Option<(Bytes, Bytes)>,
}

impl MemoryCursor {
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.here = owned(self.keys.range::<[u8], _>((Included(key), Unbounded)).next());
    }

    pub(crate) fn seek_back(&mut self, key: &[u8]) {
        self.here = owned(self.keys.range::<[u8], _>((Unbounded, Included(key))).next_back());
    }

    pub(crate) fn next(&mut self) {
        if let Some((key, _)) = &self.here {
            self.here = owned(self.keys.range::<[u8], _>((Excluded(&key[..]), Unbounded)).next());
        }
    }

    pub(crate) fn previous(&mut self) {
        if let Some((key, _)) = &self.here {
            self.here = owned(self.keys.range::<[u8], _>((Unbounded, Excluded(&key[..]))).next_back());
        }
    }

    pub(crate) fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.here.as_ref().map(|(key, value)| (&key[..], &value[..]))
    }
}

fn owned(entry: Option<(&Bytes, &Bytes)>) -> Option<(Bytes, Bytes)> {
    entry.map(|(key, value)| (key.clone(), value.clone()))
}
