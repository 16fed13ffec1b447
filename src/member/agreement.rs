//! The thread on which the log is agreed on.
//!
//! Owns: one thread with a runtime of its own, for a member's tasks.
//!
//! - An entry passes through several of these tasks: on one thread, handing it over wakes no other.

use std::thread::{self, JoinHandle};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};

/// Runs what is spawned on `runtime`, until it is dropped: what runs then is cancelled, and waited for.
pub(super) struct Agreement {
    pub(super) runtime: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Agreement {
    /// Starts the thread.
    pub(super) fn start() -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        // The sender never sends, it only goes away.
        let body = move || drop(runtime.block_on(ended));
        let thread = thread::Builder::new().name("raft".to_owned()).spawn(body)?;
        Ok(Self { runtime: handle, end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Agreement {
    fn drop(&mut self) {
        drop(self.end.take());
        // It only fails if one of the member's tasks took the thread with it, which the log tells.
        drop(self.thread.take().map(JoinHandle::join));
    }
}
