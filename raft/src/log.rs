//! The log as openraft wants it.
//!
//! Owns: the order in which the log is written, and what of it is in memory.
//! In:   entries, votes, truncations and purges from openraft, one after another.
//! Out:  entries to replication and apply.
//!
//! - An appended entry is readable at once; openraft hears of it again only when it is on stable storage.
//! - All writes go through one thread in the order they came, so that none overtakes another.
//! - What was appended and not yet written is always in memory; the disk is read only for older entries.

mod disk;
mod force;
mod tail;
mod writer;

use std::{
    convert::Infallible,
    fmt::Debug,
    io,
    ops::RangeBounds,
    sync::{Arc, Weak},
    time::Duration,
};

use engine::Engine;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::warn;
use types::Durations;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::disk::put_record;
pub(crate) use self::{
    disk::{Recovered, SPACES, recover},
    force::force,
    writer::Writer,
};
use crate::{
    RaftError,
    codec::payload_bytes,
    fatal::Fatal,
    life::Known,
    log::{
        tail::{Span, Tail},
        writer::{Change, Operation},
    },
    types::{Entry, LogId, Types, Vote},
};

/// Writes that wait for the writer thread; openraft waits when there are so many.
const OPERATIONS_MAX: usize = 256;

/// What is known of the log without asking the disk.
#[derive(Debug)]
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// The last entry, or `purged` if there is none.
    last: Option<LogId>,
    tail: Tail,
    /// Counts truncations and purges, so that a reader notices one in its middle.
    cuts: u64,
}

/// What the log store, its readers and its writer share.
#[derive(Debug)]
struct Shared {
    engine: Engine,
    state: Mutex<State>,
    fatal: Fatal,
    /// How long writes took.
    syncs: Arc<Durations>,
    /// When the write began that the disk is busy with.
    writing_since: Mutex<Option<Instant>>,
    /// Entries that are read together hold no more bytes, unless a single one does.
    read_bytes_max: usize,
    /// Dropped after `engine`.
    _closed: oneshot::Sender<Infallible>,
}

/// Resolves when nothing of the log store holds the engine any more.
pub(crate) struct Closed(oneshot::Receiver<Infallible>);

impl Closed {
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the sender goes with the store.
        drop(self.0.await);
    }
}

/// openraft's log storage. The writer thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    operations: mpsc::Sender<Operation>,
}

impl LogStore {
    /// The store over what was recovered from `engine`, the writer to run on a thread of its own, and the end of both.
    pub(crate) fn new(
        engine: Engine,
        recovered: Recovered,
        read_bytes_max: usize,
        fatal: Fatal,
    ) -> (Self, Writer, Closed) {
        let Recovered { vote, committed, purged, last, tail, .. } = recovered;
        let state = State { vote, committed, purged, last, tail, cuts: 0 };
        let (sender, closed) = oneshot::channel();
        let shared = Arc::new(Shared {
            engine,
            state: Mutex::new(state),
            fatal,
            syncs: Arc::default(),
            writing_since: Mutex::new(None),
            read_bytes_max,
            _closed: sender,
        });
        let (sender, operations) = mpsc::channel(OPERATIONS_MAX);
        (Self { shared: Arc::clone(&shared), operations: sender }, Writer::new(shared, operations), Closed(closed))
    }

    /// How long writes took until they were on stable storage.
    pub(crate) fn syncs(&self) -> Arc<Durations> {
        Arc::clone(&self.shared.syncs)
    }

    /// How long the disk has been busy with what it is writing.
    pub(crate) fn stall(&self) -> Stall {
        Stall(Arc::downgrade(&self.shared))
    }

    /// What is gone from the start of the log.
    pub(crate) fn purged(&self) -> Purged {
        Purged(Arc::downgrade(&self.shared))
    }

    /// Where beside the log other members are remembered.
    pub(crate) fn notes(&self) -> Notes {
        Notes(self.operations.downgrade())
    }

    async fn send(&self, operation: Operation) -> io::Result<()> {
        self.operations.send(operation).await.map_err(|_| writer_is_gone())
    }

    /// Returns once the change is on stable storage.
    async fn change(&self, change: Change) -> io::Result<()> {
        change_and_wait(&self.operations, change).await
    }
}

async fn change_and_wait(operations: &mpsc::Sender<Operation>, change: Change) -> io::Result<()> {
    let (done, written) = oneshot::channel();
    let operation = Operation::Change { change, done: Some(done) };
    operations.send(operation).await.map_err(|_| writer_is_gone())?;
    written.await.map_err(|_| writer_is_gone())?
}

/// What the disk is doing. Does not hold it.
#[derive(Clone, Debug)]
pub(crate) struct Stall(Weak<Shared>);

impl Stall {
    /// For how long the write has gone on that the disk is busy with.
    pub(crate) fn now(&self) -> Duration {
        let begun = self.0.upgrade().and_then(|shared| *shared.writing_since.lock());
        begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }
}

/// What is gone from the start of the log. Does not hold it.
#[derive(Clone, Debug)]
pub(crate) struct Purged(Weak<Shared>);

impl Purged {
    /// Whether entries that follow this one are gone.
    pub(crate) fn is_after(&self, before: Option<LogId>) -> bool {
        self.0.upgrade().is_some_and(|shared| shared.state.lock().purged > before)
    }
}

/// Writes beside the log, in the same order. Does not keep the writer.
#[derive(Clone, Debug)]
pub(crate) struct Notes(mpsc::WeakSender<Operation>);

impl Notes {
    /// Returns once it is on stable storage.
    pub(crate) async fn remember(&self, member: u64, known: Known) -> io::Result<()> {
        let operations = self.0.upgrade().ok_or_else(writer_is_gone)?;
        change_and_wait(&operations, Change::Known { member, known }).await
    }

    /// Written with what comes next, unless too much waits already; whether it will be.
    pub(crate) fn remember_later(&self, member: u64, known: Known) -> bool {
        self.write_later(Change::Known { member, known })
    }

    /// Keeps the next start from using this disk, unless too much waits to be written.
    pub(crate) fn forsake(&self, reason: String) {
        if !self.write_later(Change::Forgetful { reason }) {
            warn!("cannot keep in mind that this disk is not to be used again");
        }
    }

    fn write_later(&self, change: Change) -> bool {
        let operations = self.0.upgrade();
        operations.is_some_and(|operations| operations.try_send(Operation::Change { change, done: None }).is_ok())
    }
}

fn writer_is_gone() -> io::Error {
    io::Error::other("the log's writer has stopped")
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.shared.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.change(Change::Vote(*vote)).await?;
        self.shared.state.lock().vote = Some(*vote);
        Ok(())
    }

    /// Kept with the next write; an older one after a crash only means that more is applied again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.committed = committed.or(state.committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        {
            let mut state = self.shared.state.lock();
            for entry in &entries {
                state.tail.push(entry.clone()).map_err(io::Error::other)?;
                state.last = Some(entry.log_id);
            }
        }
        self.send(Operation::Append { entries, flushed: callback }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        self.change(Change::Truncate { from }).await?;
        let mut state = self.shared.state.lock();
        state.tail.truncate(from);
        state.last = state.last.min(last);
        state.cuts += 1;
        Ok(())
    }

    /// Not waited for, unless the purge leaves the log behind: the entries being there still after a crash does no harm,
    /// and openraft sends no heartbeat while it waits here.
    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let leaves_the_log = self.shared.state.lock().last < Some(upto);
        if leaves_the_log {
            self.change(Change::Purge { upto }).await?;
        } else {
            self.send(Operation::Change { change: Change::Purge { upto }, done: None }).await?;
        }
        let mut state = self.shared.state.lock();
        state.tail.purge(upto.index);
        state.purged = state.purged.max(Some(upto));
        state.last = state.last.max(Some(upto));
        state.cuts += 1;
        Ok(())
    }
}

/// Reads the log while it is written. Clones of the shared state are cheap; each replication has one.
#[derive(Debug)]
pub(crate) struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    /// The entries of `range` that the log holds, of one moment; of more than `bytes_max`, a part from the start on.
    async fn read(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> Result<Vec<Entry>, RaftError> {
        let span = Span::of(&range);
        loop {
            let (cached, missing, cuts) = {
                let state = self.shared.state.lock();
                let (cached, missing) = state.tail.read(span);
                (cached, missing, state.cuts)
            };
            if missing.is_empty() {
                return Ok(at_most(bytes_max, cached));
            }
            let mut entries = self.read_disk(missing, bytes_max).await?;
            if self.shared.state.lock().cuts != cuts {
                continue;
            }
            if entries.last().is_some_and(|last| last.log_id.index + 1 == missing.end) {
                entries.extend(cached);
            }
            return contiguous(at_most(bytes_max, entries));
        }
    }

    async fn read_or_fail(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        self.read(range, bytes_max).await.map_err(|error| {
            self.shared.fatal.report(error.clone());
            io::Error::other(error)
        })
    }

    async fn read_disk(&self, span: Span, bytes_max: usize) -> Result<Vec<Entry>, RaftError> {
        let engine = self.shared.engine.clone();
        let read = self.shared.engine.workers().run(move || disk::read(&engine, span, bytes_max)).await;
        read.map_err(|error| RaftError::Stopped { reason: format!("a read of the log: {error}") })?
    }
}

/// The first entries, of no more bytes, unless already the first has more.
fn at_most(bytes_max: usize, mut entries: Vec<Entry>) -> Vec<Entry> {
    let bytes = entries.iter().scan(0_usize, |sum, entry| {
        *sum = sum.saturating_add(payload_bytes(entry));
        Some(*sum)
    });
    let fitting = bytes.take_while(|sum| *sum <= bytes_max).count();
    entries.truncate(fitting.max(1));
    entries
}

/// Refuses a hole: an entry was lost from the middle of the log.
fn contiguous(entries: Vec<Entry>) -> Result<Vec<Entry>, RaftError> {
    match entries.windows(2).find(|pair| pair[0].log_id.index + 1 != pair[1].log_id.index) {
        None => Ok(entries),
        Some(pair) => Err(disk::hole(pair[0].log_id.index + 1)),
    }
}

impl RaftLogReader<Types> for LogReader {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.read_or_fail(range, usize::MAX).await
    }

    /// As much of the start of the range as may be sent together; nothing if that was purged, which is never sent to a
    /// member that waits for what lies before.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let entries = self.read_or_fail(start..end, self.shared.read_bytes_max).await?;
        Ok(if entries.first().is_some_and(|first| first.log_id.index == start) { entries } else { Vec::new() })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }
}

#[cfg(test)]
mod tests;
