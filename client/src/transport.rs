//! Endpoints, and the rule by which calls move between them.
//!
//! Owns: the connections, and which endpoint is preferred now.
//!
//! - An endpoint that fails is left for the next one; whoever sees the failure first moves everybody on, once.
//! - Watches have a connection of their own: a watch that nobody reads fills its flow-control window and must not
//!   hold back calls.

use crate::{ClientError, Config, backoff::Backoff, error::Failure};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
    service::Routes,
    transport::{Channel, Endpoint as Dialer},
};
use tower::Service;

/// Bytes that a server may send ahead of the reader: on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Largest message that is read: etcd's own client has the same limit, because a range has none.
pub(crate) const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// When a failed call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Reads, and what changes nothing when it happens twice.
    Always,
    /// Writes.
    IfUnsent,
}

/// The endpoints of one cluster. Clones share them.
#[derive(Clone)]
pub(crate) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    preferred: AtomicUsize,
    request_timeout: Duration,
}

struct Endpoint {
    name: String,
    calls: Link,
    watches: Link,
}

impl Transport {
    pub(crate) fn network(config: &Config) -> Result<Self, ClientError> {
        if config.endpoints.is_empty() {
            return Err(ClientError::Config("no endpoint is given".to_owned()));
        }
        let endpoints =
            config.endpoints.iter().map(|name| Endpoint::network(name, config)).collect::<Result<_, _>>()?;
        Ok(Self::new(endpoints, config.request_timeout))
    }

    pub(crate) fn in_process(routes: Routes) -> Self {
        let link = Link::InProcess(routes);
        let endpoint = Endpoint { name: "in-process".to_owned(), calls: link.clone(), watches: link };
        Self::new(vec![endpoint], Config::default().request_timeout)
    }

    fn new(endpoints: Vec<Endpoint>, request_timeout: Duration) -> Self {
        Self { shared: Arc::new(Shared { endpoints, preferred: AtomicUsize::new(0), request_timeout }) }
    }

    /// Longest time for one call.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.shared.request_timeout
    }

    /// The endpoint to speak to now.
    pub(crate) fn preferred(&self) -> Preferred<'_> {
        let index = self.shared.preferred.load(Ordering::Relaxed);
        Preferred { shared: &self.shared, index, endpoint: &self.shared.endpoints[index] }
    }

    /// Makes one call, moving on and repeating as `repeat` allows.
    pub(crate) async fn call<T, F>(&self, repeat: Repeat, attempt: impl Fn(Link) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.shared.request_timeout;
        let mut backoff = Backoff::default();
        let mut attempts = 0_usize;
        loop {
            let (preferred, started) = (self.preferred(), Instant::now());
            let error = match timeout_at(self.attempt_deadline(repeat, deadline), attempt(preferred.calls())).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => preferred.failed(repeat, &status)?,
                Err(_) => preferred.was_silent(repeat, started.elapsed())?,
            };
            attempts += 1;
            let round_is_over = attempts.is_multiple_of(self.shared.endpoints.len());
            let wait = if round_is_over { backoff.wait() } else { Duration::ZERO };
            let next = Instant::now() + wait;
            if next >= deadline {
                return Err(error);
            }
            sleep_until(next).await;
        }
    }

    /// A read leaves half of its time for another endpoint, in case this one stays silent.
    fn attempt_deadline(&self, repeat: Repeat, deadline: Instant) -> Instant {
        let now = Instant::now();
        if repeat == Repeat::Always && self.shared.endpoints.len() > 1 {
            now + deadline.saturating_duration_since(now) / 2
        } else {
            deadline
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.endpoints.iter().map(|endpoint| &endpoint.name)).finish()
    }
}

/// The endpoint that was preferred when it was asked for.
pub(crate) struct Preferred<'a> {
    shared: &'a Shared,
    index: usize,
    endpoint: &'a Endpoint,
}

impl Preferred<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.endpoint.name
    }

    pub(crate) fn calls(&self) -> Link {
        self.endpoint.calls.clone()
    }

    pub(crate) fn watches(&self) -> Link {
        self.endpoint.watches.clone()
    }

    /// Prefers the next endpoint, unless somebody has moved on already.
    pub(crate) fn move_on(&self) {
        let next = (self.index + 1) % self.shared.endpoints.len();
        let moved =
            self.shared.preferred.compare_exchange(self.index, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if moved && next != self.index {
            tracing::debug!(from = %self.endpoint.name, to = %self.shared.endpoints[next].name, "changed endpoint");
        }
    }

    /// `Err` ends the call; `Ok` is what to say should time run out before the next attempt.
    fn failed(&self, repeat: Repeat, status: &Status) -> Result<ClientError, ClientError> {
        let failure = Failure::of(status);
        if failure == Failure::Answered {
            return Err(ClientError::answered(status));
        }
        self.move_on();
        if failure == Failure::Lost && repeat == Repeat::IfUnsent {
            return Err(ClientError::uncertain(&self.endpoint.name, status));
        }
        Ok(ClientError::unavailable(&self.endpoint.name, status))
    }

    fn was_silent(&self, repeat: Repeat, waited: Duration) -> Result<ClientError, ClientError> {
        self.move_on();
        let text = ClientError::silent(&self.endpoint.name, waited);
        match repeat {
            Repeat::Always => Ok(ClientError::Unavailable { text }),
            Repeat::IfUnsent => Err(ClientError::Uncertain { text }),
        }
    }
}

impl Endpoint {
    fn network(name: &str, config: &Config) -> Result<Self, ClientError> {
        let uri = if name.contains("://") { name.to_owned() } else { format!("http://{name}") };
        let dialer = Dialer::from_shared(uri)
            .map_err(|_| ClientError::Config(format!("endpoint {name:?} is not HOST:PORT or http://HOST:PORT")))?
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(config.keepalive_interval)
            .keep_alive_timeout(config.keepalive_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let connect = || Link::Network(dialer.connect_lazy());
        Ok(Self { name: name.to_owned(), calls: connect(), watches: connect() })
    }
}

/// One way to a server, as tonic's generated clients want it.
#[derive(Clone)]
pub(crate) enum Link {
    Network(Channel),
    InProcess(Routes),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Network(channel) => channel.poll_ready(context).map_err(Into::into),
            Self::InProcess(routes) => Service::<Request<Body>>::poll_ready(routes, context).map_err(Into::into),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Network(channel) => {
                let response = channel.call(request);
                Box::pin(async { Ok(response.await?) })
            }
            Self::InProcess(routes) => {
                let response = routes.call(request);
                Box::pin(async { Ok(response.await?) })
            }
        }
    }
}
