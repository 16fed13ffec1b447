//! What a batch has done that is not published yet.
//!
//! Owns: the batch's versions, leases and attachments, for the commands that come after in the same batch.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::{LeaseId, Revision};

use crate::{
    Lease,
    layout::{self, Point},
    living::{Living, Newest},
    recent::Recent,
};

/// Laid over the engine and the published leases.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    rows: BTreeMap<Bytes, Bytes>,
    /// The newest version of each key that was written, by what all its versions start with; `None` if it was deleted.
    living: BTreeMap<Bytes, Option<Newest>>,
    /// The rows of the versions that it wrote and that hold a value.
    fresh: Vec<(Point, Bytes)>,
    superseded: Vec<Point>,
    leases: BTreeMap<LeaseId, Option<Lease>>,
    attached: BTreeMap<LeaseId, BTreeMap<Bytes, bool>>,
}

impl Overlay {
    /// The versions that the batch wrote, as rows of the key space.
    pub(super) fn rows(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.rows
    }

    /// A version was written, `newest` of its key; `None` if it deletes it.
    pub(super) fn write(
        &mut self,
        (key, row): (Bytes, Bytes),
        versions: Bytes,
        newest: Option<Newest>,
        superseded: Option<Point>,
    ) {
        self.fresh.extend(newest.map(|newest| (newest.point(), row.clone())));
        self.superseded.extend(superseded);
        self.rows.insert(key, row);
        self.living.insert(versions, newest);
    }

    /// A version was superseded by a delete at a revision that may be older than that of the key's newest version; `before`
    /// finds the one that it had before the batch.
    pub(super) fn end(
        &mut self,
        (key, row): (Bytes, Bytes),
        versions: Bytes,
        (at, superseded): (Revision, Point),
        before: impl FnOnce() -> Option<Newest>,
    ) {
        self.rows.insert(key, row);
        let newest = self.newest(&versions, before);
        self.superseded.push(superseded);
        self.living.insert(versions, newest.filter(|newest| newest.modified > at));
    }

    /// A row that the batch wrote.
    pub(super) fn row(&self, versions: &[u8], revision: Revision) -> Option<&Bytes> {
        if self.rows.is_empty() {
            return None;
        }
        let mut key = Vec::with_capacity(versions.len() + layout::REVISION_BYTES);
        layout::version_key_at(&mut key, versions, revision);
        self.rows.get(&key[..])
    }

    /// The newest version of a key, given how to find the one it had before the batch.
    pub(super) fn newest(&self, versions: &[u8], before: impl FnOnce() -> Option<Newest>) -> Option<Newest> {
        self.living.get(versions).copied().unwrap_or_else(before)
    }

    /// Brings the published keys up to date.
    pub(super) fn publish_living(&self, living: &mut Living) {
        for (versions, newest) in &self.living {
            match newest {
                Some(newest) => living.insert(versions, *newest),
                None => living.remove(versions),
            }
        }
    }

    /// Makes what is about to be published quick to read.
    pub(super) fn publish_fresh(&mut self, recent: &Recent) {
        self.fresh.drain(..).for_each(|(point, row)| recent.insert(point, row));
    }

    /// Forgets what readers of the present do not ask for any more.
    pub(super) fn forget_superseded(&mut self, recent: &Recent) {
        self.superseded.drain(..).for_each(|point| recent.remove(point));
    }

    /// A lease, given how to find what it was before the batch.
    pub(super) fn lease(&self, id: LeaseId, before: impl FnOnce() -> Option<Lease>) -> Option<Lease> {
        self.leases.get(&id).copied().unwrap_or_else(before)
    }

    /// A lease was granted or changed.
    pub(super) fn set_lease(&mut self, lease: Lease) {
        self.leases.insert(lease.id, Some(lease));
    }

    pub(super) fn revoke(&mut self, id: LeaseId) {
        self.leases.insert(id, None);
    }

    pub(super) fn attach(&mut self, id: LeaseId, key: Bytes) {
        self.attached.entry(id).or_default().insert(key, true);
    }

    pub(super) fn detach(&mut self, id: LeaseId, key: Bytes) {
        self.attached.entry(id).or_default().insert(key, false);
    }

    /// How many keys the batch took from a lease.
    pub(super) fn detached(&self, id: LeaseId) -> usize {
        self.attachments(id).filter(|(_, attached)| !**attached).count()
    }

    /// A lease's keys, given those it had before the batch.
    pub(super) fn keys_of(&self, id: LeaseId, before: Vec<Bytes>) -> BTreeSet<Bytes> {
        let mut keys: BTreeSet<Bytes> = before.into_iter().collect();
        for (key, attached) in self.attached.get(&id).into_iter().flatten() {
            if *attached {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        keys
    }

    /// The keys that the batch attached (`true`) to a lease, or took from it.
    pub(super) fn attachments(&self, id: LeaseId) -> impl Iterator<Item = (&Bytes, &bool)> {
        self.attached.get(&id).into_iter().flatten()
    }

    /// Whether the batch took a key from a lease.
    pub(super) fn has_detached(&self, id: LeaseId, key: &[u8]) -> bool {
        self.attached.get(&id).and_then(|keys| keys.get(key)) == Some(&false)
    }

    /// Brings the published leases up to date.
    pub(super) fn publish_leases(&self, leases: &mut BTreeMap<LeaseId, Lease>) {
        for (&id, lease) in &self.leases {
            match lease {
                Some(lease) => leases.insert(id, *lease),
                None => leases.remove(&id),
            };
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
