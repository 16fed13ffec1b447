//! Reading.
//!
//! Owns: what readers may know of: the published revision and compaction, the leases, and who may read what.
//!
//! - A view sees a batch only after `publish`, and then all of it.
//! - A view sees one state or the one that took its place, and never some of each: a read looks once which it is.
//! - A read at a revision is decided against the compaction that is published when the rows are read, so that it
//!   never misses what a sweep has taken.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use engine::Engine;
use parking_lot::RwLock;
use tokio::sync::watch;
use types::{KeyRange, LeaseId, Revision};

use crate::{
    Access, Actor, Alarm, Auth, AuthRefusal, Failure, Limits, Range, RangeAnswer, ReadOnlyTxn, Refusal, StoreError,
    TxnAnswer, WatchHub,
    alarm::Alarms,
    answer::OpAnswer,
    auth::KeySet,
    ending::Endings,
    layout::{self, Compacted},
    living::{self, Living, Newest},
    recent::Recent,
    snapshot::Snapshot,
};

/// Between two looks whether history is all there.
const HISTORY_POLL: Duration = Duration::from_millis(5);

/// One lease, as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lives unless it is renewed.
    pub ttl: Duration,
    /// What was left of it when that was noted last; `None` is all of it. The member that leads next goes on from there.
    pub remaining: Option<Duration>,
}

/// What is published, for readers. Clones share it.
#[derive(Clone, Debug)]
pub struct View {
    current: Current,
    hub: WatchHub,
}

/// The state that counts; another takes its place when the store is reopened.
pub(crate) type Current = Arc<ArcSwap<Shared>>;

/// One state: what the writer, the sweeper and all readers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) head: RwLock<Head>,
    pub(crate) recent: Recent,
    pub(crate) leases: RwLock<BTreeMap<LeaseId, Lease>>,
    pub(crate) alarms: RwLock<Alarms>,
    /// The leases whose keys are not all deleted on the engine.
    pub(crate) endings: watch::Sender<Endings>,
    pub(crate) auth: ArcSwap<Auth>,
    /// The compaction up to which dead rows are gone.
    pub(crate) swept: watch::Sender<Compacted>,
    /// Rows that sweeps have deleted since the store was opened, of states before this one too.
    pub(crate) swept_rows: Arc<AtomicU64>,
    /// The compaction that is published; wakes the sweeper.
    pub(crate) compacted: watch::Sender<Compacted>,
    /// Another state has taken this one's place: nothing happens here any more.
    pub(crate) replaced: watch::Sender<bool>,
}

/// What readers see of the present.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) published: Published,
    /// All keys of leases that have ended are deleted on the engine. Until they are, those keys are in `living`.
    pub(crate) is_settled: bool,
    pub(crate) living: Living,
}

/// The point in history that readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) revision: Revision,
    pub(crate) compacted: Compacted,
}

impl Shared {
    pub(crate) fn published(&self) -> Published {
        self.head.read().published
    }

    /// The last revision up to `to` that history holds wholly.
    pub(crate) fn settled(&self, to: Revision) -> Option<Revision> {
        match self.endings.borrow().unsettled() {
            Some(first) if first <= to => first.previous(),
            _ => Some(to),
        }
    }

    /// Blocks until history up to a revision is on the engine: it is not while a lease with many keys ends. Returns whether
    /// it is; it never will be in a state that was replaced.
    pub(crate) fn wait_for_history(&self, through: Revision) -> bool {
        while self.endings.borrow().unsettled().is_some_and(|first| first <= through) {
            if *self.replaced.borrow() {
                return false;
            }
            std::thread::sleep(HISTORY_POLL);
        }
        true
    }

    /// Returns once another state has taken this one's place.
    pub(crate) async fn replaced(&self) {
        let mut replaced = self.replaced.subscribe();
        replaced.wait_for(|replaced| *replaced).await.expect("self holds the sender");
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Option<Lease> {
        self.leases.read().get(&id).copied()
    }

    /// The row of a version; `None` if it is swept.
    pub(crate) fn version(&self, versions: &[u8], newest: Newest) -> Result<Option<Bytes>, StoreError> {
        if let Some(row) = self.recent.get(newest.point()) {
            return Ok(Some(row));
        }
        let mut key = Vec::with_capacity(versions.len() + layout::REVISION_BYTES);
        layout::version_key_at(&mut key, versions, newest.modified);
        let row = self.engine.get(layout::KEYS, &key)?;
        if let Some(row) = &row {
            self.recent.insert(newest.point(), row.clone());
        }
        Ok(row)
    }

    /// What is published, with cursors that miss nothing of it.
    ///
    /// The rows are pinned first: what a sweep took before that, a published compaction forbids to read.
    pub(crate) fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let published = self.published();
        // Before the rows are pinned: when an ending is gone from the list, its deletes are among the rows.
        let endings = self.endings.borrow().clone();
        let cursor = self.engine.cursor(layout::KEYS)?;
        let compacted = self.published().compacted;
        Ok(Snapshot::published(cursor, published.revision, compacted, endings))
    }
}

impl View {
    pub(crate) fn new(current: Current, hub: WatchHub) -> Self {
        Self { current, hub }
    }

    /// The revision of the last published transaction.
    pub fn revision(&self) -> Revision {
        self.shared().published().revision
    }

    /// The oldest revision that can be read; `None` before the first compaction.
    pub fn compacted(&self) -> Option<Revision> {
        Revision::new(self.shared().published().compacted.0)
    }

    /// Returns once the rows that the published compaction left dead are gone; needs a running [`Sweeper`](crate::Sweeper).
    pub async fn swept(&self) {
        loop {
            let shared = self.held();
            let target = shared.published().compacted;
            let mut swept = shared.swept.subscribe();
            tokio::select! {
                _ = swept.wait_for(|swept| *swept >= target) => return,
                () = shared.replaced() => {}
            }
        }
    }

    /// The keys of a range, at the revision asked for or the published one.
    ///
    /// # Errors
    /// [`Refusal::Compacted`] and [`Refusal::FutureRevision`]; [`Failure::Broken`] if the disk fails.
    pub fn range(&self, range: &Range) -> Result<RangeAnswer, Failure> {
        Ok(self.range_within(range, usize::MAX)?.expect("no answer is longer"))
    }

    /// What [`View::range`] would give, if no more than `bytes_max` bytes of keys are held for it at any time, as
    /// [`KeyValue::bytes`](crate::KeyValue::bytes) counts them; else `None`.
    ///
    /// # Errors
    /// Those of [`View::range`].
    pub fn range_within(&self, range: &Range, bytes_max: usize) -> Result<Option<RangeAnswer>, Failure> {
        let shared = self.shared();
        let outcome = match living::latest(&shared, range, bytes_max)? {
            Some(outcome) => outcome,
            None => shared.snapshot()?.range_within(range, bytes_max)?,
        };
        Ok(outcome.whole())
    }

    /// What [`View::range`] would give if that takes no disk and at most `keys_max` keys; else `None`. Does not block.
    ///
    /// # Errors
    /// [`Failure::Broken`] if what is in memory is damaged.
    pub fn range_at_once(&self, range: &Range, keys_max: usize) -> Result<Option<RangeAnswer>, Failure> {
        Ok(living::remembered(&self.shared(), range, keys_max)?)
    }

    /// Runs a transaction that only reads, all of it at the published revision.
    ///
    /// # Errors
    /// Those of [`View::range`].
    pub fn txn_read_only(&self, txn: &ReadOnlyTxn) -> Result<TxnAnswer, Failure> {
        let shared = self.shared();
        let mut snapshot = shared.snapshot()?;
        let succeeded = snapshot.holds(&txn.compares)?;
        let ranges = if succeeded { &txn.success } else { &txn.failure };
        let ops =
            ranges.iter().map(|range| Ok(OpAnswer::Range(snapshot.range(range)?))).collect::<Result<_, Failure>>()?;
        Ok(TxnAnswer { revision: snapshot.revision(), succeeded, ops })
    }

    /// All leases, by id.
    pub fn leases(&self) -> Vec<Lease> {
        self.shared().leases.read().values().copied().collect()
    }

    /// One lease.
    pub fn lease(&self, id: LeaseId) -> Option<Lease> {
        self.shared().lease(id)
    }

    /// The keys attached to a lease, in key order; it may already know of a batch that is about to be published.
    ///
    /// # Errors
    /// [`Refusal::LeaseNotFound`]; [`Failure::Broken`] if the disk fails.
    pub fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Failure> {
        let shared = self.shared();
        shared.lease(id).ok_or(Refusal::LeaseNotFound(id))?;
        Ok(layout::attached(&shared.engine, id)?)
    }

    /// Whether a key of a range is attached to a lease; none is to an unknown one.
    ///
    /// # Errors
    /// [`StoreError`] if the engine fails.
    pub fn lease_holds_any_of(&self, id: LeaseId, keys: &KeyRange) -> Result<bool, StoreError> {
        let shared = self.shared();
        let first = layout::attached_from(&shared.engine, id, keys.start(), 1)?;
        Ok(shared.lease(id).is_some() && first.iter().any(|key| keys.contains(key)))
    }

    /// Rows that sweeps have deleted since the store was opened. Their space is free once the engine has rewritten what
    /// they lay among.
    pub fn swept_rows(&self) -> u64 {
        self.shared().swept_rows.load(Ordering::Relaxed)
    }

    /// About how many rows the history of keys takes, those included that are swept and not rewritten yet.
    ///
    /// # Errors
    /// [`StoreError`] if the engine fails.
    pub fn history_rows(&self) -> Result<u64, StoreError> {
        let shared = self.shared();
        Ok(shared.engine.key_count(layout::KEYS)? + shared.engine.key_count(layout::HISTORY)?)
    }

    /// The alarms that are raised, by kind and member.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.shared().alarms.read().raised().collect()
    }

    /// Returns while there are leases that have ended and whose keys are not all deleted on the engine: one member has to
    /// propose [`Command::Settle`](crate::Command::Settle) until there are none.
    pub async fn unsettled(&self) {
        loop {
            let shared = self.held();
            let mut endings = shared.endings.subscribe();
            tokio::select! {
                _ = endings.wait_for(|endings| !endings.is_empty()) => return,
                () = shared.replaced() => {}
            }
        }
    }

    /// The state that counts now. What belongs together is read from one of them.
    pub(crate) fn shared(&self) -> Guard<Arc<Shared>> {
        self.current.load()
    }

    /// As [`View::shared`], for a walk that takes a while.
    pub(crate) fn held(&self) -> Arc<Shared> {
        self.current.load_full()
    }

    /// Users, roles and permissions.
    pub fn auth(&self) -> Arc<Auth> {
        self.shared().auth.load_full()
    }

    /// Whether permissions count.
    pub fn auth_is_enabled(&self) -> bool {
        self.shared().auth.load().is_enabled()
    }

    /// How often users and roles were changed, from 1.
    pub fn auth_revision(&self) -> u64 {
        self.shared().auth.load().revision()
    }

    /// Reads on behalf of somebody: what `may` lets them read, and only if users and roles did not change meanwhile.
    ///
    /// # Errors
    /// Those of `may` and `read`, and of [`Auth::access`]; [`AuthRefusal::OldRevision`] after a change: ask again.
    pub fn read_as<T>(
        &self,
        actor: &Actor,
        may: impl FnOnce(&Access<'_>) -> Result<(), Failure>,
        read: impl FnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let auth = self.auth();
        if !auth.is_enabled() || *actor == Actor::Trusted {
            return read(self);
        }
        may(&auth.access(actor)?)?;
        let answer = read(self)?;
        if self.auth_revision() == auth.revision() { Ok(answer) } else { Err(AuthRefusal::OldRevision.into()) }
    }

    /// Whether somebody may end or renew a lease: they write all of its keys. An unknown one has none.
    ///
    /// # Errors
    /// Those of [`Auth::access`]; [`AuthRefusal::PermissionDenied`].
    pub fn may_touch_lease(&self, actor: &Actor, id: LeaseId) -> Result<(), Failure> {
        self.auth().access(actor)?.lease(id, &|id, set| self.lease_within(id, set))
    }

    /// Whether somebody may know a lease's keys: they read all of them.
    ///
    /// # Errors
    /// [`AuthRefusal::PermissionDenied`]; [`Failure::Broken`] if the disk fails.
    pub fn may_see_lease(&self, access: &Access<'_>, id: LeaseId) -> Result<(), Failure> {
        match access.read_set() {
            Some(set) if !self.lease_within(id, set)? => Err(AuthRefusal::PermissionDenied.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn lease_within(&self, id: LeaseId, set: &KeySet) -> Result<bool, Failure> {
        // What hangs on a lease that has ended is on its way out, and nobody's.
        let shared = self.shared();
        Ok(shared.lease(id).is_none() || layout::attached_within(&shared.engine, id, set, |_| false)?)
    }

    /// Where changes can be watched.
    pub fn watches(&self) -> WatchHub {
        self.hub.clone()
    }
}
