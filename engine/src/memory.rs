//! The in-memory twin: the same answers, and nothing on disk.

mod dump;

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{Batch, Cursor, Durability, EngineError, Pace, Space, batch::Write, cursor::Place, simulated::Disk};

pub(crate) type Keys = BTreeMap<Bytes, Bytes>;

/// A cursor keeps the map of its start; the first write after that copies the map.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    spaces: Arc<RwLock<BTreeMap<Space, Arc<Keys>>>>,
    /// What would survive a loss of power; `None` where that is of no interest.
    disk: Option<Arc<Disk>>,
}

impl Memory {
    pub(crate) fn new(spaces: &[Space]) -> Self {
        Self::of(spaces.iter().map(|&space| (space, Arc::default())).collect())
    }

    pub(crate) fn simulated(spaces: &[Space], pace: Pace) -> Self {
        Self::new(spaces).on_disk(pace)
    }

    /// The same, all of it on the stable storage of a simulation.
    pub(crate) fn on_disk(self, pace: Pace) -> Self {
        let disk = Disk::new(self.all(), pace);
        Self { disk: Some(Arc::new(disk)), ..self }
    }

    pub(crate) fn pace(&self) -> Option<&Pace> {
        self.disk.as_ref().map(|disk| disk.pace())
    }

    pub(crate) fn crash(&self, kept: usize) {
        if let Some(disk) = &self.disk {
            *self.spaces.write() = disk.crash(kept);
        }
    }

    pub(crate) fn unsynced_batches(&self) -> usize {
        self.disk.as_ref().map_or(0, |disk| disk.unsynced_batches())
    }

    pub(crate) fn sync(&self) {
        if let Some(disk) = &self.disk {
            disk.sync();
        }
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let spaces = self.spaces.read();
        Ok(spaces.get(&space).ok_or(EngineError::UnknownSpace(space))?.get(key).cloned())
    }

    pub(crate) fn cursor(&self, space: Space) -> Result<Cursor<'_>, EngineError> {
        let keys = self.spaces.read().get(&space).cloned().ok_or(EngineError::UnknownSpace(space))?;
        Ok(Cursor(Place::Memory(MemoryCursor { keys, here: None })))
    }

    /// The spaces of one moment.
    pub(crate) fn all(&self) -> BTreeMap<Space, Arc<Keys>> {
        self.spaces.read().clone()
    }

    /// A twin that holds this.
    pub(crate) fn of(spaces: BTreeMap<Space, Arc<Keys>>) -> Self {
        Self { spaces: Arc::new(RwLock::new(spaces)), disk: None }
    }

    pub(crate) fn pin(&self) -> PinnedMemory {
        PinnedMemory(self.all())
    }

    pub(crate) fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut spaces = self.spaces.write();
        let unknown = batch.writes.iter().map(Write::space).find(|space| !spaces.contains_key(space));
        if let Some(space) = unknown {
            return Err(EngineError::UnknownSpace(space));
        }
        if let Some(disk) = &self.disk {
            disk.write(batch.clone(), durability);
        }
        for write in batch.writes {
            if let Some(keys) = spaces.get_mut(&write.space()) {
                write.perform(Arc::make_mut(keys));
            }
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.spaces.read().values().map(bytes).sum()
    }

    pub(crate) fn bytes_of(&self, of: &[Space]) -> u64 {
        let spaces = self.spaces.read();
        of.iter().filter_map(|space| spaces.get(space)).map(bytes).sum()
    }

    pub(crate) fn key_count(&self, space: Space) -> Result<u64, EngineError> {
        let spaces = self.spaces.read();
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

    pub(crate) fn perform(self, keys: &mut Keys) {
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
