//! The threads that a member can not go on without.
//!
//! - They end when nobody has anything for them any more, and whoever drops them waits for that. RocksDB's files are closed
//!   by the last thread that has them: were it overtaken by the end of the process, it would meet the destructors of RocksDB's
//!   own statics, and abort.

use std::{
    panic::AssertUnwindSafe,
    thread::{self, Builder, JoinHandle},
};

use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{RaftError, fatal::Fatal};

/// Running threads. Dropping them stops them after what they are doing, and waits.
pub(crate) struct Threads {
    handles: Vec<JoinHandle<()>>,
    end: CancellationToken,
}

/// How a thread waits for something to do.
pub(crate) struct Idle {
    runtime: Handle,
    end: CancellationToken,
}

impl Idle {
    /// Of a thread that ends with its queue alone.
    #[cfg(test)]
    pub(crate) fn current() -> Self {
        Self { runtime: Handle::current(), end: CancellationToken::new() }
    }

    /// The next thing to do; `None` once there is nothing more.
    pub(crate) fn next<T>(&self, queue: &mut mpsc::Receiver<T>) -> Option<T> {
        self.runtime.block_on(self.end.run_until_cancelled(queue.recv())).flatten()
    }
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self { handles: Vec::new(), end: CancellationToken::new() }
    }

    /// Starts another one; if it panics, the member stops. Called in the member's runtime.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        fatal: Fatal,
        body: impl FnOnce(Idle) + Send + 'static,
    ) -> Result<(), RaftError> {
        let idle = Idle { runtime: Handle::current(), end: self.end.clone() };
        let guarded = move || {
            if std::panic::catch_unwind(AssertUnwindSafe(|| body(idle))).is_err() {
                fatal.report(RaftError::Stopped { reason: format!("thread {name} panicked") });
            }
        };
        let spawned = Builder::new().name(name.to_owned()).spawn(guarded);
        let no_thread = |error| RaftError::Stopped { reason: format!("no thread for {name}: {error}") };
        self.handles.push(spawned.map_err(no_thread)?);
        Ok(())
    }

    /// Returns when they have ended by themselves.
    pub(crate) async fn ended(mut self) {
        let handles = std::mem::take(&mut self.handles);
        drop(tokio::task::spawn_blocking(|| join(handles)).await);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end.cancel();
        join(std::mem::take(&mut self.handles));
    }
}

/// A thread catches its own panics, so that joining it can not fail.
fn join(handles: Vec<JoinHandle<()>>) {
    let others = handles.into_iter().filter(|handle| handle.thread().id() != thread::current().id());
    others.for_each(|handle| drop(handle.join()));
}
