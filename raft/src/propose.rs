//! From many callers' commands to few entries.
//!
//! Owns: the commands that wait, and how many entries are on their way.
//! In:   commands from [`crate::Raft::propose`].
//! Out:  entries to openraft, each with all that waited; callers to [`Waiters`].
//!
//! - An entry is packed only when one of the places in flight is free, so that a busy disk makes entries larger.
//! - Callers of an entry that openraft did not append are told so; of one whose fate it does not know, that too.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use openraft::{
    errors::{ClientWriteError, ForwardToLeader},
    impls::ProgressResponder,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, mpsc::error::TrySendError, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Leadership, MemberId, ProposeError,
    apply::Driver,
    types::{Proposal, Types},
    waiters::{Caller, Waiters, Waiting},
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
}

impl<A> Queue<A> {
    /// Adds a command at the end, if there is room, and gives where its answer will come.
    pub(crate) fn add(&self, command: Bytes) -> Result<oneshot::Receiver<Result<A, ProposeError>>, ProposeError> {
        let too_large = ProposeError::TooLarge { bytes: command.len(), bytes_max: self.command_bytes_max };
        let bytes = u32::try_from(command.len()).ok().filter(|_| command.len() <= self.command_bytes_max);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes.ok_or(too_large)?);
        let room = room.map_err(|_| ProposeError::Busy)?;
        let (caller, answer) = oneshot::channel();
        match self.commands.try_send(Queued { command, caller, _room: room }) {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(ProposeError::Busy),
            Err(TrySendError::Closed(_)) => Err(ProposeError::Stopped),
        }
    }
}

/// Packs what is queued into entries until it is stopped.
pub(crate) struct Packer<A> {
    raft: openraft::Raft<Types, Driver>,
    queue: mpsc::Receiver<Queued<A>>,
    waiters: Arc<Waiters<A>>,
    leadership: watch::Receiver<Leadership>,
    limits: Limits,
    slots: Arc<Semaphore>,
    /// The next entry's.
    sequence: u64,
    /// What openraft has to say of the entries it was given: a sequence, and an error if there is one.
    verdicts: FuturesUnordered<BoxFuture<'static, (u64, Result<(), ProposeError>)>>,
}

#[derive(Clone, Copy)]
struct Limits {
    member: MemberId,
    entry_commands_max: usize,
    entry_bytes_max: usize,
    entries_in_flight_max: usize,
    /// How long entries in flight may take to come to their end when the member shuts down.
    drain: Duration,
}

/// An entry to be.
struct Packed<A> {
    commands: Vec<Bytes>,
    waiting: Waiting<A>,
}

impl<A: Send + 'static> Packer<A> {
    pub(crate) fn new(
        config: &Config,
        raft: openraft::Raft<Types, Driver>,
        waiters: Arc<Waiters<A>>,
        leadership: watch::Receiver<Leadership>,
    ) -> (Queue<A>, Self) {
        let (commands, queue) = mpsc::channel(config.queue_commands_max);
        let room = Arc::new(Semaphore::new(config.queue_bytes_max));
        let sender = Queue { commands, room, command_bytes_max: config.command_bytes_max };
        let limits = Limits {
            member: config.member,
            entry_commands_max: config.entry_commands_max,
            entry_bytes_max: config.entry_bytes_max,
            entries_in_flight_max: config.entries_in_flight_max,
            drain: config.election_timeout,
        };
        let slots = Arc::new(Semaphore::new(limits.entries_in_flight_max));
        let verdicts = FuturesUnordered::new();
        (sender, Self { raft, queue, waiters, leadership, limits, slots, sequence: 0, verdicts })
    }

    /// Packs until `stop`, then refuses what still waits and lets what is in flight come to its end.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(verdict) = self.verdicts.next() => self.settle(verdict),
                Ok(()) = self.leadership.changed() => self.notice_leadership(),
                packed = pack(&mut self.queue, &self.slots, self.limits) => match packed {
                    Some(packed) => self.submit(packed).await,
                    None => break,
                },
            }
        }
        self.drain().await;
    }

    async fn submit(&mut self, packed: Packed<A>) {
        let Packed { commands, waiting } = packed;
        if commands.is_empty() {
            return;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.waiters.add(sequence, waiting);
        let proposal = Proposal { tag: self.waiters.tag(sequence), commands: commands.into() };
        let (responder, verdict) = ProgressResponder::complete_only();
        if self.raft.client_write_ff(proposal, Some(responder)).await.is_err() {
            self.waiters.refuse(sequence, &ProposeError::Stopped);
            return;
        }
        self.verdicts.push(Box::pin(async move {
            let verdict = match verdict.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(refusal(&error)),
                Err(_) => Err(ProposeError::Unknown),
            };
            (sequence, verdict)
        }));
    }

    /// Success needs nothing here: the apply thread answers.
    fn settle(&self, (sequence, verdict): (u64, Result<(), ProposeError>)) {
        if let Err(error) = verdict {
            self.waiters.refuse(sequence, &error);
        }
    }

    /// What a leader had in flight when it lost the lead may yet be committed by the next one, or not.
    fn notice_leadership(&mut self) {
        let leader = self.leadership.borrow_and_update().leader;
        if leader != Some(self.limits.member) {
            self.waiters.refuse_all(&ProposeError::Unknown);
        }
    }

    async fn drain(mut self) {
        self.queue.close();
        while let Ok(queued) = self.queue.try_recv() {
            drop(queued.caller.send(Err(ProposeError::Stopped)));
        }
        let all = u32::try_from(self.limits.entries_in_flight_max).unwrap_or(u32::MAX);
        let idle = tokio::time::timeout(self.limits.drain, self.slots.acquire_many(all));
        tokio::pin!(idle);
        loop {
            tokio::select! {
                biased;
                Some(verdict) = self.verdicts.next() => self.settle(verdict),
                _ = &mut idle => return,
            }
        }
    }
}

/// The next entry's commands: all that wait, within the limits, once there is one, and a place for the entry. `None` when
/// no command can come any more. Dropped in the middle it takes nothing.
async fn pack<A>(queue: &mut mpsc::Receiver<Queued<A>>, slots: &Arc<Semaphore>, limits: Limits) -> Option<Packed<A>> {
    let slot: OwnedSemaphorePermit = Arc::clone(slots).acquire_owned().await.ok()?;
    let mut next = Some(queue.recv().await?);
    let (mut commands, mut callers, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let Some(Queued { command, caller, .. }) = next.take() {
        // Nobody waits for it, and nothing was promised.
        if !caller.is_closed() {
            bytes += command.len();
            commands.push(command);
            callers.push(caller);
        }
        if commands.len() < limits.entry_commands_max && bytes < limits.entry_bytes_max {
            next = queue.try_recv().ok();
        }
    }
    Some(Packed { commands, waiting: Waiting { callers, slot } })
}

/// openraft forwards only what it has not appended.
fn refusal(error: &ClientWriteError<Types>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id, .. }) => {
            ProposeError::NotLeader { leader: leader_id.map(MemberId) }
        }
        ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => ProposeError::Unknown,
    }
}
