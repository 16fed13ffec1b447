//! HTTP connections of one worker to one endpoint.
//!
//! - The mutex is taken by the worker that owns the pool, and rarely by the sweep of idle connections: on the request
//!   path nobody waits for it.
//! - A connection goes back only after its request was sent and its response read to the end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::{Breakers, ConnectFailure, Endpoint, Permit, Resource, endpoint::Busy};
use crate::{
    config::Thresholds,
    http::{Meter, RequestBody},
    telemetry::PartyId,
};

/// Idle and shared connections.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Told when a connection comes back or is gone.
    freed: Notify,
    /// One HTTP/2 connection is opened at a time: the requests that wait will share it.
    opening_h2: Semaphore,
}

#[derive(Default)]
struct State {
    idle: Vec<H1>,
    h2: Vec<Arc<H2>>,
    open: u32,
}

/// An HTTP/1.1 connection.
pub(crate) struct H1 {
    pub(crate) sender: http1::SendRequest<RequestBody>,
    pub(crate) party: PartyId,
    /// Where it goes: an endpoint that moved still uses what it has.
    pub(crate) address: SocketAddr,
    /// Whether it has served a request before.
    pub(crate) reused: bool,
    served: u32,
    since: Instant,
}

/// An HTTP/2 connection, shared by its streams.
pub(crate) struct H2 {
    pub(crate) sender: http2::SendRequest<RequestBody>,
    pub(crate) party: PartyId,
    pub(crate) address: SocketAddr,
    streams: AtomicU32,
    served: AtomicU32,
}

/// A connection that a request may use.
pub(crate) enum Checkout {
    H1(H1),
    H2(Arc<H2>),
}

/// Which HTTP a request asks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    H1,
    H2,
    Negotiated,
}

/// Why no connection is to be had.
#[derive(Debug)]
pub(crate) enum CheckoutFailure {
    /// A circuit breaker is open.
    Overflow,
    Connect(ConnectFailure),
}

impl Default for Pool {
    fn default() -> Self {
        Self { state: Mutex::default(), freed: Notify::new(), opening_h2: Semaphore::new(1) }
    }
}

impl Pool {
    /// Closes connections that idle too long.
    pub(crate) fn sweep(&self, now: Instant, idle: std::time::Duration) {
        let expired = |since: Instant| now.saturating_duration_since(since) >= idle;
        let mut state = self.state.lock();
        state.idle.retain(|connection| !expired(connection.since) && !connection.sender.is_closed());
        state.h2.retain(|connection| !connection.sender.is_closed());
    }

    fn take_idle(&self) -> Option<H1> {
        let mut state = self.state.lock();
        loop {
            let connection = state.idle.pop()?;
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
    }

    fn share_h2(&self, streams_max: u32, requests_max: Option<u32>) -> Option<Arc<H2>> {
        let mut state = self.state.lock();
        state.h2.retain(|connection| {
            let worn = requests_max.is_some_and(|max| connection.served.load(Relaxed) >= max);
            !connection.sender.is_closed() && !worn
        });
        let found = state.h2.iter().find(|connection| connection.streams.load(Relaxed) < streams_max)?;
        found.streams.fetch_add(1, Relaxed);
        found.served.fetch_add(1, Relaxed);
        Some(found.clone())
    }
}

impl Endpoint {
    /// An idle or shared connection if there is one, else a new one.
    pub(crate) async fn checkout(
        self: &Arc<Self>,
        worker: usize,
        want: Want,
        breakers: &Arc<Breakers>,
        thresholds: &Thresholds,
    ) -> Result<Checkout, CheckoutFailure> {
        let pool = &self.pools[worker];
        let key = &self.spec.key;
        let share = || pool.share_h2(key.h2_streams_max, key.requests_per_connection);
        if want != Want::H1
            && let Some(shared) = share()
        {
            return Ok(Checkout::H2(shared));
        }
        if want != Want::H2
            && let Some(idle) = ready_idle(pool).await
        {
            return Ok(Checkout::H1(idle));
        }
        let _pending = breakers.acquire(Resource::Pending, thresholds.pending).ok_or(CheckoutFailure::Overflow)?;
        let _turn = match want {
            Want::H1 => None,
            Want::H2 | Want::Negotiated => pool.opening_h2.acquire().await.ok(),
        };
        if want != Want::H1
            && let Some(shared) = share()
        {
            return Ok(Checkout::H2(shared));
        }
        loop {
            // A worker may always open its first connection, so that one worker's idle ones never starve another.
            let first = pool.state.lock().open == 0;
            let permit = match breakers.acquire(Resource::Connections, thresholds.connections) {
                Some(permit) => Some(permit),
                None if first => Some(breakers.acquire_regardless(Resource::Connections)),
                None => None,
            };
            if let Some(permit) = permit {
                return self.open(worker, want, permit).await.map_err(CheckoutFailure::Connect);
            }
            let freed = pool.freed.notified();
            if want != Want::H2
                && let Some(idle) = ready_idle(pool).await
            {
                return Ok(Checkout::H1(idle));
            }
            freed.await;
        }
    }

    async fn open(self: &Arc<Self>, worker: usize, want: Want, permit: Permit) -> Result<Checkout, ConnectFailure> {
        let open = Open::new(self.clone(), worker, permit);
        let connected = self.connect().await?;
        let address = self.address;
        let party = self.party(connected.peer.map(|peer| peer.to_string()));
        let h2 = want == Want::H2 || (want == Want::Negotiated && connected.io.negotiated_h2());
        let io = TokioIo::new(connected.io);
        if h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).adaptive_window(true).max_header_list_size(64 << 10);
            let (sender, connection) = builder.handshake(io).await.map_err(ConnectFailure::Http)?;
            drive(open, connection);
            let (streams, served) = (AtomicU32::new(1), AtomicU32::new(1));
            let connection = Arc::new(H2 { sender, party, address, streams, served });
            self.pools[worker].state.lock().h2.push(connection.clone());
            return Ok(Checkout::H2(connection));
        }
        let (sender, connection) = http1::handshake(io).await.map_err(ConnectFailure::Http)?;
        drive(open, connection.with_upgrades());
        Ok(Checkout::H1(H1 { sender, party, address, reused: false, served: 0, since: Instant::now() }))
    }
}

/// Runs a connection to its end. The task belongs to the worker's runtime, which ends it if nothing else does.
fn drive<E: std::fmt::Display>(open: Open, connection: impl Future<Output = Result<(), E>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(endpoint = %open.endpoint.address, %error, "upstream connection ended");
        }
        drop(open);
    });
}

async fn ready_idle(pool: &Pool) -> Option<H1> {
    loop {
        let mut connection = pool.take_idle()?;
        // The response was read to its end, so the connection is ready as soon as its task has run once more.
        if connection.sender.ready().await.is_ok() {
            return Some(connection);
        }
    }
}

/// An open connection, as its pool and the circuit breaker count it.
struct Open {
    endpoint: Arc<Endpoint>,
    worker: usize,
    _permit: Permit,
}

impl Open {
    fn new(endpoint: Arc<Endpoint>, worker: usize, permit: Permit) -> Self {
        endpoint.pools[worker].state.lock().open += 1;
        Self { endpoint, worker, _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let pool = &self.endpoint.pools[self.worker];
        pool.state.lock().open -= 1;
        pool.freed.notify_one();
    }
}

/// A connection in use by one request, until its response has been read.
pub(crate) struct Lease {
    held: Option<Checkout>,
    worker: usize,
    meter: Option<Arc<Meter>>,
    busy: Busy,
    _request: Permit,
}

impl Lease {
    pub(crate) fn new(held: Checkout, worker: usize, meter: Option<Arc<Meter>>, busy: Busy, request: Permit) -> Self {
        Self { held: Some(held), worker, meter, busy, _request: request }
    }

    /// The response was read to its end: the connection may serve another request.
    pub(crate) fn finish(&mut self) {
        let endpoint = self.busy.0.clone();
        let sent = self.meter.as_ref().is_none_or(|meter| meter.is_done());
        let key = &endpoint.spec.key;
        if let Some(Checkout::H1(mut connection)) = self.held.take_if(|held| sent && matches!(held, Checkout::H1(_))) {
            connection.served += 1;
            (connection.reused, connection.since) = (true, Instant::now());
            let pool = &endpoint.pools[self.worker];
            let worn = key.requests_per_connection.is_some_and(|max| connection.served >= max);
            if !worn && !connection.sender.is_closed() {
                let mut state = pool.state.lock();
                if state.idle.len() < key.idle_max {
                    state.idle.push(connection);
                }
            }
            pool.freed.notify_one();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(Checkout::H2(connection)) = &self.held {
            connection.streams.fetch_sub(1, Relaxed);
        }
    }
}
