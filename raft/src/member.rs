//! One member: its threads and tasks, from start to shutdown.

use std::{
    collections::BTreeSet,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use engine::Engine;
use openraft::{
    ServerState, SnapshotPolicy, async_runtime::watch::WatchReceiver, errors::Fatal as OpenraftFatal,
    metrics::RaftServerMetrics,
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::info;
use types::Durations;

use crate::{
    Config, Leadership, Machine, MemberId, ProposeError, RaftError, ReadError, Status,
    apply::{self, Driver},
    codec::Record,
    fatal::Fatal,
    log::{self, Closed, LogStore, Recovered},
    peers::NoPeers,
    propose::{Packer, Queue},
    read::{self, Reader},
    types::{LogId, Types},
    waiters::Waiters,
};

type Openraft = openraft::Raft<Types, Driver>;

/// A member of a cluster. Clones share it; when the last one is dropped it stops as if it had crashed, so call
/// [`Raft::shutdown`].
pub struct Raft<M: Machine>(Arc<Inner<M>>);

struct Inner<M: Machine> {
    member: MemberId,
    openraft: Openraft,
    commands: Queue<M::Answer>,
    readers: mpsc::Sender<Reader>,
    applied: watch::Receiver<Option<LogId>>,
    leadership: watch::Receiver<Leadership>,
    standing: Arc<Standing>,
    log_syncs: Arc<Durations>,
    fatal: Fatal,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Taken by the first shutdown.
    running: Mutex<Option<Running>>,
    _stop_on_drop: DropGuard,
}

/// What every request asks, kept where asking costs next to nothing.
#[derive(Default)]
struct Standing {
    term: AtomicU64,
    /// This member acts as the leader of a cluster that has no other voter: nobody else can have acknowledged anything.
    leads_alone: AtomicBool,
}

impl Standing {
    fn set(&self, leadership: Leadership, is_alone: bool) {
        self.term.store(leadership.term, Ordering::Relaxed);
        self.leads_alone.store(leadership.acting && is_alone, Ordering::Release);
    }
}

/// What ends with the member.
struct Running {
    packer: tokio::task::JoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    log: Closed,
}

impl<M: Machine> Clone for Raft<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Machine> fmt::Debug for Raft<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raft").field("member", &self.0.member).finish_non_exhaustive()
    }
}

impl<M: Machine> Raft<M> {
    /// Starts a member on the log that `log` holds; on an empty one it forms a cluster of itself alone. Returns when it
    /// leads and has applied all that is committed. `log` has [`crate::SPACES`]; it may be the machine's engine too.
    ///
    /// # Errors
    /// [`RaftError::Foreign`] if the log belongs to another member or cluster, [`RaftError::Corrupt`] if it is damaged,
    /// [`RaftError::Config`] if its cluster has other voters, which this version can not reach.
    pub async fn start(config: Config, log: Engine, machine: M) -> Result<Self, RaftError> {
        config.validate()?;
        let openraft_config = openraft_config(&config)?;
        let (machine, record, recovered) = recover(&config, log.clone(), machine).await?;
        let (fatal, tasks, stop) = (Fatal::new(), TaskTracker::new(), CancellationToken::new());

        let waiters = Arc::new(Waiters::new(config.member.0, recovered.start));
        let (driver, apply_thread, applied) = apply::driver(machine, record, Arc::clone(&waiters), fatal.clone());
        let (store, writer, closed) = LogStore::new(log, recovered, fatal.clone());
        let log_syncs = store.syncs();
        let threads = vec![
            thread("raft-log", fatal.clone(), || writer.run())?,
            thread("raft-apply", fatal.clone(), || apply_thread.run())?,
        ];

        let openraft = Openraft::new(config.member.0, openraft_config, NoPeers, store, driver).await;
        let openraft = openraft.map_err(|error| fatal.get().unwrap_or_else(|| stopped(&error)))?;
        let standing = Arc::new(Standing::default());
        let leadership = {
            let (standing, applied) = (Arc::clone(&standing), applied.clone());
            watch_leadership(&openraft, config.member, standing, applied, fatal.clone(), &tasks)
        };
        let (commands, packer) = Packer::new(&config, openraft.clone(), waiters, leadership.clone());
        let packer = tokio::spawn(packer.run(stop.clone()));
        tasks.spawn(stop_on_fatal(openraft.clone(), fatal.clone(), stop.clone()));
        let (readers, queue) = mpsc::channel(config.queue_reads_max);
        tasks.spawn(read::run(openraft.clone(), queue, stop.clone()));
        tasks.close();

        let running = Mutex::new(Some(Running { packer, threads, log: closed }));
        let stop_on_drop = stop.clone().drop_guard();
        let inner = Inner {
            member: config.member,
            openraft,
            commands,
            readers,
            applied,
            leadership,
            standing,
            log_syncs,
            fatal,
            stop,
            tasks,
            running,
            _stop_on_drop: stop_on_drop,
        };
        let raft = Self(Arc::new(inner));
        if let Err(error) = raft.take_the_lead().await {
            // Its error, if it has one, is this one.
            drop(raft.shutdown().await);
            return Err(error);
        }
        Ok(raft)
    }

    /// Has `command` agreed on and applied, and returns what it came to. Dropping the future does not take the command
    /// back, once it is packed.
    ///
    /// # Errors
    /// With [`ProposeError::Unknown`] the command may be applied or not; with any other it is not and never will be.
    pub async fn propose(&self, command: Bytes) -> Result<M::Answer, ProposeError> {
        let answer = self.0.commands.add(command)?;
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Returns when this member's state includes all that was acknowledged anywhere before the call: a read of it is then
    /// linearizable. Calls that wait at the same time share one round of questions to a quorum; a leader without other
    /// voters has nobody to ask, and acknowledges nothing before it has applied it.
    ///
    /// # Errors
    /// When this member does not lead, or can not be sure in time that it still does.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        if self.0.standing.leads_alone.load(Ordering::Acquire) && !self.0.fatal.happened() {
            return Ok(());
        }
        self.confirmed_by_quorum().await
    }

    /// Returns when this member has applied all that was committed when a quorum was asked whether it still leads.
    pub(crate) async fn confirmed_by_quorum(&self) -> Result<(), ReadError> {
        let (reader, index) = oneshot::channel();
        self.0.readers.try_send(reader).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
        })?;
        let index = index.await.map_err(|_| ReadError::Stopped)??;
        let mut applied = self.0.applied.clone();
        let applied = applied.wait_for(|applied| applied.is_some_and(|applied| applied.index >= index)).await;
        applied.map(|_| ()).map_err(|_| ReadError::Stopped)
    }

    /// What this member knows now.
    pub fn status(&self) -> Status {
        let metrics = self.0.openraft.metrics();
        let metrics = metrics.borrow_watched();
        Status {
            member: self.0.member,
            leader: metrics.current_leader.map(MemberId),
            term: metrics.current_term,
            log_index: metrics.last_log_index.unwrap_or(0),
            commit_index: metrics.local_committed.map_or(0, |committed| committed.index),
            applied_index: self.0.applied.borrow().map_or(0, |applied| applied.index),
        }
    }

    /// The term that this member is in: [`Status::term`], for the price of a load.
    pub fn term(&self) -> u64 {
        self.0.standing.term.load(Ordering::Relaxed)
    }

    /// How long writes of the log took until they were on stable storage, since the start.
    pub fn log_syncs(&self) -> &Durations {
        &self.0.log_syncs
    }

    /// Who leads, and from when on this member may act as the leader.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.clone()
    }

    /// Resolves when an error has stopped this member; never after a mere [`Raft::shutdown`]. The error is logged.
    pub async fn fatal(&self) -> RaftError {
        self.0.fatal.wait().await
    }

    /// Stops: what waits is refused, what is in flight comes to its end, threads and tasks end, and the machine and the
    /// log's engine are let go. A second call waits for the first.
    ///
    /// # Errors
    /// The error that had stopped this member before.
    pub async fn shutdown(&self) -> Result<(), RaftError> {
        let mut running = self.0.running.lock().await;
        if let Some(Running { packer, threads, log }) = running.take() {
            self.0.stop.cancel();
            // These only fail if the task panicked, which ends it as well.
            drop(packer.await);
            drop(self.0.openraft.shutdown().await);
            self.0.tasks.wait().await;
            join(threads).await;
            log.wait().await;
            info!(member = %self.0.member, "raft member shut down");
        }
        self.0.fatal.get().map_or(Ok(()), Err)
    }

    /// Forms the cluster if there is none, and leads it. There is nobody to ask: this member is its only voter.
    async fn take_the_lead(&self) -> Result<(), RaftError> {
        let Inner { openraft, member, fatal, .. } = &*self.0;
        stand(openraft, *member).await.map_err(|error| fatal.get().unwrap_or(error))?;
        let mut leadership = self.leadership();
        tokio::select! {
            error = fatal.wait() => Err(error),
            led = leadership.wait_for(|leadership| leadership.acting) => {
                let led = led.map_err(|error| stopped(&error))?;
                info!(%member, term = led.term, "raft member leads");
                Ok(())
            }
        }
    }
}

/// Stands for election at once, in a new cluster if there is none.
async fn stand(openraft: &Openraft, member: MemberId) -> Result<(), RaftError> {
    if !openraft.is_initialized().await.map_err(|error| stopped(&error))? {
        let voters = BTreeSet::from([member.0]);
        return openraft.initialize(voters).await.map_err(|error| stopped(&error));
    }
    if openraft.voter_ids().any(|voter| voter != member.0) {
        let reason = "the cluster has other voters, and this version has no transport to reach them".to_owned();
        return Err(RaftError::Config { reason });
    }
    openraft.trigger().elect(true).await.map_err(|error| stopped(&error))
}

fn stopped(reason: &impl ToString) -> RaftError {
    RaftError::Stopped { reason: reason.to_string() }
}

/// Reads and checks what is on the disk, off the async threads.
async fn recover<M: Machine>(config: &Config, log: Engine, machine: M) -> Result<(M, Record, Recovered), RaftError> {
    let config = config.clone();
    let recovery = tokio::task::spawn_blocking(move || {
        let record = apply::read_record(&machine)?;
        let recovered = log::recover(&log, &config, record.applied.as_ref())?;
        Ok((machine, record, recovered))
    });
    recovery.await.map_err(|error| stopped(&error))?
}

/// A thread without which the member can not go on: if it panics, the member stops.
fn thread(name: &'static str, fatal: Fatal, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RaftError> {
    let guarded = move || {
        if std::panic::catch_unwind(AssertUnwindSafe(body)).is_err() {
            fatal.report(RaftError::Stopped { reason: format!("thread {name} panicked") });
        }
    };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(guarded);
    spawned.map_err(|error| RaftError::Stopped { reason: format!("no thread for {name}: {error}") })
}

/// A thread catches its own panics, so that joining it can not fail.
async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    drop(joined.await);
}

/// Follows openraft until it ends, and reports why it did.
fn watch_leadership(
    openraft: &Openraft,
    member: MemberId,
    standing: Arc<Standing>,
    mut applied: watch::Receiver<Option<LogId>>,
    fatal: Fatal,
    tasks: &TaskTracker,
) -> watch::Receiver<Leadership> {
    let (sender, leadership) = watch::channel(Leadership::default());
    let (mut server, metrics) = (openraft.server_metrics(), openraft.metrics());
    tasks.spawn(async move {
        loop {
            let acting = {
                let server = server.borrow_watched();
                let now = current_leadership(&server, *applied.borrow_and_update());
                let is_alone = server.membership_config.voter_ids().all(|voter| voter == member.0);
                standing.set(now, is_alone);
                sender.send_if_modified(|before| std::mem::replace(before, now) != now);
                now.acting
            };
            tokio::select! {
                changed = server.changed() => if changed.is_err() { break },
                // Until a new leader's first entry is applied.
                Ok(()) = applied.changed(), if !acting => {}
            }
        }
        let ended = Leadership { term: sender.borrow().term, ..Leadership::default() };
        standing.set(ended, false);
        sender.send_replace(ended);
        match &metrics.borrow_watched().running_state {
            Ok(()) | Err(OpenraftFatal::Stopped) => info!(%member, "raft ended"),
            Err(error) => fatal.report(stopped(error)),
        }
    });
    leadership
}

/// A new leader's first entry follows all that earlier ones committed: once it is applied, so are they.
fn current_leadership(server: &RaftServerMetrics<Types>, applied: Option<LogId>) -> Leadership {
    let term = server.vote.leader_id.term;
    let is_current = applied.is_some_and(|applied| applied.leader_id.term == term);
    let acting = server.state == ServerState::Leader && is_current;
    Leadership { term, leader: server.current_leader.map(MemberId), acting }
}

/// Ends openraft when the member has failed anywhere, so that nothing is agreed on that can not be kept or applied.
async fn stop_on_fatal(openraft: Openraft, fatal: Fatal, stop: CancellationToken) {
    if stop.run_until_cancelled(fatal.wait()).await.is_some() {
        // It only fails if openraft's task panicked, which ends it as well.
        drop(openraft.shutdown().await);
    }
}

fn openraft_config(config: &Config) -> Result<Arc<openraft::Config>, RaftError> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let openraft_config = openraft::Config {
        cluster_name: config.cluster.to_string(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election_timeout),
        election_timeout_max: millis(config.election_timeout).saturating_mul(2),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every_entries),
        max_in_snapshot_log_to_keep: config.catch_up_entries,
        replication_lag_threshold: config.snapshot_every_entries.saturating_add(config.catch_up_entries),
        enable_pre_vote: Some(true),
        // A voter that lost its log is not to be trusted with a new one.
        allow_log_reversion: Some(false),
        // Each start leads in a term of its own.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    let valid = openraft_config.validate().map_err(|error| RaftError::Config { reason: error.to_string() })?;
    Ok(Arc::new(valid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Disk, command, config, journal::Journal};

    /// A packer beside a member's own, that is told who leads by the test.
    fn packer(openraft: &Openraft, leadership: Leadership) -> (Queue<(u64, Bytes)>, watch::Sender<Leadership>) {
        let (leader, leadership) = watch::channel(leadership);
        let waiters = Arc::new(Waiters::new(config().member.0, u64::MAX));
        let (commands, packer) = Packer::new(&config(), openraft.clone(), waiters, leadership);
        tokio::spawn(packer.run(CancellationToken::new()));
        (commands, leader)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_in_flight_when_the_lead_is_lost_has_no_known_outcome() {
        let disk = Disk::in_memory();
        let (machine, mut keeper) = Journal::new(disk.state.clone()).held();
        let raft = Raft::start(config(), disk.log.clone(), machine).await.unwrap();
        let leadership = *raft.leadership().borrow();
        let (commands, leader) = packer(&raft.0.openraft, leadership);
        let answer = commands.add(command(0)).unwrap();
        keeper.entered.recv().await.unwrap();
        leader.send_replace(Leadership { leader: Some(MemberId(0xb)), acting: false, ..leadership });
        assert_eq!(answer.await.unwrap(), Err(ProposeError::Unknown));
        drop(keeper.passes);
        raft.shutdown().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_its_peers_a_voter_appends_and_confirms_nothing() {
        let disk = Disk::in_memory();
        let (_, record, recovered) =
            recover(&config(), disk.log.clone(), Journal::new(disk.state.clone())).await.unwrap();
        let (fatal, waiters) = (Fatal::new(), Arc::new(Waiters::new(config().member.0, 1)));
        let (store, writer, closed) = LogStore::new(disk.log.clone(), recovered, fatal.clone());
        let machine = Journal::new(disk.state.clone());
        let (driver, apply_thread, _) = apply::driver(machine, record, waiters, fatal.clone());
        let threads = vec![
            thread("raft-log", fatal.clone(), || writer.run()).unwrap(),
            thread("raft-apply", fatal.clone(), || apply_thread.run()).unwrap(),
        ];
        let openraft_config = openraft_config(&config()).unwrap();
        let openraft = Openraft::new(config().member.0, openraft_config, NoPeers, store, driver).await.unwrap();
        openraft.initialize(BTreeSet::from([config().member.0, 0xb])).await.unwrap();

        let (commands, _leader) = packer(&openraft, Leadership::default());
        let answer = commands.add(command(0)).unwrap();
        assert_eq!(answer.await.unwrap(), Err(ProposeError::NotLeader { leader: None }));
        assert_eq!(read::read_index(&openraft).await, Err(ReadError::NotLeader { leader: None }));
        assert_eq!(openraft.metrics().borrow_watched().last_log_index, Some(0));

        openraft.shutdown().await.unwrap();
        join(threads).await;
        closed.wait().await;
        let refused = disk.start(config()).await.unwrap_err();
        assert!(matches!(refused, RaftError::Config { .. }), "{refused}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dropped_member_lets_go_of_its_disk() {
        let disk = Disk::in_memory();
        let raft = disk.start(config()).await.unwrap();
        raft.propose(command(0)).await.unwrap();
        let Running { threads, log, .. } = raft.0.running.lock().await.take().unwrap();
        drop(raft);
        join(threads).await;
        log.wait().await;
        let raft = disk.start(config()).await.unwrap();
        assert_eq!(raft.propose(command(1)).await, Ok((1, command(1))));
        raft.shutdown().await.unwrap();
    }
}
