//! The thread on which the log is agreed on.
//!
//! Owns: one thread with a runtime of its own, for a member's tasks.
//!
//! - An entry passes through several of these tasks: on one thread, handing it over wakes no other.

use std::thread;

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};

/// Runs what is spawned on `runtime`, until it is dropped: what runs then is cancelled.
pub(super) struct Agreement {
    pub(super) runtime: Handle,
    _end: oneshot::Sender<()>,
}

impl Agreement {
    /// Starts the thread.
    pub(super) fn start() -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        // The sender never sends, it only goes away.
        let body = move || drop(runtime.block_on(ended));
        thread::Builder::new().name("raft".to_owned()).spawn(body)?;
        Ok(Self { runtime: handle, _end: end })
    }
}
