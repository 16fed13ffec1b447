//! Ending a lease with many keys.
//!
//! Owns: the one step in which it ends, and the pieces in which its keys are deleted afterwards.
//!
//! - A piece writes the rows that the step would have written, at the step's revision: in the end nothing tells them apart.
//! - A lease of the same name is granted only once no piece is left.

use std::ops::ControlFlow;

use bytes::Bytes;
use engine::Batch;
use types::{KeyRange, LeaseId, Revision};

use super::{Store, overlay::Version, write::Current};
use crate::{
    SettleAnswer, StoreError,
    ending::Ending,
    layout::{self, Point, Row, Written},
    watch::Told,
};

/// Keys deleted by one command. The log's outcome depends on it: it is no limit, and never changes.
#[cfg(not(test))]
pub(crate) const KEYS_AT_ONCE: usize = 512;
/// Small enough for tests to meet it with their few keys.
#[cfg(test)]
pub(crate) const KEYS_AT_ONCE: usize = 2;

impl Store {
    /// Ends a lease at a revision of its own, its keys to be deleted by [`Store::settle`].
    pub(super) fn end_in_pieces(&mut self, batch: &mut Batch, lease: LeaseId) {
        let revision = self.revision.next();
        let ending = Ending { revision, lease, place: 0, from: Bytes::new() };
        batch.put(layout::ENDINGS, layout::ending_key(&ending), layout::ending_value(&ending));
        self.endings.add(ending);
        self.told = false;
        self.revision = revision;
        self.events.push(Told::Ended { revision, lease });
    }

    /// Deletes the next keys of the lease that ended first, if there is one.
    pub(super) fn settle(&mut self, batch: &mut Batch) -> Result<SettleAnswer, StoreError> {
        if let Some(ending) = self.endings.first().cloned() {
            self.settle_piece(batch, ending)?;
        }
        Ok(SettleAnswer { revision: self.revision, is_settled: self.endings.is_empty() })
    }

    /// Deletes all keys that are left of a lease that has ended, if it has.
    pub(super) fn settle_lease(&mut self, batch: &mut Batch, lease: LeaseId) -> Result<(), StoreError> {
        while let Some(ending) = self.endings.of(lease).cloned() {
            self.settle_piece(batch, ending)?;
        }
        Ok(())
    }

    fn settle_piece(&mut self, batch: &mut Batch, mut ending: Ending) -> Result<(), StoreError> {
        let Ending { revision, lease, .. } = ending;
        // One more tells that there are more.
        let mut keys = self.first_keys_of(lease, &ending.from, KEYS_AT_ONCE + 1)?;
        let rest = keys.split_off(keys.len().min(KEYS_AT_ONCE));
        let before = revision.previous().unwrap_or(Revision::FIRST);
        for (key, replaced) in self.versions_at(before, keys)? {
            let point = Point { revision, place: ending.place };
            let written = Written { key: &key, deleted: true, superseded: Some(replaced.point()) };
            let version_key = Bytes::from(layout::version_key(&key, revision));
            let row = Bytes::from(Row::Tombstone.encode());
            batch.put(layout::HISTORY, Bytes::copy_from_slice(&layout::history_key(point)), written.encode());
            batch.put(layout::KEYS, version_key.clone(), row.clone());
            batch.delete(layout::ATTACHED, layout::attached_key(lease, &key));
            let versions = version_key.slice_ref(layout::versions_within(&version_key));
            // The key may have been written again since.
            let newest = self.newest(&versions).filter(|newest| newest.modified > revision);
            let superseded = Some(replaced.point());
            self.overlay.write(Version { versions, revision, key: version_key, row, newest, superseded });
            self.overlay.detach(lease, key);
            ending.place += 1;
        }
        let left = rest.into_iter().next().map(|from| Ending { from, ..ending.clone() });
        match &left {
            Some(left) => batch.put(layout::ENDINGS, layout::ending_key(left), layout::ending_value(left)),
            None => batch.delete(layout::ENDINGS, layout::ending_key(&ending)),
        }
        self.endings.advance(revision, left);
        self.told = false;
        Ok(())
    }

    fn versions_at(&self, at: Revision, keys: Vec<Bytes>) -> Result<Vec<(Bytes, Current)>, StoreError> {
        let mut snapshot = self.snapshot(at)?;
        let mut versions = Vec::with_capacity(keys.len());
        for key in keys {
            let mut version = None;
            snapshot.scan(&KeyRange::One(key.clone()), at, |found| {
                version = Some(Current::of(&found, false));
                Ok(ControlFlow::Break(()))
            })?;
            let version =
                version.ok_or_else(|| layout::corrupt(layout::ATTACHED, "a key of a lease does not exist"))?;
            versions.push((key, version));
        }
        Ok(versions)
    }
}
