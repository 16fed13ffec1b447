//! The thread that writes the log.
//!
//! - Whatever waits is written as one batch with one sync: entries appended while the disk was busy share the next.
//! - After a failed write nothing is written any more: what the disk holds is then unknown, and only a restart, which
//!   reads it again, can tell.

use std::{io, sync::Arc};

use engine::{Batch, Durability, EngineError};
use openraft::storage::IOFlushed;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::warn;
use types::Bug;

use super::{Shared, disk};
use crate::{
    RaftError,
    life::Known,
    threads::Idle,
    types::{Entry, LogId, Types, Vote},
};

/// A batch takes no further operation once it holds so much.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// One write, in the order in which openraft wants it.
pub(super) enum Operation {
    Append { entries: Vec<Entry>, flushed: IOFlushed<Types> },
    Change { change: Change, done: Option<oneshot::Sender<io::Result<()>>> },
}

/// A write beside the entries.
#[derive(Debug)]
pub(super) enum Change {
    Vote(Vote),
    /// Removes the entries from `from` on.
    Truncate {
        from: u64,
    },
    /// Removes the entries up to `upto`, inclusive.
    Purge {
        upto: LogId,
    },
    /// Remembers a member.
    Known {
        member: u64,
        known: Known,
    },
    /// No start is to use this disk again.
    Forgetful {
        reason: String,
    },
}

/// Writes operations until their sender is gone, the member is dropped or a write fails.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    operations: mpsc::Receiver<Operation>,
    /// The commit index that was written last.
    committed: Option<LogId>,
}

/// Operations that are written together.
#[derive(Default)]
struct Group {
    batch: Batch,
    /// The index after the last entry appended.
    end: Option<u64>,
    waiting: Vec<Waiting>,
}

enum Waiting {
    Append(IOFlushed<Types>),
    Change(oneshot::Sender<io::Result<()>>),
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, operations: mpsc::Receiver<Operation>) -> Self {
        let committed = shared.state.lock().committed;
        Self { shared, operations, committed }
    }

    /// Runs on a thread of its own.
    pub(crate) async fn run(mut self, idle: Idle) {
        while let Some(first) = idle.next(&mut self.operations).await {
            let mut group = self.gather(first);
            self.add_committed(&mut group.batch);
            let begun = Instant::now();
            *self.shared.writing_since.lock() = Some(begun);
            if Bug::AckBeforeSync.is_planted() {
                self.complete(group.end, std::mem::take(&mut group.waiting));
            }
            self.shared.engine.ready().await;
            let written = self.shared.engine.write(group.batch, Durability::Synced);
            *self.shared.writing_since.lock() = None;
            self.shared.syncs.record(begun.elapsed());
            match written {
                Ok(()) => self.complete(group.end, group.waiting),
                Err(error) => return self.fail(error, group.waiting),
            }
        }
        self.save_committed();
    }

    /// An orderly end tells the next start how far it must find the log.
    fn save_committed(&mut self) {
        let mut batch = Batch::new();
        self.add_committed(&mut batch);
        if let Err(error) = self.shared.engine.write(batch, Durability::Synced) {
            warn!(%error, "cannot save the commit index");
        }
    }

    /// The commit index goes along with what must be written anyway: it only spares work after a restart. It never goes
    /// ahead of the entries on the disk.
    fn add_committed(&mut self, batch: &mut Batch) {
        let committed = {
            let state = self.shared.state.lock();
            state.committed.filter(|committed| committed.index < state.tail.written_end())
        };
        if let Some(committed) = committed.filter(|&committed| Some(committed) > self.committed) {
            disk::put_committed(batch, &committed);
            self.committed = Some(committed);
        }
    }

    /// `first` and all that waits behind it.
    fn gather(&mut self, first: Operation) -> Group {
        let mut group = Group::default();
        group.add(first);
        while group.batch.bytes() < BATCH_BYTES_MAX {
            let Ok(operation) = self.operations.try_recv() else { break };
            group.add(operation);
        }
        group
    }

    fn complete(&self, end: Option<u64>, waiting: Vec<Waiting>) {
        if let Some(end) = end {
            self.shared.state.lock().tail.written(end);
        }
        for waiting in waiting {
            waiting.complete(Ok(()));
        }
    }

    /// Stops the member. Operations that still wait are dropped with their queue, which openraft takes as a failure.
    fn fail(&self, error: EngineError, waiting: Vec<Waiting>) {
        let error = RaftError::from(error);
        self.shared.fatal.report(error.clone());
        for waiting in waiting {
            waiting.complete(Err(io::Error::other(error.clone())));
        }
    }
}

impl Group {
    fn add(&mut self, operation: Operation) {
        match operation {
            Operation::Append { entries, flushed } => {
                for entry in &entries {
                    disk::put_entry(&mut self.batch, entry);
                }
                self.end = entries.last().map_or(self.end, |last| Some(last.log_id.index + 1));
                self.waiting.push(Waiting::Append(flushed));
            }
            Operation::Change { change, done } => {
                match change {
                    Change::Vote(_) if Bug::VoteNotKept.is_planted() => {}
                    Change::Vote(vote) => disk::put_vote(&mut self.batch, &vote),
                    Change::Truncate { from } => {
                        disk::truncate(&mut self.batch, from);
                        self.end = self.end.map(|end| end.min(from));
                    }
                    Change::Purge { upto } => disk::purge(&mut self.batch, &upto),
                    Change::Known { member, known } => disk::put_known(&mut self.batch, member, &known),
                    Change::Forgetful { reason } => disk::put_forgetful(&mut self.batch, &reason),
                }
                self.waiting.extend(done.map(Waiting::Change));
            }
        }
    }
}

impl Waiting {
    fn complete(self, result: io::Result<()>) {
        match self {
            Self::Append(flushed) => flushed.io_completed(result),
            // openraft itself was dropped in the middle if nobody takes it.
            Self::Change(done) => drop(done.send(result)),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::Engine;
    use openraft::storage::RaftLogStorage;

    use super::*;
    use crate::{
        fatal::Fatal,
        log::{LogStore, SPACES, recover, tests},
    };

    #[tokio::test]
    async fn what_waits_is_written_together() {
        let engine = Engine::in_memory(SPACES);
        let recovered = recover(&engine, &tests::config(), None).unwrap();
        let (mut store, mut writer, _) = LogStore::new(engine, recovered, usize::MAX, Fatal::new());
        for index in 0..50 {
            store.append([tests::entry(1, index)], IOFlushed::noop()).await.unwrap();
        }
        let first = writer.operations.recv().await.unwrap();
        let group = writer.gather(first);
        assert_eq!((group.batch.len(), group.waiting.len(), group.end), (50, 50, Some(50)));
    }
}
