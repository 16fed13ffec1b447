//! The ledger's rows as apply sees them: what is on disk, and what the batch at hand has changed.
//!
//! - A read sees every earlier command, whether its batch has been written or not; so the answers do not depend on
//!   where batches are cut.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
};

use bytes::Bytes;
use engine::{Batch, Engine};

use super::{LedgerError, SPACE};

pub(super) struct Rows {
    engine: Engine,
    /// Changes of the batch at hand; `None` is a deletion.
    changed: BTreeMap<Bytes, Option<Bytes>>,
}

impl Rows {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, changed: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, LedgerError> {
        match self.changed.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => Ok(self.engine.get(SPACE, key)?),
        }
    }

    pub(super) fn put(&mut self, batch: &mut Batch, key: Vec<u8>, value: impl Into<Bytes>) {
        let (key, value) = (Bytes::from(key), value.into());
        batch.put(SPACE, key.clone(), value.clone());
        self.changed.insert(key, Some(value));
    }

    pub(super) fn delete(&mut self, batch: &mut Batch, key: Vec<u8>) {
        let key = Bytes::from(key);
        batch.delete(SPACE, key.clone());
        self.changed.insert(key, None);
    }

    /// The first keys from `from` up to, and without, `to`; at most `limit`.
    pub(super) fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Bytes>, LedgerError> {
        let range = (Included(from), Excluded(to));
        let added = self.changed.range::<[u8], _>(range).filter(|(_, value)| value.is_some());
        let mut keys: Vec<Bytes> = added.map(|(key, _)| key.clone()).take(limit).collect();
        let mut cursor = self.engine.cursor(SPACE)?;
        let mut stored = 0;
        cursor.seek(from);
        while stored < limit
            && let Some((key, _)) = cursor.entry().filter(|(key, _)| *key < to)
        {
            if !self.changed.contains_key(key) {
                keys.push(Bytes::copy_from_slice(key));
                stored += 1;
            }
            cursor.next();
        }
        cursor.status()?;
        keys.sort_unstable();
        keys.truncate(limit);
        Ok(keys)
    }

    pub(super) fn publish(&mut self) {
        self.changed.clear();
    }
}
