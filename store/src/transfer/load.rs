//! Into an empty engine.
//!
//! - Steps come in the order of history. Each is told which version it replaces, as apply would have told it.
//! - Nothing is checked that the store does not lean on: what was agreed elsewhere is taken as it is.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use engine::{Batch, Cursor, Durability, Engine};
use types::{LeaseId, Revision};

use super::Step;
use crate::{
    Alarm, Auth, Change, Lease, StoreError,
    layout::{self, HISTORY, KEYS, Meta, Point, Row, Written, corrupt},
};

/// A batch is written once it holds so many rows, or so much.
const BATCH_ROWS_MAX: usize = 16_384;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Why a store cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is a store on the engine already.
    #[error("there is a store already")]
    NotEmpty,
    /// A write that no store has made.
    #[error("revision {revision}: {what}")]
    Impossible {
        /// The revision that says to have made it.
        revision: Revision,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The engine.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<engine::EngineError> for LoadError {
    fn from(error: engine::EngineError) -> Self {
        Self::Store(error.into())
    }
}

/// What was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The store's revision.
    pub revision: Revision,
    /// Writes of history.
    pub steps: u64,
    /// Writes that the same revision wrote over, and that were left out: a revision here writes a key once.
    pub left_out: u64,
    /// Leases.
    pub leases: usize,
}

/// A store in the making.
pub struct Load<'a> {
    engine: &'a Engine,
    /// What the batches so far have written.
    versions: Cursor<'a>,
    batch: Batch,
    /// The newest versions of the keys of the batch, by what all versions of the key start with.
    newest: HashMap<Vec<u8>, Newest>,
    leases: BTreeSet<LeaseId>,
    last: Option<Point>,
    steps: u64,
    left_out: u64,
}

/// The newest version of a key.
#[derive(Clone, Copy, Debug)]
struct Newest {
    revision: Revision,
    /// `None` if it is deleted.
    put: Option<Meta>,
}

impl std::fmt::Debug for Load<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").field("last", &self.last).field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl<'a> Load<'a> {
    /// Starts on an engine with the store's spaces, all of them empty.
    ///
    /// # Errors
    /// [`LoadError::NotEmpty`]; [`LoadError::Store`] if the engine fails.
    pub fn new(engine: &'a Engine) -> Result<Self, LoadError> {
        for &space in crate::Store::SPACES {
            let mut cursor = engine.cursor(space)?;
            cursor.seek(&[]);
            if cursor.entry().is_some() {
                return Err(LoadError::NotEmpty);
            }
        }
        Ok(Self {
            engine,
            versions: engine.cursor(KEYS)?,
            batch: Batch::new(),
            newest: HashMap::new(),
            leases: BTreeSet::new(),
            last: None,
            steps: 0,
            left_out: 0,
        })
    }

    /// Adds a lease. All come before the first step, so that it is known which keys hang on one.
    ///
    /// # Errors
    /// [`LoadError::Store`] if the engine fails.
    pub fn lease(&mut self, lease: &Lease) -> Result<(), LoadError> {
        assert!(self.last.is_none(), "leases come before steps");
        self.batch.put(layout::LEASES, layout::lease_key(lease.id), layout::lease_value(lease));
        self.leases.insert(lease.id);
        self.flush_when_full()
    }

    /// Raises an alarm.
    ///
    /// # Errors
    /// [`LoadError::Store`] if the engine fails.
    pub fn alarm(&mut self, alarm: Alarm) -> Result<(), LoadError> {
        self.batch.put(layout::ALARMS, alarm.key(), Bytes::new());
        self.flush_when_full()
    }

    /// Sets users and roles.
    pub fn auth(&mut self, auth: &Auth) {
        auth.write(&mut self.batch);
    }

    /// Adds a write of history, later than the last.
    ///
    /// # Errors
    /// [`LoadError::Impossible`]; [`LoadError::Store`] if the engine fails.
    pub fn step(&mut self, step: &Step) -> Result<(), LoadError> {
        let point = Point { revision: step.revision(), place: step.place };
        let impossible = |what| Err(LoadError::Impossible { revision: point.revision, what });
        if self.last.is_some_and(|last| last >= point) {
            return impossible("writes are not in order");
        }
        let (key, put, value) = match &step.change {
            Change::Put(kv) => {
                if kv.version < 1 || kv.create_revision > kv.mod_revision {
                    return impossible("a version counts from 1, and from its creation");
                }
                let (created, version, lease) = (kv.create_revision, kv.version, kv.lease);
                (&kv.key, Some(Meta { place: step.place, created, version, lease }), &kv.value[..])
            }
            Change::Delete { key, .. } => (key, None, &[][..]),
        };
        let before = self.before(key, point, put)?;
        self.write(key, point, put.map(|meta| (meta, value)), before.as_ref());
        self.last = Some(point);
        self.steps += 1;
        self.flush_when_full()
    }

    /// The newest version of a key before a write.
    fn before(&mut self, key: &[u8], point: Point, put: Option<Meta>) -> Result<Option<Newest>, LoadError> {
        // The first write of a revision that makes a key: there is nothing to be looked for.
        if point.place == 0 && put.is_some_and(|meta| meta.version == 1) {
            return Ok(None);
        }
        let found = self.newest(key)?;
        if found.is_none_or(|found| found.revision < point.revision) {
            return Ok(found);
        }
        self.take_back(key, point.revision)?;
        Ok(self.newest(key)?)
    }

    fn newest(&mut self, key: &[u8]) -> Result<Option<Newest>, StoreError> {
        let versions = layout::versions_of(key);
        if let Some(newest) = self.newest.get(&versions) {
            return Ok(Some(*newest));
        }
        self.versions.seek(&versions);
        let Some((row_key, row)) = self.versions.entry() else {
            self.versions.status()?;
            return Ok(None);
        };
        let (found, revision) = layout::split_version(row_key)?;
        if found != versions {
            return Ok(None);
        }
        Ok(Some(match Row::decode(row)? {
            Row::Put(meta, _) => Newest { revision, put: Some(meta) },
            Row::Tombstone => Newest { revision, put: None },
        }))
    }

    /// Removes what a revision wrote to a key, because it wrote it again. Source: etcd up to 3.6 lets a transaction put
    /// a key and delete a range up to the end of all keys that holds it.
    fn take_back(&mut self, key: &[u8], revision: Revision) -> Result<(), LoadError> {
        self.flush()?;
        let mut written = None;
        let mut history = self.engine.cursor(HISTORY)?;
        history.seek(&layout::history_key(Point { revision, place: 0 }));
        while let Some((row_key, row)) = history.entry() {
            if layout::history_point(row_key)?.revision != revision {
                break;
            }
            if Written::decode(row)?.key == key {
                written = Some(Bytes::copy_from_slice(row_key));
            }
            history.next();
        }
        history.status()?;
        let written = written.ok_or_else(|| corrupt(HISTORY, "a version has no step"))?;
        let lease = |newest: Option<Newest>| newest?.put?.lease;
        let taken_back = lease(self.newest(key)?);
        self.batch.delete(HISTORY, written);
        self.batch.delete(KEYS, layout::version_key(key, revision));
        self.flush()?;
        let before = lease(self.newest(key)?);
        self.attach(key, taken_back, before);
        self.left_out += 1;
        self.steps -= 1;
        Ok(())
    }

    fn write(&mut self, key: &Bytes, point: Point, put: Option<(Meta, &[u8])>, before: Option<&Newest>) {
        let replaced = before.and_then(|before| Some((before.revision, before.put?)));
        let superseded = replaced.map(|(revision, meta)| Point { revision, place: meta.place });
        let written = Written { key, deleted: put.is_none(), superseded };
        self.batch.put(HISTORY, Bytes::copy_from_slice(&layout::history_key(point)), written.encode());
        let row = put.map_or(Row::Tombstone, |(meta, value)| Row::Put(meta, value));
        self.batch.put(KEYS, layout::version_key(key, point.revision), row.encode());
        let meta = put.map(|(meta, _)| meta);
        self.attach(key, replaced.and_then(|(_, meta)| meta.lease), meta.and_then(|meta| meta.lease));
        self.newest.insert(layout::versions_of(key), Newest { revision: point.revision, put: meta });
    }

    /// A key hangs on a lease that is there, and on no other.
    fn attach(&mut self, key: &[u8], from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.batch.delete(layout::ATTACHED, layout::attached_key(from, key));
        }
        if let Some(to) = to.filter(|to| self.leases.contains(to)) {
            self.batch.put(layout::ATTACHED, layout::attached_key(to, key), Bytes::new());
        }
    }

    /// Closes the store, and brings it to stable storage. `compacted`: the oldest revision that can be read, by the wire's
    /// number; a store that was compacted above its last write has that for its revision. `swept`: the compaction whose
    /// dead rows did not come along.
    ///
    /// # Errors
    /// [`LoadError::Store`] if the engine fails.
    pub fn finish(mut self, compacted: Option<i64>, swept: Option<i64>) -> Result<Loaded, LoadError> {
        for (name, revision) in [(layout::COMPACTED_KEY, compacted), (layout::SWEPT_KEY, swept.min(compacted))] {
            if let Some(revision) = revision {
                self.batch.put(layout::META, name, Bytes::copy_from_slice(&revision.to_be_bytes()));
            }
        }
        self.flush()?;
        self.engine.sync()?;
        Ok(Loaded {
            revision: layout::revision(self.engine)?,
            steps: self.steps,
            left_out: self.left_out,
            leases: self.leases.len(),
        })
    }

    fn flush_when_full(&mut self) -> Result<(), LoadError> {
        if self.batch.len() < BATCH_ROWS_MAX && self.batch.bytes() < BATCH_BYTES_MAX { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        self.engine.write(std::mem::take(&mut self.batch), Durability::Buffered)?;
        self.newest.clear();
        self.versions = self.engine.cursor(KEYS)?;
        Ok(())
    }
}
