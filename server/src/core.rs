//! What all faces of a member share: proposing, confirming reads, headers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::etcdserverpb::ResponseHeader;
use raft::{ChangeError, ClusterId, MemberId, ProposeError, Raft};
use store::{
    Access, Actor, Alarm, AlarmChange, AlarmKind, Answer, AuthCommand, Command, Failure, Lessor, Range, RangeAnswer,
    Refusal, View,
};
use tokio::{
    sync::{Semaphore, SetOnce},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;
use tracing::warn;
use types::{Bug, KeyRange, Revision};

use crate::{
    Config,
    auth::{Authenticator, Caller},
    clock::Clock,
    damage::Damage,
    deadline::Deadline,
    kv::mismatched,
    machine::{self, Proposal, StateMachine},
    maintenance::change_alarm,
    metrics::{Calls, Metrics, Pending},
    peers::Links,
    space::Space,
    status::{
        auth_refused, broken, deadline_exceeded, failed, leader_changed, mesh_keys_are_reserved, not_agreed,
        not_confirmed, refused, timed_out,
    },
    upgrade::NotAgreed,
};

/// Walks over many keys that may run at once, each on a thread that may block; more wait.
const LONG_READS_MAX: usize = 64;
/// Most keys that are read on a serving thread, if memory has them: less work than to send them.
const KEYS_AT_ONCE_MAX: usize = 2_000;

/// One running member, as its faces see it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) raft: Raft<StateMachine>,
    pub(crate) view: View,
    pub(crate) space: Arc<Space>,
    /// There is a trust domain, and so a mesh whose keys only the mesh API writes.
    guards_mesh: Arc<AtomicBool>,
    pub(crate) damage: Damage,
    pub(crate) auth: Authenticator,
    pub(crate) lessor: Arc<Mutex<Lessor>>,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
    /// Owns what the faces spawn; each of them ends with its client's stream, or when `stop` is cancelled.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) calls: Arc<Calls>,
    /// Why the cluster does not let this member have its name, once it has said so.
    pub(crate) misnamed: SetOnce<ChangeError>,
    /// The way to the other members.
    pub(crate) links: Links,
    long_reads: Semaphore,
}

impl Core {
    pub(crate) fn new(
        raft: Raft<StateMachine>,
        (view, space): (View, Arc<Space>),
        guards_mesh: Arc<AtomicBool>,
        (auth, lessor): (Authenticator, Arc<Mutex<Lessor>>),
        (clock, metrics): (Clock, Arc<Metrics>),
        config: Config,
        (cluster, member, links): (ClusterId, MemberId, Links),
    ) -> Self {
        let long_reads = Semaphore::new(LONG_READS_MAX);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let calls = Arc::new(Calls::new(config.extensive_metrics));
        Self {
            raft,
            view,
            space,
            guards_mesh,
            damage: Damage::new(),
            auth,
            lessor,
            clock,
            config,
            cluster,
            member,
            tasks,
            stop,
            metrics,
            calls,
            misnamed: SetOnce::new(),
            links,
            long_reads,
        }
    }

    /// The header of an answer given at `revision`.
    pub(crate) fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader { revision: revision.get(), ..self.header_without_revision() }
    }

    /// The header of an answer that is not about the store.
    pub(crate) fn header_without_revision(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster.0,
            member_id: self.member.0,
            revision: 0,
            raft_term: self.raft.term(),
        }
    }

    /// Runs a command through the log, on the caller's behalf. `limits` are those of the face that it came by.
    pub(crate) async fn propose(
        &self,
        command: &Command,
        caller: &Caller,
        limits: &store::Limits,
    ) -> Result<Answer, Status> {
        store::validate(command, limits).map_err(|refusal| refused(&refusal))?;
        self.guard_mesh_keys(command, caller)?;
        self.guard_space(command).await?;
        let actor = if Bug::JudgedBeforeTheLog.is_planted() { self.judged(command, caller)? } else { caller.actor() };
        let proposal = Proposal::store(command, &actor);
        limits.size(&proposal.encoded()).map_err(|refusal| refused(&refusal))?;
        let pending = Pending::new(&self.metrics);
        let until = caller.until();
        let answer = self.in_time(until, self.agree(proposal, until)).await?.map_err(|error| match error {
            NotAgreed::Raft(ProposeError::Late) if until.is_some() => deadline_exceeded(),
            error => not_agreed(&error),
        })?;
        pending.answered();
        match answer {
            machine::Answer::Store(outcome) => outcome.map_err(|refusal| refused(&refusal)),
            other => unreachable!("a store command is answered by {other:?}"),
        }
    }

    /// What a member would do that judged puts and deletes before the log: whom the log need not judge any more.
    fn judged(&self, command: &Command, caller: &Caller) -> Result<Actor, Status> {
        let actor = caller.actor();
        let keys = match command {
            Command::Put(put) if !put.prev_kv => KeyRange::One(put.key.clone()),
            Command::DeleteRange(delete) if !delete.prev_kv => delete.keys.clone(),
            _ => return Ok(actor),
        };
        let judged = self.view.auth().access(&actor).and_then(|access| access.write(&keys));
        judged.map_err(auth_refused)?;
        Ok(Actor::Trusted)
    }

    /// Runs through the log what this member decided as the leader of a term; it counts in no later one.
    pub(crate) async fn propose_in_term(&self, command: &Command, term: u64) -> Result<Answer, Status> {
        let proposal = Proposal::store_in_term(command, &Actor::Trusted, term);
        let answer = self.in_time(None, self.agree(proposal, None)).await?;
        match answer.map_err(|error| not_agreed(&error))? {
            machine::Answer::Store(outcome) => outcome.map_err(|refusal| refused(&refusal)),
            machine::Answer::TermIsOver => Err(leader_changed()),
            other => unreachable!("a store command is answered by {other:?}"),
        }
    }

    /// Runs a login through the log, and returns its place there: it is part of the token.
    pub(crate) async fn agree_on_login(&self, login: AuthCommand) -> Result<Result<u64, Refusal>, Status> {
        let proposal = Proposal::store(&Command::Auth(login), &Actor::Nobody);
        let answer = self.in_time(None, self.agree(proposal, None)).await?;
        match answer.map_err(|error| not_agreed(&error))? {
            machine::Answer::Login { index } => Ok(Ok(index)),
            machine::Answer::Store(Err(refusal)) => Ok(Err(refusal)),
            machine::Answer::Store(Ok(other)) => Err(mismatched(&other)),
            other => unreachable!("a store command is answered by {other:?}"),
        }
    }

    /// Returns once this member's published state holds all that was acknowledged before the call.
    pub(crate) async fn confirm_read(&self) -> Result<(), Status> {
        self.confirm_read_until(None).await
    }

    /// The same for a call that is dropped at its deadline, if it has one.
    pub(crate) async fn confirm_read_until(&self, until: Option<Deadline>) -> Result<(), Status> {
        self.in_time(until, self.raft.read_barrier()).await?.map_err(|error| not_confirmed(&error))
    }

    /// Waits no longer than the server lets a request. A call that is dropped before that needs no timer.
    async fn in_time<T>(&self, until: Option<Deadline>, answer: impl Future<Output = T>) -> Result<T, Status> {
        match until {
            Some(Deadline(until)) if until <= Instant::now() + self.request_timeout() => Ok(answer.await),
            Some(_) | None => timeout(self.request_timeout(), answer).await.map_err(|_elapsed| timed_out()),
        }
    }

    /// Reads the published state: a single key at once, a walk where blocking hurts nobody.
    pub(crate) async fn read<T, F>(&self, is_walk: bool, read: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&View) -> Result<T, Failure> + Send + 'static,
    {
        if !is_walk {
            return read(&self.view).map_err(|failure| self.failed(&failure));
        }
        let _slot = self.long_reads.acquire().await.map_err(|_closed| timed_out())?;
        let view = self.view.clone();
        let outcome = self.space.workers().run(move || read(&view)).await;
        outcome.map_err(|error| Status::unknown(error.to_string()))?.map_err(|failure| self.failed(&failure))
    }

    /// A read that the store refused, or could not serve. Damage that it met stops the member.
    pub(crate) fn failed(&self, failure: &Failure) -> Status {
        self.damage.look_at(failure);
        failed(failure)
    }

    /// The keys of a range that an actor may read: at once if memory has them, else where blocking hurts nobody. `None` if
    /// they would take more than `bytes_max` bytes of memory that are not taken yet.
    pub(crate) async fn read_range(
        &self,
        actor: &Actor,
        range: &Range,
        bytes_max: usize,
    ) -> Result<Option<RangeAnswer>, Status> {
        let is_walk = !matches!(range.keys, KeyRange::One(_));
        if is_walk {
            let may = |access: &Access<'_>| Ok(access.read(&range.keys)?);
            let at_once = self.view.read_as(actor, may, |view| view.range_at_once(range, KEYS_AT_ONCE_MAX));
            if let Some(answer) = at_once.map_err(|failure| failed(&failure))? {
                return Ok(Some(answer));
            }
        }
        let (actor, range) = (actor.clone(), range.clone());
        self.read(is_walk, move |view| {
            let may = |access: &Access<'_>| Ok(access.read(&range.keys)?);
            view.read_as(&actor, may, |view| view.range_within(&range, bytes_max))
        })
        .await
    }

    /// How long a request may wait for the cluster.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.config.request_timeout()
    }

    /// Refuses what there is no room for, and has the alarm raised everywhere. Apply decides by the alarm alone.
    async fn guard_space(&self, command: &Command) -> Result<(), Status> {
        let has_room = || self.space.has_room_for(command).map_err(|error| broken(&error));
        if has_room()? || (self.space.reclaim_swept(&self.view).await && has_room()?) {
            return Ok(());
        }
        self.raise_no_space().await?;
        Err(refused(&Refusal::NoSpace))
    }

    /// Tells the cluster that this member has no space left, unless it was told.
    pub(crate) async fn raise_no_space(&self) -> Result<(), Status> {
        let alarm = Alarm { kind: AlarmKind::NoSpace, member: self.member.0 };
        if self.view.alarms().contains(&alarm) {
            return Ok(());
        }
        let why = if self.space.is_disk_full() { "the disk is full" } else { "the space quota is used up" };
        warn!(quota_bytes = self.space.quota_bytes(), "{why}");
        Box::pin(change_alarm(self, AlarmChange { alarm, raised: true }, &Caller::ControlPlane)).await.map(drop)
    }

    /// In a mesh, `/mesh/` is written only by those whom the mesh API has authenticated.
    fn guard_mesh_keys(&self, command: &Command, caller: &Caller) -> Result<(), Status> {
        let guarded = self.guards_mesh.load(Ordering::Relaxed) && caller.is_client();
        if guarded && self.writes_mesh_keys(command).map_err(|failure| self.failed(&failure))? {
            return Err(mesh_keys_are_reserved());
        }
        Ok(())
    }

    fn writes_mesh_keys(&self, command: &Command) -> Result<bool, Failure> {
        Ok(match command {
            Command::Put(put) => is_mesh_key(&put.key),
            Command::DeleteRange(delete) => mesh_keys().overlaps(&delete.keys),
            Command::Txn(txn) => txn_writes_mesh_keys(txn),
            Command::Compact(_)
            | Command::LeaseGrant(_)
            | Command::LeaseCheckpoint(_)
            | Command::Alarm(_)
            | Command::Settle
            | Command::Auth(_) => false,
            Command::LeaseRevoke(revoke) => {
                for &id in &revoke.ids {
                    if self.view.lease_holds_any_of(id, &mesh_keys())? {
                        return Ok(true);
                    }
                }
                false
            }
        })
    }
}

fn txn_writes_mesh_keys(txn: &store::Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        store::Op::Range(_) => false,
        store::Op::Put(put) => is_mesh_key(&put.key),
        store::Op::DeleteRange(delete) => mesh_keys().overlaps(&delete.keys),
        store::Op::Txn(txn) => txn_writes_mesh_keys(txn),
    })
}

fn mesh_keys() -> KeyRange {
    KeyRange::prefix(&b"/mesh/"[..])
}

fn is_mesh_key(key: &Bytes) -> bool {
    key.starts_with(b"/mesh/")
}
