//! Apply.
//!
//! Owns: the state machine, on a thread of its own, and how far it has come.
//! In:   committed entries from openraft, in log order.
//! Out:  answers to [`Waiters`], the applied position to whoever watches it.
//!
//! - Everything that is committed when the thread comes round is applied in one batch of the machine.
//! - openraft runs ahead: it takes an entry for applied when it is queued here. Whatever depends on true progress (reads,
//!   snapshots, the position after a restart) asks this thread, and so comes behind what is queued.
//! - No entry is applied twice: one that is not after the last is refused, and the member stops.
//! - While an image is being sent, the log is not purged behind it, unless it takes far too long.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;
use types::Release;

use crate::{
    Collector, Committed, Config, Image, Machine, MachineError, ProposeError, RaftError,
    codec::{self, Record, payload_bytes},
    fatal::Fatal,
    node::Roster,
    release::check_age,
    threads::Idle,
    types::{Collected, Entry, LogId, Snapshot, SnapshotMeta, State, StoredMembership, Tag, Types},
    waiters::Waiters,
};

/// Requests that wait for the thread; openraft waits when there are so many.
const REQUESTS_MAX: usize = 64;
/// A batch takes no further entries once it holds so many, or so much.
const BATCH_ENTRIES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 16 << 20;

enum Request {
    Apply(Vec<Entry>),
    Ask(Question),
}

enum Question {
    /// What is applied?
    Position(oneshot::Sender<Record>),
    /// What does a snapshot hold? It is all that is applied, brought to stable storage first.
    Sync(oneshot::Sender<SnapshotMeta>),
    /// What does the last snapshot hold?
    Snapshot(oneshot::Sender<Option<SnapshotMeta>>),
    /// What is applied, as an image to be sent?
    Image(oneshot::Sender<Arc<Kept>>),
    /// Where is another member's image of this name put together?
    Collect(String, oneshot::Sender<Result<Box<dyn Collector>, MachineError>>),
    /// Takes what was collected for all that is applied.
    Install(Box<SnapshotMeta>, Collected, oneshot::Sender<()>),
}

/// An image, for as long as somebody sends it.
pub(crate) struct Kept {
    /// What it holds.
    pub(crate) record: Record,
    pub(crate) image: Arc<dyn Image>,
    /// The log no longer waits for it.
    is_stale: AtomicBool,
}

impl Kept {
    /// Whether the log goes on after it.
    pub(crate) fn is_recent(&self) -> bool {
        !self.is_stale.load(Ordering::Relaxed)
    }
}

/// openraft's state machine: hands everything to the apply thread. The thread ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Driver(mpsc::Sender<Request>);

/// A driver that does not keep the thread.
#[derive(Clone, Debug)]
pub(crate) struct WeakDriver(mpsc::WeakSender<Request>);

impl WeakDriver {
    /// Where the image of this name is put together.
    pub(crate) async fn collect(&self, id: String) -> io::Result<Box<dyn Collector>> {
        let driver = Driver(self.0.upgrade().ok_or_else(thread_is_gone)?);
        driver.ask(|asked| Question::Collect(id, asked)).await?.map_err(io::Error::other)
    }
}

/// The apply thread.
pub(crate) struct Applier<M: Machine> {
    machine: M,
    record: Record,
    snapshot: Option<SnapshotMeta>,
    /// What is being sent.
    image: Weak<Kept>,
    /// An image is not waited for once so many entries were applied after it.
    image_entries_max: u64,
    requests: mpsc::Receiver<Request>,
    waiters: Arc<Waiters<M::Answer>>,
    applied: watch::Sender<Option<LogId>>,
    roster: watch::Sender<Arc<Roster>>,
    version: watch::Sender<Option<Release>>,
    release: Release,
    fatal: Fatal,
}

/// What others see of the apply thread.
pub(crate) struct Progress {
    /// The position applied so far.
    pub(crate) applied: watch::Receiver<Option<LogId>>,
    /// The members as of there.
    pub(crate) roster: watch::Receiver<Arc<Roster>>,
    /// The cluster's version as of there.
    pub(crate) version: watch::Receiver<Option<Release>>,
}

/// The driver, the thread's body, and what is seen of it.
pub(crate) fn driver<M: Machine>(
    machine: M,
    record: Record,
    waiters: Arc<Waiters<M::Answer>>,
    config: &Config,
    fatal: Fatal,
) -> (Driver, Applier<M>, Progress) {
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    let (applied, position) = watch::channel(record.applied);
    let (roster, members) = watch::channel(Arc::new(record.roster.clone()));
    let (version, agreed) = watch::channel(machine.version());
    let image_entries_max = config.snapshot_every_entries.saturating_mul(10).saturating_add(config.catch_up_entries);
    let thread = Applier {
        machine,
        record,
        snapshot: None,
        image: Weak::new(),
        image_entries_max,
        requests,
        waiters,
        applied,
        roster,
        version,
        release: config.release,
        fatal,
    };
    (Driver(sender), thread, Progress { applied: position, roster: members, version: agreed })
}

impl<M: Machine> Applier<M> {
    /// Runs on a thread of its own until the driver is gone, the member is dropped or the machine fails.
    pub(crate) async fn run(mut self, idle: Idle) {
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => request,
                None => match idle.next(&mut self.requests).await {
                    Some(request) => request,
                    None => return,
                },
            };
            let done = match request {
                Request::Apply(entries) => {
                    let entries = self.gather(entries, &mut next);
                    self.apply(entries)
                }
                Request::Ask(question) => self.reply(question),
            };
            if let Err(error) = done {
                return self.fatal.report(error);
            }
        }
    }

    /// `entries` and all that is queued behind them; what is queued and is not an entry comes `next`.
    fn gather(&mut self, mut entries: Vec<Entry>, next: &mut Option<Request>) -> Vec<Entry> {
        let mut bytes: usize = entries.iter().map(payload_bytes).sum();
        while entries.len() < BATCH_ENTRIES_MAX && bytes < BATCH_BYTES_MAX {
            match self.requests.try_recv() {
                Ok(Request::Apply(more)) => {
                    bytes += more.iter().map(payload_bytes).sum::<usize>();
                    entries.extend(more);
                }
                Ok(other) => {
                    *next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        entries
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), RaftError> {
        let (mut committed, mut tags) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
        for entry in entries {
            let (entry, tag) = self.take(entry)?;
            committed.push(entry);
            tags.push(tag);
        }
        let expected: Vec<usize> = committed.iter().map(|entry| entry.commands.len()).collect();
        let answers = self.machine.apply(committed, codec::encode_record(&self.record))?;
        self.check_version()?;
        if !answers.iter().map(Vec::len).eq(expected) {
            return Err(MachineError::new("it did not give one answer for each command").into());
        }
        let before = self.publish();
        for (tag, answers) in tags.into_iter().zip(answers) {
            if let Some(tag) = tag {
                self.waiters.answer(tag, answers);
            }
        }
        let term = |applied: Option<LogId>| applied.map(|applied| applied.leader_id.term);
        if let Some(now) = term(self.record.applied).filter(|now| Some(*now) != term(before)) {
            self.waiters.lose_before(now);
        }
        Ok(())
    }

    /// Shows how far the thread has come; gives how far that was before.
    fn publish(&self) -> Option<LogId> {
        let roster = &self.record.roster;
        self.roster.send_if_modified(|before| {
            let changed = before.membership.log_id() != roster.membership.log_id();
            if changed {
                *before = Arc::new(roster.clone());
            }
            changed
        });
        let version = self.machine.version();
        self.version.send_if_modified(|before| std::mem::replace(before, version) != version);
        self.applied.send_replace(self.record.applied)
    }

    /// Whether what is applied is for this member's release.
    fn check_version(&self) -> Result<(), RaftError> {
        self.machine.version().map_or(Ok(()), |version| check_age(self.release, version))
    }

    /// Moves the record past `entry`, and gives what the machine is to see of it.
    fn take(&mut self, entry: Entry) -> Result<(Committed, Option<Tag>), RaftError> {
        let Entry { log_id, payload } = entry;
        if self.record.applied.is_some_and(|applied| applied.index >= log_id.index) {
            let reason = format!("entry {} came again after it was applied", log_id.index);
            return Err(RaftError::Stopped { reason });
        }
        self.record.applied = Some(log_id);
        let (tag, commands) = match payload {
            EntryPayload::Blank => (None, Vec::new()),
            EntryPayload::Normal(proposal) => (Some(proposal.tag), proposal.commands.to_vec()),
            EntryPayload::Membership(membership) => {
                self.record.roster = self.record.roster.next(log_id, membership);
                (None, Vec::new())
            }
        };
        Ok((Committed { index: log_id.index, term: log_id.leader_id.term, commands }, tag))
    }

    /// Whoever asked and went away needs no reply.
    fn reply(&mut self, question: Question) -> Result<(), RaftError> {
        match question {
            Question::Position(asked) => drop(asked.send(self.record.clone())),
            Question::Snapshot(asked) => drop(asked.send(self.snapshot.clone())),
            Question::Sync(asked) => {
                self.machine.sync()?;
                let meta = meta(self.image_in_use().as_deref().map_or(&self.record, |kept| &kept.record));
                self.snapshot = Some(meta.clone());
                drop(asked.send(meta));
            }
            Question::Image(asked) => {
                let kept = match self.image_in_use() {
                    Some(kept) => kept,
                    None => self.new_image()?,
                };
                drop(asked.send(kept));
            }
            Question::Collect(id, asked) => drop(asked.send(self.machine.collect(&id))),
            Question::Install(meta, collected, asked) => {
                self.install(&meta, collected)?;
                asked.send(()).ok();
            }
        }
        Ok(())
    }

    /// The image that is being sent, unless the log has grown far beyond it.
    fn image_in_use(&self) -> Option<Arc<Kept>> {
        let index = |record: &Record| record.applied.map_or(0, |applied| applied.index);
        let kept = self.image.upgrade()?;
        if index(&self.record) - index(&kept.record) > self.image_entries_max {
            kept.is_stale.store(true, Ordering::Relaxed);
        }
        Some(kept).filter(|kept| kept.is_recent())
    }

    fn new_image(&mut self) -> Result<Arc<Kept>, RaftError> {
        let (record, image) = (self.record.clone(), self.machine.image()?);
        let kept = Arc::new(Kept { record, image, is_stale: AtomicBool::new(false) });
        self.image = Arc::downgrade(&kept);
        Ok(kept)
    }

    /// What was proposed here and is in the image has no answer: the entries themselves were never seen.
    fn install(&mut self, meta: &SnapshotMeta, collected: Collected) -> Result<(), RaftError> {
        let Collected { collector, only, .. } = collected;
        self.machine.install(collector)?;
        drop(only);
        let record = read_record(&self.machine)?;
        let holds = (record.applied, record.roster.membership.log_id());
        if holds != (meta.last_log_id, meta.last_membership.log_id()) {
            let reason = format!("it holds {:?}, but {:?} was offered", record.applied, meta.last_log_id);
            return Err(RaftError::Corrupt { what: "image".to_owned(), reason });
        }
        self.check_version()?;
        info!(index = record.applied.map_or(0, |applied| applied.index), "image installed");
        self.record = record;
        self.snapshot = Some(meta.clone());
        self.waiters.refuse_all(&ProposeError::Unknown);
        self.publish();
        Ok(())
    }
}

fn meta(record: &Record) -> SnapshotMeta {
    SnapshotMeta { last_log_id: record.applied, last_membership: record.roster.membership.clone() }
}

/// However the thread ends, nobody is left without an answer: nothing is queued any more once the queue is closed.
impl<M: Machine> Drop for Applier<M> {
    fn drop(&mut self) {
        self.requests.close();
        self.waiters.end();
    }
}

/// What the machine has applied, according to the record it stored.
pub(crate) fn read_record<M: Machine>(machine: &M) -> Result<Record, RaftError> {
    let Some(bytes) = machine.record()? else { return Ok(Record::default()) };
    codec::decode_record(bytes).map_err(|damage| damage.of("state machine's record"))
}

impl Driver {
    async fn send(&self, request: Request) -> io::Result<()> {
        self.0.send(request).await.map_err(|_| thread_is_gone())
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> io::Result<T> {
        let (asked, reply) = oneshot::channel();
        self.send(Request::Ask(question(asked))).await?;
        reply.await.map_err(|_| thread_is_gone())
    }

    /// An image of what is applied, or the one that is being sent to somebody.
    pub(crate) async fn image(&self) -> io::Result<Arc<Kept>> {
        self.ask(Question::Image).await
    }

    pub(crate) fn downgrade(&self) -> WeakDriver {
        WeakDriver(self.0.downgrade())
    }
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the apply thread has stopped")
}

impl RaftStateMachine<Types> for Driver {
    type SnapshotData = State;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let record = self.ask(Question::Position).await?;
        Ok((record.applied, record.roster.membership))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let (entries, responders): (Vec<_>, Vec<_>) = entries.try_collect::<Vec<_>>().await?.into_iter().unzip();
        self.send(Request::Apply(entries)).await?;
        // openraft's own responders only ever report failures: answers go to the callers by the entry's tag.
        responders.into_iter().flatten().for_each(|responder| responder.send(()));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: State) -> io::Result<()> {
        match snapshot {
            State::Ours => Ok(()),
            State::Collected(collected) => {
                self.ask(|asked| Question::Install(Box::new(meta.clone()), collected, asked)).await
            }
        }
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let meta = self.ask(Question::Snapshot).await?;
        Ok(meta.map(|meta| Snapshot { meta, snapshot: State::Ours }))
    }
}

/// A snapshot is the machine's own state, once it is durable.
impl RaftSnapshotBuilder<Types> for Driver {
    type SnapshotData = State;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let meta = self.ask(Question::Sync).await?;
        Ok(Snapshot { meta, snapshot: State::Ours })
    }
}
