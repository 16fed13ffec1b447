//! Serving on every core.
//!
//! Owns: one thread a core for each listener, each with a runtime of its own that accepts from the shared socket.
//!
//! - A connection stays on the thread that accepted it: its requests are read, answered and written without work
//!   stealing between cores.
//! - A busy thread accepts nothing, so connections go to those that are idle.

use std::{net::TcpListener, thread, time::Duration};

use anyhow::Context;
use tls::{Incoming, Limits, Security};
use tokio::{runtime, sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

/// Streams at once on one client connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 10_000;
/// What a connection may send before it must wait for us, bytes.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// The same for one stream of it.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// A silent connection is probed this often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Serves until `stop`, and then until the connections have ended.
///
/// # Errors
/// If a thread could not be started, or its listener failed.
pub(super) async fn serve(
    routes: Routes,
    listener: TcpListener,
    security: Security,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let count = thread::available_parallelism().map_or(1, usize::from);
    let mut workers = JoinSet::new();
    for number in 0..count {
        let (routes, security, stop) = (routes.clone(), security.clone(), stop.clone());
        let listener = listener.try_clone()?;
        let limits = share(Limits::default(), count);
        let (ended, outcome) = oneshot::channel();
        let work = move || {
            // Nobody asks for the outcome when the process is ending.
            drop(ended.send(work(routes, listener, security, limits, stop)));
        };
        thread::Builder::new().name(format!("serve-{number}")).spawn(work)?;
        workers.spawn(outcome);
    }
    while let Some(outcome) = workers.join_next().await {
        outcome?.context("a serving thread died")??;
    }
    Ok(())
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

fn work(
    routes: Routes,
    listener: TcpListener,
    security: Security,
    limits: Limits,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let incoming = Incoming::new(tokio::net::TcpListener::from_std(listener)?, security, limits);
        let (health, service) = tonic_health::server::health_reporter();
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .add_routes(routes.add_service(service));
        Ok(server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?)
    })
}
