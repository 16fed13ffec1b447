//! The space that keys take: how much there is, how it comes back.
//!
//! - What may grow is admitted by an estimate that costs nothing, and by a true measurement once the estimate says no.
//! - There are two bounds: the quota, which counts living data, and the disk, which others fill too. Beyond either nothing may
//!   grow, and all else goes on.
//! - Space comes back by itself: what sweeps left behind is rewritten when it is worth it, and at once when space is out.
//!   Reads and writes go on meanwhile.

mod disk;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use engine::{EngineError, Home, Workers};
use store::{Command, Op, Put, PutValue, Store, Txn, View};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::disk::Disk;
use crate::core::Core;

/// The quota that 0 stands for. Source: etcd `DefaultQuotaBytes`.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// What a key costs beside its bytes. Source: etcd `kvOverhead`.
const KEY_OVERHEAD_BYTES: u64 = 256;
/// What a lease costs. Source: etcd `leaseOverhead`.
const LEASE_OVERHEAD_BYTES: u64 = 64;
/// Between two measurements while something is written.
const TICK: Duration = Duration::from_secs(1);
/// How long a request waits for space to be reclaimed; the rewriting goes on after that.
const RECLAIM_WAIT: Duration = Duration::from_secs(1);
/// How often what is written takes its bytes of the disk: log and state, each first as it comes and then in order.
const COPIES: u64 = 4;
/// Fewer swept rows are never worth a rewriting of their own.
const SWEPT_ROWS_MIN: u64 = 20_000;

/// The member's space.
#[derive(Debug)]
pub(crate) struct Space {
    home: Home,
    /// None is a disk without bounds.
    disks: Vec<Disk>,
    quota_bytes: Option<u64>,
    measured_bytes: AtomicU64,
    /// What the fullest disk had room for at the measurement.
    disk_room: AtomicU64,
    /// Cost of what was admitted since the measurement.
    admitted_bytes: AtomicU64,
    /// Somebody is rewriting.
    reclaiming: AtomicBool,
    reclaimed: Notify,
    reclaimed_rows: AtomicU64,
}

impl Space {
    /// `folders` are on the disks that count. `quota_bytes` is the flag's: 0 is the default, below 0 is no quota.
    pub(crate) fn new(home: Home, folders: Vec<PathBuf>, quota_bytes: i64) -> Result<Self, EngineError> {
        let quota_bytes = match quota_bytes {
            0 => Some(QUOTA_BYTES_DEFAULT),
            bytes => u64::try_from(bytes).ok(),
        };
        let space = Self {
            home,
            disks: folders.into_iter().map(Disk::new).collect(),
            quota_bytes,
            measured_bytes: AtomicU64::new(0),
            disk_room: AtomicU64::new(u64::MAX),
            admitted_bytes: AtomicU64::new(0),
            reclaiming: AtomicBool::new(false),
            reclaimed: Notify::new(),
            reclaimed_rows: AtomicU64::new(0),
        };
        space.measure()?;
        Ok(space)
    }

    /// Whether there is room for a command. One that cannot grow always has.
    ///
    /// # Errors
    /// If the engine cannot be asked.
    pub(crate) fn has_room_for(&self, command: &Command) -> Result<bool, EngineError> {
        let cost = cost(command);
        if cost == 0 {
            return Ok(true);
        }
        let fits = |measured: u64, admitted: u64| {
            self.quota_bytes.is_none_or(|quota| measured + admitted < quota)
                && COPIES * admitted < self.disk_room.load(Ordering::Relaxed)
        };
        let admitted = self.admitted_bytes.fetch_add(cost, Ordering::Relaxed) + cost;
        Ok(fits(self.measured_bytes.load(Ordering::Relaxed), admitted) || fits(self.measure()?, cost))
    }

    /// Whether nothing is left of the disk but what is kept back, as of the last measurement.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_room.load(Ordering::Relaxed) == 0
    }

    /// Bytes that keys and their history take, as the engine knows it now. Looks at the disks, too.
    pub(crate) fn measure(&self) -> Result<u64, EngineError> {
        let bytes = self.home.engine().live_bytes(Store::SPACES)?;
        let rooms = self.disks.iter().map(Disk::room);
        let rooms = rooms
            .filter_map(|room| room.inspect_err(|error| warn!(%error, "cannot tell how much room a disk has")).ok());
        self.disk_room.store(rooms.min().unwrap_or(u64::MAX), Ordering::Relaxed);
        self.admitted_bytes.store(0, Ordering::Relaxed);
        self.measured_bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Where reads go that wait for the disk.
    pub(crate) fn workers(&self) -> Workers {
        self.home.engine().workers()
    }

    /// Bytes that everything takes on this member's disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.home.engine().disk_bytes()
    }

    /// The quota; `None` is no bound.
    pub(crate) fn quota_bytes(&self) -> Option<u64> {
        self.quota_bytes
    }

    /// Rewrites what sweeps left behind, on a thread of its own, and returns when that is done. One at a time: a second
    /// caller waits for the first.
    pub(crate) async fn reclaim(self: &Arc<Self>, view: &View) {
        let done = self.reclaimed.notified();
        if !self.reclaiming.swap(true, Ordering::AcqRel) {
            let (workers, space, view) = (self.workers(), Arc::clone(self), view.clone());
            // Owned by the engine: it ends early when that is told to rest.
            drop(tokio::spawn(workers.run(move || space.rewrite(&view))));
        }
        done.await;
    }

    /// Reclaims what was swept and not rewritten yet, for as long as a request may wait for it. Returns whether there
    /// was any.
    pub(crate) async fn reclaim_swept(self: &Arc<Self>, view: &View) -> bool {
        let is_any = self.swept_rows(view) > 0;
        if is_any {
            let _elapsed = timeout(RECLAIM_WAIT, self.reclaim(view)).await.is_err();
        }
        is_any
    }

    /// Rows swept since the last rewriting.
    fn swept_rows(&self, view: &View) -> u64 {
        view.swept_rows() - self.reclaimed_rows.load(Ordering::Relaxed)
    }

    fn rewrite(&self, view: &View) {
        let rows = view.swept_rows();
        match self.home.engine().reclaim(Store::SPACES).and_then(|()| self.measure()) {
            Ok(bytes) => info!(bytes, "space of compacted history reclaimed"),
            Err(error) => warn!(%error, "cannot reclaim the space of compacted history"),
        }
        self.reclaimed_rows.store(rows, Ordering::Relaxed);
        self.reclaiming.store(false, Ordering::Release);
        self.reclaimed.notify_waiters();
    }

    /// Rewriting costs as much as there is to keep, so it waits until about as much was swept, or space is out.
    fn is_worth_reclaiming(&self, view: &View) -> bool {
        let swept = self.swept_rows(view);
        let is_out =
            self.quota_bytes.is_some_and(|quota| self.measured_bytes.load(Ordering::Relaxed) >= quota / 10 * 9);
        let kept = view.history_rows().unwrap_or(u64::MAX);
        swept > 0 && (is_out || swept >= (kept / 2).max(SWEPT_ROWS_MIN))
    }
}

/// Measures, has the alarm raised when the disk is full, and reclaims what is worth it, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let (space, view) = (&core.space, &core.view);
    let keep = async {
        loop {
            sleep(TICK).await;
            if let Err(error) = space.measure() {
                warn!(%error, "cannot measure the space that keys take");
            }
            if space.is_disk_full()
                && let Err(error) = core.raise_no_space().await
            {
                warn!(error = error.message(), "cannot tell the cluster that the disk is full");
            }
            if space.is_worth_reclaiming(view) {
                view.swept().await;
                space.reclaim(view).await;
            }
        }
    };
    stop.run_until_cancelled(keep).await;
}

/// What a command may add, bytes. Source: etcd `server/storage/quota.go`.
fn cost(command: &Command) -> u64 {
    match command {
        Command::Put(put) => put_cost(put),
        Command::Txn(txn) => txn_cost(txn),
        Command::LeaseGrant(_) => LEASE_OVERHEAD_BYTES,
        _ => 0,
    }
}

fn put_cost(put: &Put) -> u64 {
    let value_bytes = if let PutValue::Set(value) = &put.value { value.len() } else { 0 };
    KEY_OVERHEAD_BYTES + (put.key.len() + value_bytes) as u64
}

/// The costlier branch, whatever is nested in it included.
fn txn_cost(txn: &Txn) -> u64 {
    let branch_cost = |ops: &[Op]| -> u64 {
        let op_cost = |op: &Op| match op {
            Op::Put(put) => put_cost(put),
            Op::Txn(txn) => txn_cost(txn),
            Op::Range(_) | Op::DeleteRange(_) => 0,
        };
        ops.iter().map(op_cost).sum()
    };
    branch_cost(&txn.success).max(branch_cost(&txn.failure))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use store::{DeleteRange, PutLease};
    use types::KeyRange;

    use super::*;

    fn put(value_bytes: usize) -> Put {
        let value = PutValue::Set(vec![b'v'; value_bytes].into());
        Put { key: Bytes::from_static(b"key"), value, lease: PutLease::Set(None), prev_kv: false }
    }

    #[test]
    fn a_command_costs_what_it_may_add() {
        let delete = DeleteRange { keys: KeyRange::all(), prev_kv: false };
        let nested = Txn { success: vec![Op::Put(put(100))], ..Txn::default() };
        let cases = [
            (Command::Put(put(10)), 256 + 3 + 10),
            (Command::DeleteRange(delete.clone()), 0),
            (Command::Txn(Txn { success: vec![Op::DeleteRange(delete)], ..Txn::default() }), 0),
            (
                Command::Txn(Txn { success: vec![Op::Put(put(1))], failure: vec![Op::Put(put(9))], ..Txn::default() }),
                268,
            ),
            (Command::Txn(Txn { failure: vec![Op::Put(put(0)), Op::Txn(nested)], ..Txn::default() }), 259 + 359),
        ];
        for (command, expected) in cases {
            assert_eq!(cost(&command), expected, "{command:?}");
        }
    }

    #[test]
    fn the_quota_bounds_what_was_admitted_and_what_is_there() {
        let space = |quota| Space::new(Home::in_memory(Store::SPACES), vec![], quota).expect("an engine");
        let one = Command::Put(put(741));
        let bounded = space(2500);
        assert!(bounded.has_room_for(&one).expect("asked"));
        assert!(bounded.has_room_for(&one).expect("asked"));
        assert!(bounded.has_room_for(&one).expect("asked"), "nothing of it is on the engine: measured and found free");
        assert!(!space(1000).has_room_for(&one).expect("asked"));
        assert!(space(-1).has_room_for(&one).expect("asked"));
        assert_eq!(space(0).quota_bytes(), Some(2 << 30));
    }
}
