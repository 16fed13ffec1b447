//! From many callers' commands to few entries.
//!
//! Owns: the commands that wait, and the entries that are on their way to a leader.
//! In:   commands from [`crate::Raft::propose`].
//! Out:  entries to openraft if this member leads, to the leader if another one does; callers to [`Waiters`].
//!
//! - An entry is packed only when one of the places in flight is free, so that a busy disk makes entries larger.
//! - An entry goes to the leader of one term. It is sent again only when it is certain that it was not appended, so that
//!   no command is applied twice; a change of leaders costs its callers time, and nothing else.
//! - What nobody waits for any more is not packed, and not sent: a caller says until when it waits. Each entry carries to its
//!   leader when the first of its callers stops to wait, and is not appended after that.
//! - Nobody waits longer than [`Config::patience`]: without a leader the callers are told so, and without an answer, that
//!   the outcome is unknown.

mod path;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use openraft::{errors::ClientWriteError, impls::ProgressResponder, vote::leader_id_std::CommittedLeaderId};
use proto::peer::ForwardOutcome;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, mpsc::error::TrySendError, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use types::Bug;

use self::path::{Path, Sent};
use crate::{
    Config, Leadership, ProposeError,
    peer::Peers,
    standing::Standing,
    types::{Openraft, Proposal},
    waiters::{Caller, Waiters, Waiting, Whereabouts},
};

/// A command and the caller who waits for its answer.
struct Queued<A> {
    command: Bytes,
    caller: Caller<A>,
    /// The command's bytes of those that may wait.
    _room: OwnedSemaphorePermit,
}

/// Where commands wait to be packed, bounded in number and in bytes.
pub(crate) struct Queue<A> {
    commands: mpsc::Sender<Queued<A>>,
    room: Arc<Semaphore>,
    command_bytes_max: usize,
    patience: Duration,
}

impl<A> Queue<A> {
    /// Adds a command at the end, if there is room, and gives where its answer will come. Its caller waits `until` then,
    /// and no longer than all are patient.
    pub(crate) fn add(
        &self,
        command: Bytes,
        until: Option<Instant>,
    ) -> Result<oneshot::Receiver<Result<A, ProposeError>>, ProposeError> {
        let too_large = ProposeError::TooLarge { bytes: command.len(), bytes_max: self.command_bytes_max };
        let bytes = u32::try_from(command.len()).ok().filter(|_| command.len() <= self.command_bytes_max);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes.ok_or(too_large)?);
        let room = room.map_err(|_| ProposeError::Busy)?;
        let patience = Instant::now() + self.patience;
        let (caller, answer) = Caller::new(until.map_or(patience, |until| until.min(patience)));
        match self.commands.try_send(Queued { command, caller, _room: room }) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(ProposeError::Busy),
            Err(TrySendError::Closed(_)) => Err(ProposeError::Stopped),
        }
    }
}

/// Packs what is queued into entries until it is stopped.
pub(crate) struct Packer<A> {
    raft: Openraft,
    queue: mpsc::Receiver<Queued<A>>,
    /// Taken from the queue already, to see how long it has waited.
    head: Option<Queued<A>>,
    waiters: Arc<Waiters<A>>,
    leadership: watch::Receiver<Leadership>,
    standing: Arc<Standing>,
    limits: Limits,
    slots: Arc<Semaphore>,
    path: Path,
    /// The next entry's.
    sequence: u64,
    /// The entries that were packed and may have to be sent again, by sequence.
    packed: BTreeMap<u64, (Proposal, Instant)>,
    /// Those that are to be sent again.
    again: VecDeque<u64>,
    /// When to do that, after a leader refused them that is still the leader.
    again_at: Instant,
    /// What openraft has to say of the entries it was given.
    verdicts: FuturesUnordered<BoxFuture<'static, Verdict>>,
}

/// What came of giving an entry to openraft.
struct Verdict {
    sequence: u64,
    /// For which it was given.
    term: u64,
    /// It certainly was not appended.
    refused: bool,
}

#[derive(Clone, Copy)]
struct Limits {
    entry_commands_max: usize,
    entry_bytes_max: usize,
    /// Entries in flight of a member alone, and of one among others.
    alone: u32,
    among_members: u32,
    patience: Duration,
    /// Before what a leader refused is sent to it again.
    pause: Duration,
    /// How long entries in flight may take to come to their end when the member shuts down.
    drain: Duration,
}

impl Limits {
    fn of(config: &Config) -> Self {
        let entries = |max: usize| u32::try_from(max).unwrap_or(u32::MAX).min(1 << 10);
        Self {
            entry_commands_max: config.entry_commands_max,
            entry_bytes_max: config.entry_bytes_max,
            alone: entries(config.entries_in_flight_max),
            among_members: entries(config.entries_in_flight_among_members_max),
            patience: config.patience,
            pause: config.heartbeat,
            drain: config.election_timeout,
        }
    }

    /// All places. An entry takes such a part of them that as many fit as may be in flight.
    fn places(self) -> u32 {
        self.alone * self.among_members
    }

    fn places_of_an_entry(self, is_alone: bool) -> u32 {
        self.places() / if is_alone { self.alone } else { self.among_members }
    }
}

/// An entry to be.
struct Packed<A> {
    commands: Vec<Bytes>,
    waiting: Waiting<A>,
}

impl<A: Send + 'static> Packer<A> {
    pub(crate) fn new(
        config: &Config,
        raft: Openraft,
        waiters: Arc<Waiters<A>>,
        leadership: watch::Receiver<Leadership>,
        standing: Arc<Standing>,
        peers: Arc<Peers>,
    ) -> (Queue<A>, Self) {
        let (commands, queue) = mpsc::channel(config.queue_commands_max);
        let room = Arc::new(Semaphore::new(config.queue_bytes_max));
        let limits = Limits::of(config);
        let (command_bytes_max, patience) = (config.command_bytes_max, limits.patience);
        let sender = Queue { commands, room, command_bytes_max, patience };
        let packer = Self {
            raft,
            queue,
            head: None,
            waiters,
            leadership,
            standing,
            limits,
            slots: Arc::new(Semaphore::new(limits.places() as usize)),
            path: Path::new(peers, limits.among_members as usize * 2, config.heartbeat),
            sequence: 0,
            packed: BTreeMap::new(),
            again: VecDeque::new(),
            again_at: Instant::now(),
            verdicts: FuturesUnordered::new(),
        };
        (sender, packer)
    }

    /// Packs until `stop`, then refuses what still waits and lets what is in flight come to its end.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        self.follow();
        let mut patience = tokio::time::interval((self.limits.patience / 4).max(Duration::from_millis(1)));
        loop {
            let is_alone = self.standing.leads_alone();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(verdict) = self.verdicts.next() => self.settle(&verdict),
                Ok(()) = self.leadership.changed() => self.follow(),
                () = self.waiters.lost() => self.collect_lost(),
                outcome = self.path.next() => self.hear(outcome),
                _ = patience.tick() => self.lose_patience(),
                () = tokio::time::sleep_until(self.again_at), if self.path.is_open() && !self.again.is_empty() => {
                    self.send_again().await;
                }
                packed = pack(&mut self.head, &mut self.queue, &self.slots, self.limits, is_alone), if self.path.is_open() => {
                    match packed {
                        Some(packed) => self.submit(packed).await,
                        None => break,
                    }
                }
            }
        }
        self.drain().await;
    }

    async fn submit(&mut self, packed: Packed<A>) {
        let Packed { commands, waiting } = packed;
        if commands.is_empty() {
            return;
        }
        while let Some(first) = self.packed.first_entry()
            && self.waiters.whereabouts(*first.key()) == Whereabouts::Over
        {
            first.remove();
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.waiters.add(sequence, waiting);
        let proposal = Proposal { tag: self.waiters.tag(sequence), commands: commands.into() };
        self.packed.insert(sequence, (proposal, Instant::now()));
        self.send(sequence).await;
    }

    /// Gives an entry to the leader, if there still is one.
    async fn send(&mut self, sequence: u64) {
        let Some((proposal, _)) = self.packed.get(&sequence) else { return };
        let Some(term) = self.path.term() else { return self.again.push_back(sequence) };
        match self.waiters.send(sequence, term) {
            Whereabouts::Away(_) => {}
            Whereabouts::Here => return self.put_off(sequence),
            Whereabouts::Over => return drop(self.packed.remove(&sequence)),
        }
        match self.path.send(proposal, || self.waiters.until(sequence)) {
            Sent::Away => {}
            Sent::Here => self.write(sequence, proposal.clone(), term).await,
            Sent::Not => self.refused(sequence, term),
        }
    }

    async fn write(&mut self, sequence: u64, proposal: Proposal, term: u64) {
        let (responder, verdict) = ProgressResponder::complete_only();
        let write = self.raft.write(proposal).with_leader(CommittedLeaderId::new(term)).responder(responder);
        if write.await.is_err() {
            self.packed.remove(&sequence);
            self.waiters.refuse(sequence, &ProposeError::Stopped);
            return;
        }
        self.verdicts.push(Box::pin(async move { Verdict { sequence, term, refused: is_refusal(&verdict.await) } }));
    }

    /// Success needs nothing here: the apply thread answers.
    fn settle(&mut self, verdict: &Verdict) {
        if verdict.refused {
            self.refused(verdict.sequence, verdict.term);
        }
    }

    /// What the leader, another member, says of an entry.
    fn hear(&mut self, outcome: Option<(u64, ForwardOutcome)>) {
        if let (Some((sequence, ForwardOutcome::Refused)), Some(term)) = (outcome, self.path.term()) {
            self.refused(sequence, term);
        }
        if Bug::ForwardedTwice.is_planted() && outcome.is_none() {
            for sequence in self.packed.keys().copied().collect::<Vec<_>>() {
                if let Whereabouts::Away(term) = self.waiters.whereabouts(sequence) {
                    self.refused(sequence, term);
                }
            }
        }
    }

    /// The leader of `term` did not append it. It may have a successor already, or come to be able to.
    fn refused(&mut self, sequence: u64, term: u64) {
        if self.waiters.refused(sequence, term) {
            self.put_off(sequence);
        }
    }

    fn put_off(&mut self, sequence: u64) {
        self.again.push_back(sequence);
        self.again_at = Instant::now() + self.limits.pause;
    }

    /// A later leader is at work, and these are not in its log.
    fn collect_lost(&mut self) {
        self.forget_answered();
        let lost = self.packed.keys().filter(|sequence| self.waiters.whereabouts(**sequence) == Whereabouts::Here);
        let lost: Vec<u64> = lost.copied().filter(|sequence| !self.again.contains(sequence)).collect();
        self.again.extend(lost);
    }

    async fn send_again(&mut self) {
        for sequence in std::mem::take(&mut self.again) {
            self.let_go(sequence);
            self.send(sequence).await;
        }
    }

    /// Takes out of an entry, which no leader has, what nobody waits for any more.
    fn let_go(&mut self, sequence: u64) {
        let Some(wanted) = self.waiters.let_go(sequence, Instant::now()) else { return };
        if let Some((proposal, _)) = self.packed.get_mut(&sequence) {
            proposal.commands = wanted.into_iter().map(|position| proposal.commands[position].clone()).collect();
        }
    }

    /// Turns to whoever leads now.
    fn follow(&mut self) {
        let now = *self.leadership.borrow_and_update();
        if self.path.turn_to(now, self.standing.member()) {
            self.again_at = Instant::now();
        }
    }

    fn forget_answered(&mut self) {
        let waiters = &self.waiters;
        self.packed.retain(|sequence, _| waiters.whereabouts(*sequence) != Whereabouts::Over);
    }

    /// Tells callers who have waited long enough what is known.
    fn lose_patience(&mut self) {
        self.forget_answered();
        let long_ago = Instant::now().checked_sub(self.limits.patience);
        let Some(long_ago) = long_ago else { return };
        for (sequence, _) in self.packed.iter().filter(|(_, (_, since))| *since < long_ago) {
            let unsent = self.waiters.whereabouts(*sequence) == Whereabouts::Here;
            self.waiters.refuse(*sequence, if unsent { &ProposeError::NoLeader } else { &ProposeError::Unknown });
        }
        self.forget_answered();
        let packed = &self.packed;
        self.again.retain(|sequence| packed.contains_key(sequence));
        if !self.path.is_open() {
            self.refuse_late();
        }
    }

    /// Those who still wait stay, in their order.
    fn refuse_late(&mut self) {
        let now = Instant::now();
        while let Some(queued) = self.head.take().or_else(|| self.queue.try_recv().ok()) {
            if !queued.caller.is_late(now) {
                self.head = Some(queued);
                return;
            }
            queued.caller.tell(Err(ProposeError::NoLeader));
        }
    }

    async fn drain(mut self) {
        self.queue.close();
        while let Some(queued) = self.head.take().or_else(|| self.queue.try_recv().ok()) {
            queued.caller.tell(Err(ProposeError::Stopped));
        }
        let slots = Arc::clone(&self.slots);
        let idle = tokio::time::timeout(self.limits.drain, slots.acquire_many(self.limits.places()));
        tokio::pin!(idle);
        loop {
            // What was not appended is not sent again.
            for sequence in self.again.drain(..) {
                self.waiters.refuse(sequence, &ProposeError::Stopped);
            }
            tokio::select! {
                biased;
                Some(verdict) = self.verdicts.next() => self.settle(&verdict),
                outcome = self.path.next() => self.hear(outcome),
                () = self.waiters.lost() => self.collect_lost(),
                _ = &mut idle => return,
            }
        }
    }
}

/// The next entry's commands: all that wait, within the limits, once there is one, and a place for the entry. `None` when
/// no command can come any more. Dropped in the middle it takes nothing.
async fn pack<A>(
    head: &mut Option<Queued<A>>,
    queue: &mut mpsc::Receiver<Queued<A>>,
    slots: &Arc<Semaphore>,
    limits: Limits,
    is_alone: bool,
) -> Option<Packed<A>> {
    let slot = Arc::clone(slots).acquire_many_owned(limits.places_of_an_entry(is_alone)).await.ok()?;
    let mut next = match head.take() {
        Some(queued) => Some(queued),
        None => Some(queue.recv().await?),
    };
    let (mut commands, mut callers, mut bytes) = (Vec::new(), Vec::new(), 0);
    let now = Instant::now();
    while let Some(Queued { command, caller, .. }) = next.take() {
        // Nobody waits for it, and nothing was promised.
        if caller.is_late(now) {
            caller.tell(Err(ProposeError::Late));
        } else {
            bytes += command.len();
            commands.push(command);
            callers.push(caller);
        }
        if commands.len() < limits.entry_commands_max && bytes < limits.entry_bytes_max {
            next = queue.try_recv().ok();
        }
    }
    Some(Packed { commands, waiting: Waiting { callers, slot, term: None } })
}

/// openraft forwards only what it has not appended.
pub(crate) fn is_refusal<T, R, E>(verdict: &Result<Result<T, ClientWriteError<R>>, E>) -> bool
where
    R: openraft::RaftTypeConfig,
{
    matches!(verdict, Ok(Err(ClientWriteError::ForwardToLeader(_))))
}
