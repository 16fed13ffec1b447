//! What happened.
//!
//! Owns: one revision's changes, shared by all who are told of them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use types::{LeaseId, Revision};

use crate::{KeyValue, StoreError, layout, view::Shared, watch::Filter};

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written; this is what it is now.
    Put(KeyValue),
    /// It was deleted.
    Delete {
        /// The key.
        key: Bytes,
        /// The revision that deleted it.
        revision: Revision,
    },
}

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put(kv) => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision that made it.
    pub(crate) fn revision(&self) -> Revision {
        match self {
            Self::Put(kv) => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// Whether a watcher with this filter wants it.
    pub(crate) fn passes(&self, filter: Filter) -> bool {
        match self {
            Self::Put(_) => !filter.no_put,
            Self::Delete { .. } => !filter.no_delete,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put(kv) => kv.key.len() + kv.value.len(),
            Self::Delete { key, .. } => key.len(),
        }
    }
}

/// Where the version that a change replaced is found.
#[derive(Clone, Copy, Debug)]
enum Replaced {
    Nothing,
    /// This revision wrote it.
    By(Revision),
    /// It is the key's newest before the change.
    Newest,
}

/// A change, and the version that it replaced.
#[derive(Debug)]
pub struct Event {
    change: Change,
    replaced: Replaced,
    previous: OnceLock<Option<KeyValue>>,
}

impl Event {
    pub(crate) fn new(change: Change, superseded: Option<Revision>) -> Self {
        let previous = OnceLock::new();
        if superseded.is_none() {
            previous.get_or_init(|| None);
        }
        Self { change, replaced: superseded.map_or(Replaced::Nothing, Replaced::By), previous }
    }

    /// A change of a key that existed, at a revision that was not looked up.
    pub(crate) fn replacing_newest(change: Change) -> Self {
        Self { change, replaced: Replaced::Newest, previous: OnceLock::new() }
    }

    /// With the version that it replaced at hand.
    pub(crate) fn with_previous(change: Change, previous: KeyValue) -> Self {
        let replaced = Replaced::By(previous.mod_revision);
        Self { change, replaced, previous: OnceLock::from(Some(previous)) }
    }

    /// What happened.
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// The version that it replaced: `None` for a key that was created, if that version is compacted, or if nobody
    /// who was told of the event asked for it.
    pub fn previous(&self) -> Option<&KeyValue> {
        self.previous.get()?.as_ref()
    }

    /// Reads the version that it replaced, once for all who share the event.
    pub(crate) fn read_previous(&self, shared: &Shared) -> Result<(), StoreError> {
        if self.previous.get().is_some() {
            return Ok(());
        }
        let key = self.change.key();
        let is_forgotten = shared.published().compacted.0 >= self.change.revision().get();
        let read = match self.replaced {
            // Source: etcd reads it at the revision before, which a compaction of this one forbids.
            _ if is_forgotten => None,
            Replaced::Nothing => None,
            Replaced::By(revision) => layout::version(&shared.engine, key, revision)?,
            Replaced::Newest => layout::version_before(&shared.engine, key, self.change.revision())?,
        };
        self.previous.get_or_init(|| read);
        Ok(())
    }
}

/// What the writer tells of a revision.
#[derive(Debug)]
pub(crate) enum Told {
    /// All that happened.
    Events(Arc<RevisionEvents>),
    /// A lease has ended with so many keys that they are read by whoever passes it on.
    Ended {
        /// The revision that deletes the keys.
        revision: Revision,
        lease: LeaseId,
    },
}

impl Told {
    pub(super) fn revision(&self) -> Revision {
        match self {
            Self::Events(events) => events.revision,
            Self::Ended { revision, .. } => *revision,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Events(events) => events.bytes,
            Self::Ended { .. } => 0,
        }
    }
}

/// All changes of one revision, in the order in which they were made.
#[derive(Debug)]
pub(crate) struct RevisionEvents {
    pub(crate) revision: Revision,
    pub(crate) events: Vec<Event>,
    pub(crate) bytes: usize,
}

impl RevisionEvents {
    pub(crate) fn new(revision: Revision, events: Vec<Event>) -> Arc<Self> {
        let bytes = events.iter().map(|event| event.change.bytes()).sum();
        Arc::new(Self { revision, events, bytes })
    }
}
