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
mod tail;
mod writer;

use std::{convert::Infallible, fmt::Debug, io, ops::RangeBounds, sync::Arc};

use engine::Engine;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use types::Durations;

pub(crate) use self::{
    disk::{Recovered, SPACES, recover},
    writer::Writer,
};
use crate::{
    RaftError,
    fatal::Fatal,
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
    pub(crate) fn new(engine: Engine, recovered: Recovered, fatal: Fatal) -> (Self, Writer, Closed) {
        let Recovered { vote, committed, purged, last, tail, .. } = recovered;
        let state = State { vote, committed, purged, last, tail, cuts: 0 };
        let (sender, closed) = oneshot::channel();
        let shared =
            Arc::new(Shared { engine, state: Mutex::new(state), fatal, syncs: Arc::default(), _closed: sender });
        let (sender, operations) = mpsc::channel(OPERATIONS_MAX);
        (Self { shared: Arc::clone(&shared), operations: sender }, Writer::new(shared, operations), Closed(closed))
    }

    /// How long writes took until they were on stable storage.
    pub(crate) fn syncs(&self) -> Arc<Durations> {
        Arc::clone(&self.shared.syncs)
    }

    async fn send(&self, operation: Operation) -> io::Result<()> {
        self.operations.send(operation).await.map_err(|_| writer_is_gone())
    }

    /// Returns once the change is on stable storage.
    async fn change(&self, change: Change) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        self.send(Operation::Change { change, done }).await?;
        written.await.map_err(|_| writer_is_gone())?
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

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.change(Change::Purge { upto }).await?;
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
    /// The entries of `range` that the log holds, of one moment.
    async fn read(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>, RaftError> {
        let span = Span::of(&range);
        loop {
            let (cached, missing, cuts) = {
                let state = self.shared.state.lock();
                let (cached, missing) = state.tail.read(span);
                (cached, missing, state.cuts)
            };
            if missing.is_empty() {
                return Ok(cached);
            }
            let mut entries = self.read_disk(missing).await?;
            if self.shared.state.lock().cuts != cuts {
                continue;
            }
            entries.extend(cached);
            return contiguous(entries);
        }
    }

    async fn read_disk(&self, span: Span) -> Result<Vec<Entry>, RaftError> {
        let engine = self.shared.engine.clone();
        let read = tokio::task::spawn_blocking(move || disk::read(&engine, span)).await;
        read.map_err(|error| RaftError::Stopped { reason: format!("a read of the log: {error}") })?
    }
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
        self.read(range).await.map_err(|error| {
            self.shared.fatal.report(error.clone());
            io::Error::other(error)
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }
}

#[cfg(test)]
mod tests;
