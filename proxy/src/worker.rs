//! Threads that carry traffic, one runtime each.
//!
//! - A connection lives and dies on the worker that accepted it; so do the upstream connections it uses.
//! - The owner of every task that a connection starts is its worker: dropping the worker's runtime ends them.

use std::{io, sync::Arc, thread, time::Duration};

use arc_swap::ArcSwap;
use tls::Credentials;
use tokio::{runtime, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Snapshot, settings::Limits, telemetry::Telemetry};

/// What all workers read.
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) credentials: Credentials,
    pub(crate) limits: Limits,
    /// This proxy's SPIFFE ID.
    pub(crate) own_id: String,
}

/// A thread and its runtime.
pub(crate) struct Worker {
    pub(crate) runtime: runtime::Handle,
    /// Downstream connections.
    pub(crate) connections: TaskTracker,
    thread: Option<thread::JoinHandle<()>>,
}

/// All workers.
pub(crate) struct Workers {
    pub(crate) all: Vec<Worker>,
    stop: CancellationToken,
}

impl Workers {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let all = (0..count).map(|index| Worker::start(index, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self { all, stop })
    }

    /// Lets connections finish for so long, then cuts them; returns how many were cut.
    pub(crate) async fn drain(mut self, limit: Duration) -> usize {
        let finished = async {
            for worker in &self.all {
                worker.connections.close();
                worker.connections.wait().await;
            }
        };
        let cut = match timeout(limit, finished).await {
            Ok(()) => 0,
            Err(_) => self.all.iter().map(|worker| worker.connections.len()).sum(),
        };
        self.stop.cancel();
        let threads: Vec<_> = self.all.iter_mut().filter_map(|worker| worker.thread.take()).collect();
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok())).await;
        if !joined.unwrap_or(false) {
            tracing::error!("a worker panicked");
        }
        cut
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Worker {
    fn start(index: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new()
            .name(format!("proxy-{index}"))
            .spawn(move || runtime.block_on(stop.cancelled_owned()))?;
        Ok(Self { runtime: handle, connections: TaskTracker::new(), thread: Some(thread) })
    }
}
