//! What a batch has done that is not published yet.
//!
//! Owns: the batch's versions, leases and attachments, for the commands that come after in the same batch.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use bytes::Bytes;
use types::{LeaseId, Revision};

use crate::{
    Lease,
    layout::{self, Point},
    living::{Living, Newest},
    recent::Recent,
};

/// Room for so many versions is kept from batch to batch.
const ROOM_KEPT: usize = 1024;

/// A version that a batch wrote.
#[derive(Debug)]
pub(super) struct Version {
    /// What all versions of its key start with.
    pub(super) versions: Bytes,
    pub(super) revision: Revision,
    /// Its row of the key space.
    pub(super) key: Bytes,
    pub(super) row: Bytes,
    /// The newest of its key from now on; `None` if the key was deleted.
    pub(super) newest: Option<Newest>,
    pub(super) superseded: Option<Point>,
}

/// Laid over the engine and the published leases.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// In the order in which they were written.
    written: Vec<Version>,
    /// Which of them was written last of each key, by what all its versions start with.
    last: HashMap<Bytes, usize>,
    /// Their rows in order, once somebody has walked over them.
    rows: OnceCell<BTreeMap<Bytes, Bytes>>,
    leases: BTreeMap<LeaseId, Option<Lease>>,
    attached: BTreeMap<LeaseId, BTreeMap<Bytes, bool>>,
}

impl Overlay {
    /// The versions that the batch wrote, as rows of the key space.
    pub(super) fn rows(&self) -> &BTreeMap<Bytes, Bytes> {
        let rows = || self.written.iter().map(|version| (version.key.clone(), version.row.clone())).collect();
        self.rows.get_or_init(rows)
    }

    pub(super) fn write(&mut self, version: Version) {
        if let Some(rows) = self.rows.get_mut() {
            rows.insert(version.key.clone(), version.row.clone());
        }
        self.last.insert(version.versions.clone(), self.written.len());
        self.written.push(version);
    }

    /// The row of a version, if the batch wrote it.
    pub(super) fn row(&self, versions: &[u8], revision: Revision) -> Option<&Bytes> {
        let last = self.last_of(versions)?;
        if last.revision == revision {
            return Some(&last.row);
        }
        let mut key = Vec::with_capacity(versions.len() + layout::REVISION_BYTES);
        layout::version_key_at(&mut key, versions, revision);
        self.rows().get(&key[..])
    }

    /// The newest version of a key, given how to find the one it had before the batch.
    pub(super) fn newest(&self, versions: &[u8], before: impl FnOnce() -> Option<Newest>) -> Option<Newest> {
        self.last_of(versions).map_or_else(before, |last| last.newest)
    }

    fn last_of(&self, versions: &[u8]) -> Option<&Version> {
        self.last.get(versions).map(|last| &self.written[*last])
    }

    /// Brings the published keys up to date.
    pub(super) fn publish_living(&self, living: &mut Living) {
        for Version { versions, newest, .. } in &self.written {
            match newest {
                Some(newest) => living.insert(versions, *newest),
                None => living.remove(versions),
            }
        }
    }

    /// Makes what is about to be published quick to read.
    pub(super) fn publish_fresh(&self, recent: &Recent) {
        for Version { revision, row, newest, .. } in &self.written {
            if let Some(newest) = newest.filter(|newest| newest.modified == *revision) {
                recent.insert(newest.point(), row.clone());
            }
        }
    }

    /// Forgets what readers of the present do not ask for any more.
    pub(super) fn forget_superseded(&self, recent: &Recent) {
        self.written.iter().filter_map(|version| version.superseded).for_each(|point| recent.remove(point));
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
        self.written.clear();
        self.written.shrink_to(ROOM_KEPT);
        self.last.clear();
        self.last.shrink_to(ROOM_KEPT);
        self.rows.take();
        self.leases.clear();
        self.attached.clear();
    }
}
