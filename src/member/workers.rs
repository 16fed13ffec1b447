//! Serving on every core.
//!
//! Owns: one thread a core for each listener, each with a runtime of its own that accepts from the shared socket.
//!
//! - A connection stays on the thread that accepted it: its requests are read, answered and written without work
//!   stealing between cores.
//! - The thread with the fewest connections accepts the next.

use std::{net::TcpListener, thread, time::Duration};

use anyhow::Context;
use futures_util::StreamExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tls::{Connection, Incoming, Limits, Security, Turn, Turns};
use tokio::{pin, runtime, select, sync::oneshot, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::{
    door::{Door, Faces},
    prompt::Prompt,
};

/// What a connection may send before it must wait for us, bytes.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// The same for one stream of it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// How long a connection may take to say what it speaks, and an HTTP/1.1 request until its head is there.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// Streams at once on one HTTP/2 connection.
    pub(crate) streams_max: u32,
    /// A silent HTTP/2 connection is probed this often; `None`: never.
    pub(crate) probe_interval: Option<Duration>,
    /// And cut when the probe is not answered for this long.
    pub(crate) probe_timeout: Duration,
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            streams_max: 10_000,
            probe_interval: Some(Duration::from_secs(30)),
            probe_timeout: Duration::from_secs(20),
        }
    }
}

/// Serves until `stop`, and then until the connections have ended. Each thread serves a [`Faces::for_thread`].
///
/// # Errors
/// If a thread could not be started, or its listener failed.
pub(super) async fn serve(
    faces: Faces,
    listener: TcpListener,
    security: Security,
    keeping: Keeping,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let count = thread::available_parallelism().map_or(1, usize::from);
    let turns = Turns::default();
    let mut workers = JoinSet::new();
    for number in 0..count {
        let worker = Worker {
            faces: faces.for_thread(),
            security: security.clone(),
            limits: share(Limits::default(), count),
            keeping,
            turn: Some(turns.join()),
            stop: stop.clone(),
        };
        let listener = listener.try_clone()?;
        let (ended, outcome) = oneshot::channel();
        let work = move || {
            // Nobody asks for the outcome when the process is ending.
            drop(ended.send(worker.run(listener)));
        };
        thread::Builder::new().name(format!("serve-{number}")).spawn(work)?;
        workers.spawn(outcome);
    }
    while let Some(outcome) = workers.join_next().await {
        outcome?.context("a serving thread died")??;
    }
    Ok(())
}

/// Serves on the runtime that it runs on, and nowhere else, until `stop`.
///
/// # Errors
/// If the listener failed.
pub(super) async fn serve_here(
    faces: Faces,
    listener: TcpListener,
    security: Security,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let (limits, keeping) = (Limits::default(), Keeping::default());
    Worker { faces, security, limits, keeping, turn: None, stop }.accept(listener).await
}

/// One thread's part of a listener's limits.
fn share(limits: Limits, count: usize) -> Limits {
    let part = |limit: usize| limit.div_ceil(count);
    Limits {
        connections_max: part(limits.connections_max),
        handshakes_max: part(limits.handshakes_max),
        handshake_timeout: limits.handshake_timeout,
    }
}

struct Worker {
    faces: Faces,
    security: Security,
    limits: Limits,
    keeping: Keeping,
    /// If others accept from the same socket.
    turn: Option<Turn>,
    stop: CancellationToken,
}

impl Worker {
    fn run(self, listener: TcpListener) -> anyhow::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.accept(listener))
    }

    async fn accept(self, listener: TcpListener) -> anyhow::Result<()> {
        let secure = !matches!(self.security, Security::Plain);
        let incoming = Incoming::new(tokio::net::TcpListener::from_std(listener)?, self.security, self.limits);
        let mut incoming = match self.turn {
            Some(turn) => incoming.in_turn(turn),
            None => incoming,
        };
        let (protocols, connections) = (protocols(self.keeping), TaskTracker::new());
        while let Some(Some(accepted)) = self.stop.run_until_cancelled(incoming.next()).await {
            let connection = accepted.context("the listener failed")?;
            let door = Door::new(self.faces.clone(), connection.peer().clone(), secure);
            connections.spawn(serve_connection(connection, door, protocols.clone(), self.stop.clone()));
        }
        // Whoever connects from now on is told so by the kernel, at once.
        drop(incoming);
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

fn protocols(keeping: Keeping) -> auto::Builder<TokioExecutor> {
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    protocols
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(keeping.streams_max)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .keep_alive_interval(keeping.probe_interval)
        .keep_alive_timeout(keeping.probe_timeout);
    protocols
}

/// Serves one connection; after `stop` it finishes what it is asked already.
async fn serve_connection(
    connection: Connection,
    door: Door,
    protocols: auto::Builder<TokioExecutor>,
    stop: CancellationToken,
) {
    let addr = connection.peer().addr;
    let io = TokioIo::new(Prompt::new(connection, HEADER_TIMEOUT));
    let served = protocols.serve_connection(io, door);
    pin!(served);
    let ended = select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        debug!(peer = %addr, %error, "connection ended early");
    }
}
