//! Writing keys.
//!
//! Owns: one revision in the making.
//!
//! - Nothing counts until [`Writing::finish`]; a revision without a write is not used up.
//! - Checks come before: a write itself can only fail by the disk.

use std::ops::ControlFlow;

use bytes::Bytes;
use engine::Batch;
use types::{KeyRange, LeaseId, Revision};

use super::{Store, overlay::Version};
use crate::{
    Change, DeleteRange, DeleteRangeAnswer, Event, Failure, KeyValue, Put, PutAnswer, PutLease, PutValue, Refusal,
    StoreError,
    layout::{self, Meta, Point, Row, Written},
    living::Newest,
    snapshot::Found,
    watch::{RevisionEvents, Told},
};

/// One revision in the making.
pub(super) struct Writing<'a> {
    pub(super) store: &'a mut Store,
    batch: &'a mut Batch,
    main: Revision,
    events: Vec<Event>,
}

/// The living version of a key.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) meta: Meta,
    pub(super) modified: Revision,
    /// Only if it was asked for.
    pub(super) value: Option<Bytes>,
}

impl Current {
    pub(super) fn of(found: &Found<'_>, with_value: bool) -> Self {
        let value = with_value.then(|| Bytes::copy_from_slice(found.value));
        Self { meta: found.meta, modified: found.modified, value }
    }

    pub(super) fn point(&self) -> Point {
        Point { revision: self.modified, place: self.meta.place }
    }

    fn key_value(&self, key: &Bytes) -> Option<KeyValue> {
        Some(self.meta.key_value(key.clone(), self.value.clone()?, self.modified))
    }
}

impl Store {
    pub(super) fn put(&mut self, batch: &mut Batch, put: &Put) -> Result<PutAnswer, Failure> {
        self.check_put(put)?;
        let mut writing = Writing::new(self, batch);
        let answer = writing.put(put)?;
        writing.finish();
        Ok(answer)
    }

    pub(super) fn delete_range(
        &mut self,
        batch: &mut Batch,
        delete: &DeleteRange,
    ) -> Result<DeleteRangeAnswer, Failure> {
        let mut writing = Writing::new(self, batch);
        let answer = writing.delete([delete.keys.clone()], delete.prev_kv)?;
        writing.finish();
        Ok(answer)
    }

    /// Refuses a put that names a lease that is not there, or keeps what a missing key does not have.
    pub(super) fn check_put(&self, put: &Put) -> Result<(), Failure> {
        match put.lease {
            PutLease::Set(Some(id)) if !self.has_lease(id) => return Err(Refusal::LeaseNotFound(id).into()),
            PutLease::Set(_) | PutLease::Keep => {}
        }
        let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
        if keeps && self.current(&put.key, false)?.is_none() {
            return Err(Refusal::KeyNotFound.into());
        }
        Ok(())
    }

    /// The living version of a key, as the next command sees it.
    pub(super) fn current(&self, key: &Bytes, with_value: bool) -> Result<Option<Current>, StoreError> {
        self.current_of(&layout::versions_of(key), with_value)
    }

    /// The same, by what all versions of the key start with.
    fn current_of(&self, versions: &[u8], with_value: bool) -> Result<Option<Current>, StoreError> {
        let Some(newest @ Newest { modified, meta }) = self.newest(versions) else { return Ok(None) };
        if self.endings.hides(meta.lease, modified, self.revision) {
            return Ok(None);
        }
        let value = with_value.then(|| self.value(versions, newest)).transpose()?;
        Ok(Some(Current { meta, modified, value }))
    }

    /// The newest version of a key by the rows that are written, whatever is hidden of them.
    pub(super) fn newest(&self, versions: &[u8]) -> Option<Newest> {
        self.overlay.newest(versions, || self.shared.head.read().living.get(versions))
    }

    /// What a version holds that is there.
    fn value(&self, versions: &[u8], newest: Newest) -> Result<Bytes, StoreError> {
        let row = match self.overlay.row(versions, newest.modified) {
            Some(row) => Some(row.clone()),
            None => self.shared.version(versions, newest)?,
        };
        let missing = || layout::corrupt(layout::KEYS, "a living key has its newest version");
        let row = row.ok_or_else(missing)?;
        match Row::decode(&row)? {
            Row::Put(_, value) => Ok(row.slice_ref(value)),
            Row::Tombstone => Err(missing()),
        }
    }
}

impl<'a> Writing<'a> {
    pub(super) fn new(store: &'a mut Store, batch: &'a mut Batch) -> Self {
        let main = store.revision.next();
        Self { store, batch, main, events: Vec::with_capacity(1) }
    }

    /// The store's revision as this transaction sees it.
    pub(super) fn revision(&self) -> Revision {
        if self.events.is_empty() { self.store.revision } else { self.main }
    }

    pub(super) fn put(&mut self, put: &Put) -> Result<PutAnswer, StoreError> {
        let wants_previous = put.prev_kv || put.value == PutValue::Keep || self.store.hub.wants_previous();
        let version_key = Bytes::from(layout::version_key(&put.key, self.main));
        let current = self.store.current_of(layout::versions_within(&version_key), wants_previous)?;
        let value = match (&put.value, &current) {
            (PutValue::Set(value), _) => value.clone(),
            (PutValue::Keep, current) => current.as_ref().and_then(|current| current.value.clone()).unwrap_or_default(),
        };
        let lease = match put.lease {
            PutLease::Set(lease) => lease,
            PutLease::Keep => current.as_ref().and_then(|current| current.meta.lease),
        };
        let (created, version) = current.as_ref().map_or((self.main, 1), |c| (c.meta.created, c.meta.version + 1));
        let meta = Meta { place: self.place(), created, version, lease };
        self.attach(&put.key, current.as_ref().and_then(|current| current.meta.lease), lease);
        self.write((&put.key, version_key), Row::Put(meta, &value), current.as_ref().map(Current::point));
        let change = Change::Put(meta.key_value(put.key.clone(), value, self.main));
        let previous = self.event(change, current);
        Ok(PutAnswer { revision: self.main, previous: previous.filter(|_| put.prev_kv) })
    }

    /// Deletes the living keys of ranges that do not overlap.
    pub(super) fn delete(
        &mut self,
        ranges: impl IntoIterator<Item = KeyRange>,
        prev_kv: bool,
    ) -> Result<DeleteRangeAnswer, StoreError> {
        let doomed = self.living(ranges, prev_kv || self.store.hub.wants_previous())?;
        let deleted = doomed.len() as u64;
        let previous: Vec<_> = doomed.into_iter().filter_map(|(key, current)| self.delete_one(&key, current)).collect();
        let previous = if prev_kv { previous } else { Vec::new() };
        Ok(DeleteRangeAnswer { revision: self.revision(), deleted, previous })
    }

    fn living(
        &self,
        ranges: impl IntoIterator<Item = KeyRange>,
        with_value: bool,
    ) -> Result<Vec<(Bytes, Current)>, StoreError> {
        let (mut living, mut snapshot) = (Vec::new(), None);
        for keys in ranges {
            if let KeyRange::One(key) = keys {
                living.extend(self.store.current(&key, with_value)?.map(|current| (key, current)));
                continue;
            }
            let snapshot = match &mut snapshot {
                Some(snapshot) => snapshot,
                None => snapshot.insert(self.store.snapshot(self.revision())?),
            };
            snapshot.scan(&keys, self.revision(), |found| {
                living.push((found.key()?, Current::of(&found, with_value)));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(living)
    }

    /// Deletes a living key, and returns what it was if its value is known.
    fn delete_one(&mut self, key: &Bytes, current: Current) -> Option<KeyValue> {
        self.attach(key, current.meta.lease, None);
        let version_key = Bytes::from(layout::version_key(key, self.main));
        self.write((key, version_key), Row::Tombstone, Some(current.point()));
        self.event(Change::Delete { key: key.clone(), revision: self.main }, Some(current))
    }

    /// Makes the revision count, if it wrote anything.
    pub(super) fn finish(self) {
        if !self.events.is_empty() {
            self.store.revision = self.main;
            self.store.events.push(Told::Events(RevisionEvents::new(self.main, self.events)));
        }
    }

    /// The place in this revision that the next write takes.
    fn place(&self) -> u32 {
        u32::try_from(self.events.len()).expect("a command has fewer than 2^32 writes")
    }

    fn write(&mut self, (key, version_key): (&Bytes, Bytes), row: Row<'_>, superseded: Option<Point>) {
        let revision = self.main;
        let point = Point { revision, place: self.place() };
        let written = Written { key, deleted: row == Row::Tombstone, superseded };
        let newest = match row {
            Row::Put(meta, _) => Some(Newest { modified: revision, meta }),
            Row::Tombstone => None,
        };
        let row = Bytes::from(row.encode());
        self.batch.put(layout::HISTORY, Bytes::copy_from_slice(&layout::history_key(point)), written.encode());
        self.batch.put(layout::KEYS, version_key.clone(), row.clone());
        let versions = version_key.slice_ref(layout::versions_within(&version_key));
        self.store.overlay.write(Version { versions, revision, key: version_key, row, newest, superseded });
    }

    /// Moves a key from one lease to another.
    fn attach(&mut self, key: &Bytes, from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.batch.delete(layout::ATTACHED, layout::attached_key(from, key));
            self.store.overlay.detach(from, key.clone());
        }
        if let Some(to) = to {
            self.batch.put(layout::ATTACHED, layout::attached_key(to, key), Bytes::new());
            self.store.overlay.attach(to, key.clone());
        }
    }

    /// Notes what watchers will be told, and returns the version that was replaced if its value is known.
    fn event(&mut self, change: Change, replaced: Option<Current>) -> Option<KeyValue> {
        let previous = replaced.as_ref().and_then(|current| current.key_value(change.key()));
        self.events.push(match &previous {
            Some(previous) => Event::with_previous(change, previous.clone()),
            None => Event::new(change, replaced.map(|current| current.modified)),
        });
        previous
    }
}
