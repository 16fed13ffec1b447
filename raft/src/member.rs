//! One member: its threads and tasks, from start to shutdown.

mod parts;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use engine::Engine;
use openraft::{Instant as _, async_runtime::watch::WatchReceiver, metrics::RaftMetrics};
use proto::peer::peer_server::{Peer, PeerServer};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{info, warn};
use types::{Bug, Durations, Release};

use crate::{
    ChangeError, Config, Dialer, Leadership, Machine, Member, MemberId, Node, Progress, ProposeError, RaftError,
    ReadError, Status, apply,
    change::{Change, Changes},
    duties::Duties,
    fatal::Fatal,
    log::Closed,
    member::parts::{Parts, openraft_config, prepare, stop_on_fatal, stopped},
    node::Roster,
    peer::{self, Acquaintances, Contacts, Network, Receiving, Service},
    propose::{Packer, Queue},
    read::{Reader, Rounds},
    standing::{Standing, watch_leadership},
    threads::Threads,
    types::{LogId, Openraft, Types},
};

/// A member of a cluster. Clones share it; when the last one is dropped it stops as if it had crashed, so call
/// [`Raft::shutdown`].
pub struct Raft<M: Machine>(Arc<Inner<M>>);

struct Inner<M: Machine> {
    member: MemberId,
    openraft: Openraft,
    commands: Queue<M::Answer>,
    readers: mpsc::Sender<Reader>,
    applied: watch::Receiver<Option<LogId>>,
    roster: watch::Receiver<Arc<Roster>>,
    leadership: watch::Receiver<Leadership>,
    standing: Arc<Standing>,
    election_timeout: Duration,
    changes: Arc<Changes>,
    contacts: Arc<Contacts>,
    acquaintances: Arc<Acquaintances>,
    service: Service,
    log_syncs: Arc<Durations>,
    fatal: Fatal,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Taken by the first shutdown.
    running: Mutex<Option<Running>>,
    _stop_on_drop: DropGuard,
}

/// What ends with the member.
struct Running {
    packer: tokio::task::JoinHandle<()>,
    threads: Threads,
    log: Closed,
}

impl<M: Machine> Inner<M> {
    /// Whether `leader`, the last that this member knows of, is one still: a leader by the answers of a quorum, another
    /// member by having called it. openraft keeps a leader's name until it hears of the next.
    fn is_in_touch(&self, leader: u64, metrics: &RaftMetrics<Types>) -> bool {
        // An election begins after one timeout, or up to two.
        let lately = self.election_timeout * 2;
        if leader != self.member.0 {
            return self.standing.has_heard(metrics.current_term, lately);
        }
        let is_alone = metrics.membership_config.voter_ids().all(|voter| voter == leader);
        is_alone || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < lately)
    }
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
    /// Starts a member on the log that `log` holds; on an empty one it does what [`Config::formation`] says. The only
    /// voter of a cluster returns when it leads and has applied all that is committed; one among others returns as soon
    /// as it takes part: mount [`Raft::service`] then, and wait for [`Raft::leadership`] or [`Raft::read_barrier`].
    /// `log` has [`crate::SPACES`]; it may be the machine's engine too.
    ///
    /// # Errors
    /// [`RaftError::Foreign`] if the log belongs to another member or cluster, [`RaftError::Corrupt`] if it is damaged.
    pub async fn start(config: Config, log: Engine, machine: M, dialer: Arc<dyn Dialer>) -> Result<Self, RaftError> {
        config.validate()?;
        let openraft_config = openraft_config(&config)?;
        let fatal = Fatal::new();
        let (parts, store) = prepare(config, log, machine, dialer, fatal.clone()).await?;
        let network = Network::new(Arc::clone(&parts.peers), parts.driver.clone(), store.purged());
        let member = parts.config.member;
        let openraft = Openraft::new(member.0, openraft_config, network, store, parts.driver.clone()).await;
        let openraft = openraft.map_err(|error| fatal.get().unwrap_or_else(|| stopped(&error)))?;
        let founders = parts.config.founders()?;
        let raft = Self::run(parts, openraft);
        if let Err(error) = raft.take_part(founders).await {
            // Its error, if it has one, is this one.
            drop(raft.shutdown().await);
            return Err(error);
        }
        Ok(raft)
    }

    /// Starts what works around openraft.
    fn run(parts: Parts<M::Answer>, openraft: Openraft) -> Self {
        let Parts { config, fatal, waiters, driver, progress, peers, stall, log_syncs, threads, log } = parts;
        let apply::Progress { applied, roster, version: _ } = progress;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let standing = Arc::new(Standing::new(config.member));
        let leadership = watch_leadership(&openraft, Arc::clone(&standing), applied.clone(), fatal.clone(), &tasks);
        let (commands, packer) = {
            let (standing, peers) = (Arc::clone(&standing), Arc::clone(&peers));
            Packer::new(&config, openraft.clone(), waiters, leadership.clone(), standing, peers)
        };
        let packer = tokio::spawn(packer.run(stop.clone()));
        tasks.spawn(stop_on_fatal(openraft.clone(), fatal.clone(), stop.clone()));

        let (readers, queue) = mpsc::channel(config.queue_reads_max);
        let rounds = Rounds {
            raft: openraft.clone(),
            member: config.member,
            leadership: leadership.clone(),
            peers: Arc::clone(&peers),
        };
        tasks.spawn(rounds.run(queue, stop.clone()));
        let contacts = Arc::new(Contacts::default());
        let greeting = peer::greet(Arc::clone(&peers), openraft.server_metrics(), Arc::clone(&contacts), stop.clone());
        tasks.spawn(greeting);
        let changes = Arc::new(Changes {
            config: config.clone(),
            raft: openraft.clone(),
            standing: Arc::clone(&standing),
            leadership: leadership.clone(),
            roster: roster.clone(),
            peers: Arc::clone(&peers),
            one_at_a_time: Mutex::default(),
        });
        let duties = Duties {
            config: config.clone(),
            changes: Arc::clone(&changes),
            stall,
            roster: roster.clone(),
            fatal: fatal.clone(),
        };
        tasks.spawn(duties.run(stop.clone()));
        tasks.close();

        let (member, election_timeout) = (config.member, config.election_timeout);
        let service = Service::new(peer::Inner {
            config,
            raft: openraft.clone(),
            driver: driver.downgrade(),
            acquaintances: Arc::clone(&peers.acquaintances),
            readers: readers.clone(),
            changes: Arc::clone(&changes),
            leadership: leadership.clone(),
            applied: applied.clone(),
            standing: Arc::clone(&standing),
            receiving: Receiving::new(peers.workers),
        });
        let running = Mutex::new(Some(Running { packer, threads, log }));
        let stop_on_drop = stop.clone().drop_guard();
        Self(Arc::new(Inner {
            member,
            openraft,
            commands,
            readers,
            applied,
            roster,
            leadership,
            standing,
            election_timeout,
            changes,
            contacts,
            acquaintances: Arc::clone(&peers.acquaintances),
            service,
            log_syncs,
            fatal,
            stop,
            tasks,
            running,
            _stop_on_drop: stop_on_drop,
        }))
    }

    /// `meshstore.peer.v1.Peer`, to be mounted where the other members' [`Dialer`] leads them. Whoever reaches it must
    /// have been authenticated as a member of this cluster; who it says it is is checked here. Mount it until the member
    /// was shut down.
    pub fn service(&self) -> PeerServer<impl Peer + Clone> {
        self.0.service.clone().server()
    }

    /// Has `command` agreed on and applied, and returns what it came to. Any member does, whoever leads. Dropping the
    /// future does not take the command back, once it is packed.
    ///
    /// # Errors
    /// With [`ProposeError::Unknown`] the command may be applied or not; with any other it is not and never will be.
    pub async fn propose(&self, command: Bytes) -> Result<M::Answer, ProposeError> {
        self.propose_until(command, None).await
    }

    /// As [`Raft::propose`], for a caller who waits until then and no longer, and drops the future by itself: after that
    /// the command is not packed, and is sent to no leader. It may be in a log by then, and be applied later.
    ///
    /// # Errors
    /// As [`Raft::propose`].
    pub async fn propose_until(&self, command: Bytes, until: Option<Instant>) -> Result<M::Answer, ProposeError> {
        let answer = self.0.commands.add(command, until)?;
        answer.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Returns when this member's state includes all that was acknowledged anywhere before the call: a read of it is then
    /// linearizable. Any member does: calls that wait at the same time share one question to the leader, and one of the
    /// leader to a quorum. A leader without other voters has nobody to ask, and acknowledges nothing before it has applied
    /// it.
    ///
    /// # Errors
    /// When there is no leader, or it can not be sure in time that it still leads.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        let is_alone = self.0.standing.leads_alone() || Bug::ReadWithoutQuorum.is_planted();
        if is_alone && !self.0.fatal.happened() {
            return Ok(());
        }
        self.confirmed_by_quorum().await
    }

    /// Returns when this member has applied all that was committed when a quorum was asked whether the leader still leads.
    pub(crate) async fn confirmed_by_quorum(&self) -> Result<(), ReadError> {
        let (reader, index) = oneshot::channel();
        self.0.readers.try_send(reader).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
        })?;
        let index = index.await.map_err(|_| ReadError::Stopped)??;
        if Bug::ReadBeforeApplied.is_planted() {
            return Ok(());
        }
        let mut applied = self.0.applied.clone();
        let applied = applied.wait_for(|applied| applied.is_some_and(|applied| applied.index >= index)).await;
        applied.map(|_| ()).map_err(|_| ReadError::Stopped)
    }

    /// What this member knows now.
    pub fn status(&self) -> Status {
        let metrics = self.0.openraft.metrics();
        let metrics = metrics.borrow_watched();
        // openraft may tell of an entry after it is applied.
        let applied_index = self.0.applied.borrow().map_or(0, |applied| applied.index);
        let commit_index = metrics.local_committed.map_or(0, |committed| committed.index).max(applied_index);
        Status {
            member: self.0.member,
            leader: metrics.current_leader.filter(|leader| self.0.is_in_touch(*leader, &metrics)).map(MemberId),
            term: metrics.current_term,
            log_index: metrics.last_log_index.unwrap_or(0).max(commit_index),
            commit_index,
            applied_index,
        }
    }

    /// Whether this member is in the cluster and has no vote, for the price of a load.
    pub fn is_learner(&self) -> bool {
        self.0.standing.is_learner()
    }

    /// The term that this member is in: [`Status::term`], for the price of a load.
    pub fn term(&self) -> u64 {
        self.0.standing.term()
    }

    /// The cluster's version as of the last entry applied here: see [`Machine::version`].
    pub fn version(&self) -> Option<Release> {
        self.0.acquaintances.releases.version()
    }

    /// The members as of the last entry applied here, in the order of their ids. Empty on a member that waits to be added.
    pub fn members(&self) -> Vec<Member> {
        self.0.roster.borrow().members()
    }

    /// Whether a change of voters is under way, as far as this member has heard: until it is complete, a quorum of those
    /// before and one of those after it are needed.
    pub fn is_changing_voters(&self) -> bool {
        self.0.changes.metrics().membership_config.get_joint_config().len() > 1
    }

    /// How the other members are, in the order of their ids.
    pub fn progress(&self) -> Vec<Progress> {
        let metrics = self.0.changes.metrics();
        let contacts = self.0.contacts.last();
        let others = metrics.membership_config.nodes().map(|(member, _)| *member);
        let others = others.filter(|member| *member != self.0.member.0);
        others
            .map(|member| {
                let matched = metrics.replication.as_ref().and_then(|matched| matched.get(&member).copied());
                let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&member).copied().flatten());
                let contact = contacts.get(&member);
                Progress {
                    member: MemberId(member),
                    matched: matched.map(|matched| matched.map_or(0, |matched| matched.index)),
                    last_contact: heard.map(|heard| heard.elapsed()),
                    round_trip: contact.map(|contact| contact.round_trip),
                    applied_index: contact.map(|contact| contact.applied_index),
                    release: self.0.acquaintances.releases.of(MemberId(member)),
                }
            })
            .collect()
    }

    /// How long the other members took to answer when they were greeted, every ten seconds since this one started.
    pub fn round_trips(&self) -> Vec<(MemberId, Arc<Durations>)> {
        self.0.contacts.round_trips().into_iter().map(|(member, taken)| (MemberId(member), taken)).collect()
    }

    /// Adds a member without a vote, which may start with [`crate::Formation::Join`] then, or before. Returns when this
    /// member has applied the change, as all changes do; any member takes them.
    ///
    /// # Errors
    /// See [`ChangeError`]: with [`ChangeError::Unknown`] it may have been made.
    pub async fn add_learner(&self, member: MemberId, node: Node) -> Result<(), ChangeError> {
        self.0.changes.make(Change::AddLearner(member, node)).await
    }

    /// Gives a learner a vote, once it has nine tenths of the leader's log.
    ///
    /// # Errors
    /// See [`ChangeError`]: with [`ChangeError::Unknown`] it may have been made.
    pub async fn promote(&self, member: MemberId) -> Result<(), ChangeError> {
        self.0.changes.make(Change::Promote(member)).await
    }

    /// Removes a member for good, the leader too: it hands over first. A member that hears of its removal stops.
    ///
    /// # Errors
    /// See [`ChangeError`]: with [`ChangeError::Unknown`] it may have been made.
    pub async fn remove(&self, member: MemberId) -> Result<(), ChangeError> {
        self.0.changes.make(Change::Remove(member)).await
    }

    /// Changes what is known of a member beside its id.
    ///
    /// # Errors
    /// See [`ChangeError`]: with [`ChangeError::Unknown`] it may have been made.
    pub async fn update(&self, member: MemberId, node: Node) -> Result<(), ChangeError> {
        self.0.changes.make(Change::Update(member, node)).await
    }

    /// Has `member` take the lead; returns when it is no longer with who had it.
    ///
    /// # Errors
    /// See [`ChangeError`]: with [`ChangeError::Unknown`] somebody will lead soon.
    pub async fn transfer(&self, member: MemberId) -> Result<(), ChangeError> {
        self.0.changes.make(Change::Transfer(member)).await
    }

    /// Takes out of the log what is applied by now, so that a member that joins is given the machine's state. A machine
    /// whose state began with something that no log has made needs this once, before anybody joins: the log alone would
    /// make another state of it.
    ///
    /// # Errors
    /// What has stopped this member.
    pub async fn forget_log(&self) -> Result<(), RaftError> {
        let openraft = &self.0.openraft;
        // openraft's metrics may have nothing of it yet.
        let Some(applied) = *self.0.applied.borrow() else { return Ok(()) };
        let ended = |reason: String| self.0.fatal.get().unwrap_or_else(|| stopped(&reason));
        openraft.trigger().snapshot().await.map_err(|error| ended(error.to_string()))?;
        let all = openraft.wait(None);
        let durable = all.metrics(|metrics| metrics.snapshot >= Some(applied), "the state is durable").await;
        durable.map_err(|error| ended(error.to_string()))?;
        openraft.trigger().purge_log(applied.index).await.map_err(|error| ended(error.to_string()))?;
        let purged = all.metrics(|metrics| metrics.purged >= Some(applied), "the log is purged").await;
        purged.map(drop).map_err(|error| ended(error.to_string()))
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

    /// Stops: what waits is refused, what is in flight comes to its end, the lead is handed over if there is somebody to
    /// take it, threads and tasks end, and the machine and the log's engine are let go. A second call waits for the first.
    ///
    /// # Errors
    /// The error that had stopped this member before.
    pub async fn shutdown(&self) -> Result<(), RaftError> {
        let mut running = self.0.running.lock().await;
        if let Some(Running { packer, threads, log }) = running.take() {
            self.0.stop.cancel();
            // These only fail if the task panicked, which ends it as well.
            drop(packer.await);
            self.hand_over().await;
            drop(self.0.openraft.shutdown().await);
            self.0.tasks.wait().await;
            threads.ended().await;
            log.wait().await;
            info!(member = %self.0.member, "raft member shut down");
        }
        self.0.fatal.get().map_or(Ok(()), Err)
    }

    async fn hand_over(&self) {
        if !self.0.leadership.borrow().acting || self.0.fatal.happened() {
            return;
        }
        match self.0.changes.hand_over().await {
            Ok(Some(to)) => info!(%to, "handed over the lead"),
            Ok(None) => {}
            Err(error) => warn!(%error, "the lead was not handed over"),
        }
    }

    /// Forms the cluster if that is to be done. The only voter of a cluster stands for election at once: there is nobody
    /// to ask.
    async fn take_part(&self, founders: Option<BTreeMap<u64, Node>>) -> Result<(), RaftError> {
        let Inner { openraft, member, fatal, .. } = &*self.0;
        let failed = |error: RaftError| fatal.get().unwrap_or(error);
        let is_new = !openraft.is_initialized().await.map_err(|error| failed(stopped(&error)))?;
        if is_new && let Some(founders) = founders {
            openraft.initialize(founders).await.map_err(|error| failed(stopped(&error)))?;
        }
        let voters: Vec<u64> = {
            // The metrics may not show it yet.
            let voters = openraft.with_raft_state(|state| state.membership_state.effective().voter_ids().collect());
            voters.await.map_err(|error| failed(stopped(&error)))?
        };
        if voters != [member.0] {
            info!(%member, voters = voters.len(), "raft member takes part");
            return Ok(());
        }
        openraft.trigger().elect(true).await.map_err(|error| failed(stopped(&error)))?;
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

/// What only this room's tests ask.
#[cfg(test)]
impl<M: Machine> Raft<M> {
    pub(crate) fn openraft(&self) -> &Openraft {
        &self.0.openraft
    }

    /// The sets of voters of the membership that is in effect.
    pub(crate) fn voter_sets(&self) -> Vec<std::collections::BTreeSet<u64>> {
        self.0.changes.metrics().membership_config.get_joint_config().clone()
    }

    /// What is remembered of all members, this one first.
    pub(crate) fn known(&self) -> Vec<(u64, crate::life::Known)> {
        self.0.acquaintances.all()
    }

    pub(crate) fn acquaintances(&self) -> &Acquaintances {
        &self.0.acquaintances
    }

    /// The members that answered the last greeting.
    pub(crate) fn greeted(&self) -> usize {
        self.0.contacts.last().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Disk, command, config};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dropped_member_lets_go_of_its_disk() {
        let disk = Disk::in_memory();
        let raft = disk.start(config()).await.unwrap();
        raft.propose(command(0)).await.unwrap();
        let Running { threads, log, .. } = raft.0.running.lock().await.take().unwrap();
        drop(raft);
        threads.ended().await;
        log.wait().await;
        let raft = disk.start(config()).await.unwrap();
        assert_eq!(raft.propose(command(1)).await, Ok((1, command(1))));
        raft.shutdown().await.unwrap();
    }
}
