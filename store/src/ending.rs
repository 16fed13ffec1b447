//! Leases that have ended before all of their keys are deleted on the engine.
//!
//! Owns: which versions such a lease hides.
//!
//! - A lease with many keys ends in one step: from its revision on, what was attached to it is not alive any more, whatever
//!   the rows say. The deletes follow in pieces, by later commands, and change nothing that a reader can see.
//! - Until they are all there, history from that revision on is not read: not by lagging watchers, not by hashes, sweeps
//!   and exports.

use std::sync::Arc;

use bytes::Bytes;
use types::{LeaseId, Revision};

/// A lease that has ended, and how far its keys are deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The revision that deletes the keys.
    pub(crate) revision: Revision,
    pub(crate) lease: LeaseId,
    /// The place in the revision that the next delete takes.
    pub(crate) place: u32,
    /// No key before this one is left.
    pub(crate) from: Bytes,
}

/// All of them, by revision. Clones share the list; there is none while there is nothing in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endings(Option<Arc<Vec<Ending>>>);

impl Endings {
    pub(crate) fn new(endings: Vec<Ending>) -> Self {
        Self((!endings.is_empty()).then(|| Arc::new(endings)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn first(&self) -> Option<&Ending> {
        self.0.as_ref()?.first()
    }

    /// The first revision that not all deletes of are on the engine.
    pub(crate) fn unsettled(&self) -> Option<Revision> {
        self.first().map(|ending| ending.revision)
    }

    /// The ending of a lease.
    pub(crate) fn of(&self, lease: LeaseId) -> Option<&Ending> {
        self.0.as_ref()?.iter().find(|ending| ending.lease == lease)
    }

    /// Whether a version is not alive at a revision because its lease has ended.
    pub(crate) fn hides(&self, lease: Option<LeaseId>, modified: Revision, at: Revision) -> bool {
        let (Some(endings), Some(lease)) = (&self.0, lease) else { return false };
        endings.iter().any(|ending| ending.lease == lease && modified < ending.revision && ending.revision <= at)
    }

    pub(crate) fn add(&mut self, ending: Ending) {
        Arc::make_mut(self.0.get_or_insert_default()).push(ending);
    }

    /// Notes how far an ending has come; `None` is its end.
    pub(crate) fn advance(&mut self, revision: Revision, to: Option<Ending>) {
        let others = self.0.iter().flat_map(|endings| endings.iter()).filter(|ending| ending.revision != revision);
        let mut endings: Vec<Ending> = others.cloned().chain(to).collect();
        endings.sort_by_key(|ending| ending.revision);
        *self = Self::new(endings);
    }
}
