//! What watchers are told at once.
//!
//! Owns: which events of consecutive revisions a group of watchers wants, and what the wire made of them.
//!
//! - Whole revisions, in order: of each one, all that the group wants.
//! - Watchers that are owed the same share it, so that it is encoded once for all of them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use types::Revision;

use super::{Change, Event, RevisionEvents, WatchId};
use crate::{KeyValue, StoreError, view::Shared};

/// All changes of one or more whole revisions that one watcher wants, in order; at least one.
#[derive(Clone, Debug)]
pub struct Events {
    pub(super) watcher: WatchId,
    pub(super) batch: Arc<Batch>,
}

/// The changes that a group of watchers wants; at least one.
#[derive(Debug)]
pub(super) struct Batch {
    picks: Vec<Pick>,
    prev_kv: bool,
    encoded: OnceLock<Bytes>,
}

/// One event of a revision.
#[derive(Clone, Debug)]
pub(super) struct Pick {
    pub(super) of: Arc<RevisionEvents>,
    pub(super) event: u32,
}

impl Pick {
    pub(super) fn revision(&self) -> Revision {
        self.of.revision
    }

    fn event(&self) -> &Event {
        &self.of.events[self.event as usize]
    }
}

impl Batch {
    pub(super) fn new(picks: Vec<Pick>, prev_kv: bool) -> Self {
        Self { picks, prev_kv, encoded: OnceLock::new() }
    }

    pub(super) fn picks(&self) -> &[Pick] {
        &self.picks
    }

    /// What is left of it from a pick on.
    pub(super) fn after(self: &Arc<Self>, passed: usize) -> Arc<Self> {
        match passed {
            0 => Arc::clone(self),
            _ => Arc::new(Self::new(self.picks[passed..].to_vec(), self.prev_kv)),
        }
    }

    /// Reads the versions that its events replaced, if they are wanted.
    pub(super) fn read_previous(&self, shared: &Shared) -> Result<(), StoreError> {
        if self.prev_kv { self.picks.iter().try_for_each(|pick| pick.event().read_previous(shared)) } else { Ok(()) }
    }
}

impl Events {
    /// Who wants them.
    pub fn watcher(&self) -> WatchId {
        self.watcher
    }

    /// The last revision among them.
    pub fn revision(&self) -> Revision {
        self.batch.picks.last().expect("a batch has an event").revision()
    }

    /// The changes in the order in which they were made, each with the version that it replaced if the watcher
    /// asked for that, there was one, and it is not compacted.
    pub fn iter(&self) -> impl Iterator<Item = (&Change, Option<&KeyValue>)> {
        let events = self.batch.picks.iter().map(Pick::event);
        events.map(|event| (event.change(), event.previous().filter(|_| self.batch.prev_kv)))
    }

    /// What `encode` makes of them, kept for all watchers that are told the same: all must be given the same `encode`.
    pub fn encoded(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.batch.encoded.get_or_init(|| encode(self)).clone()
    }
}
