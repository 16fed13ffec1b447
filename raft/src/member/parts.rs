//! What a member is made of before it takes part: its disk read, its threads running, openraft configured.

use std::{sync::Arc, time::Duration};

use engine::Engine;
use openraft::{SnapshotPolicy, StepDownPolicy};
use tokio_util::sync::CancellationToken;
use types::Durations;

use crate::{
    Config, Dialer, Machine, RaftError,
    apply::{self, Driver},
    codec::Record,
    fatal::Fatal,
    log::{self, Closed, LogStore, Recovered, Stall},
    peer::{Acquaintances, Peers},
    release::{Releases, check_age},
    threads::Threads,
    types::Openraft,
    waiters::Waiters,
};

/// What runs before openraft does.
pub(super) struct Parts<A> {
    pub(super) config: Config,
    pub(super) fatal: Fatal,
    pub(super) waiters: Arc<Waiters<A>>,
    pub(super) driver: Driver,
    pub(super) progress: apply::Progress,
    pub(super) peers: Arc<Peers>,
    pub(super) stall: Stall,
    pub(super) log_syncs: Arc<Durations>,
    pub(super) threads: Threads,
    pub(super) log: Closed,
}

pub(super) fn stopped(reason: &impl ToString) -> RaftError {
    RaftError::Stopped { reason: reason.to_string() }
}

/// Reads what is on the disk, and starts the threads that openraft works with.
pub(super) async fn prepare<M: Machine>(
    config: Config,
    log: Engine,
    machine: M,
    dialer: Arc<dyn Dialer>,
    fatal: Fatal,
) -> Result<(Parts<M::Answer>, LogStore), RaftError> {
    let workers = log.workers();
    if let Some(version) = machine.version() {
        check_age(config.release, version)?;
    }
    let (machine, record, recovered) = recover(&config, log.clone(), machine).await?;
    let waiters = Arc::new(Waiters::new(config.member.0, recovered.own.session()));
    let lives = (recovered.own.clone(), recovered.known.clone());
    let (driver, apply_thread, progress) = apply::driver(machine, record, Arc::clone(&waiters), &config, fatal.clone());
    let (store, writer, closed) = LogStore::new(log, recovered, config.append_bytes_max, fatal.clone());
    let releases = Releases::new(config.release, progress.version.clone());
    let acquaintances = {
        let (who, roster) = ((config.cluster, config.member), progress.roster.clone());
        Arc::new(Acquaintances::new(who, lives, releases, store.notes(), roster, fatal.clone()))
    };
    let ways = (dialer, workers);
    let peers = Arc::new(Peers::new(acquaintances, config.clone(), ways, progress.roster.clone()));
    let (stall, log_syncs) = (store.stall(), store.syncs());
    let mut threads = Threads::new(workers);
    threads.start("raft-log", fatal.clone(), |idle| writer.run(idle))?;
    threads.start("raft-apply", fatal.clone(), |idle| apply_thread.run(idle))?;
    let parts = Parts { config, fatal, waiters, driver, progress, peers, stall, log_syncs, threads, log: closed };
    Ok((parts, store))
}

/// Reads and checks what is on the disk, off the async threads.
async fn recover<M: Machine>(config: &Config, log: Engine, machine: M) -> Result<(M, Record, Recovered), RaftError> {
    let config = config.clone();
    let recovery = log.workers().run(move || {
        let record = apply::read_record(&machine)?;
        let mut recovered = log::recover(&log, &config, record.applied.as_ref())?;
        log::force(&log, &config, &record, &mut recovered)?;
        Ok((machine, record, recovered))
    });
    recovery.await.map_err(|error| stopped(&error))?
}

/// Ends openraft when the member has failed anywhere, so that nothing is agreed on that can not be kept or applied.
pub(super) async fn stop_on_fatal(openraft: Openraft, fatal: Fatal, stop: CancellationToken) {
    if stop.run_until_cancelled(fatal.wait()).await.is_some() {
        // It only fails if openraft's task panicked, which ends it as well.
        drop(openraft.shutdown().await);
        stop.cancel();
    }
}

pub(super) fn openraft_config(config: &Config) -> Result<Arc<openraft::Config>, RaftError> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let openraft_config = openraft::Config {
        cluster_name: config.cluster.to_string(),
        heartbeat_interval: millis(config.heartbeat),
        // A follower waits for the lease, which is the longer of these, and then for a time between them: the wider apart
        // they are, the sooner the first of several follows a leader that is gone, and the more rarely two do at once.
        election_timeout_min: millis((config.election_timeout / 8).max(config.heartbeat * 5 / 4)),
        election_timeout_max: millis(config.election_timeout / 2),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_every_entries),
        max_in_snapshot_log_to_keep: config.catch_up_entries,
        replication_lag_threshold: config.snapshot_every_entries.saturating_add(config.catch_up_entries),
        max_payload_entries: 64,
        removed_leader_step_down: StepDownPolicy::After(millis(config.heartbeat)),
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
