//! The threads that a member can not go on without.
//!
//! - Where its log's engine is a simulation's they are tasks of the member's runtime: there is one thread for all then.
//! - They end when nobody has anything for them any more, and whoever drops them waits for that. RocksDB's files are closed
//!   by the last thread that has them: were it overtaken by the end of the process, it would meet the destructors of RocksDB's
//!   own statics, and abort.

use std::{
    panic::AssertUnwindSafe,
    thread::{self, Builder},
};

use engine::Workers;
use futures_util::FutureExt;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{RaftError, fatal::Fatal};

/// Running threads. Dropping them stops them after what they are doing, and waits.
pub(crate) struct Threads {
    workers: Workers,
    handles: Vec<thread::JoinHandle<()>>,
    /// Those that have no thread of their own.
    tasks: Vec<tokio::task::JoinHandle<()>>,
    end: CancellationToken,
}

/// How a thread waits for something to do.
#[derive(Default)]
pub(crate) struct Idle {
    end: CancellationToken,
}

impl Idle {
    /// The next thing to do; `None` once there is nothing more.
    pub(crate) async fn next<T>(&self, queue: &mut mpsc::Receiver<T>) -> Option<T> {
        self.end.run_until_cancelled(queue.recv()).await.flatten()
    }
}

impl Threads {
    pub(crate) fn new(workers: Workers) -> Self {
        Self { workers, handles: Vec::new(), tasks: Vec::new(), end: CancellationToken::new() }
    }

    /// Starts another one; if it panics, the member stops. Called in the member's runtime. `body` blocks its thread.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        fatal: Fatal,
        body: impl FnOnce(Idle) -> F,
    ) -> Result<(), RaftError> {
        let body = AssertUnwindSafe(body(Idle { end: self.end.clone() })).catch_unwind();
        let guarded = async move {
            if body.await.is_err() {
                fatal.report(RaftError::Stopped { reason: format!("thread {name} panicked") });
            }
        };
        match self.workers {
            Workers::Threads => {
                let runtime = Handle::current();
                let spawned = Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(guarded));
                let no_thread = |error| RaftError::Stopped { reason: format!("no thread for {name}: {error}") };
                self.handles.push(spawned.map_err(no_thread)?);
            }
            Workers::Tasks => self.tasks.push(tokio::spawn(guarded)),
        }
        Ok(())
    }

    /// Returns when they have ended by themselves.
    pub(crate) async fn ended(mut self) {
        let handles = std::mem::take(&mut self.handles);
        drop(self.workers.run(|| join(handles)).await);
        for task in std::mem::take(&mut self.tasks) {
            drop(task.await);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end.cancel();
        join(std::mem::take(&mut self.handles));
    }
}

/// A thread catches its own panics, so that joining it can not fail.
fn join(handles: Vec<thread::JoinHandle<()>>) {
    let others = handles.into_iter().filter(|handle| handle.thread().id() != thread::current().id());
    others.for_each(|handle| drop(handle.join()));
}
