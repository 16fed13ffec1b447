//! Endpoints, and the rule by which calls move between them.
//!
//! Owns: the connections, which endpoint is preferred now, and the login.
//!
//! - An endpoint that fails is left for the next one; whoever sees the failure first moves everybody on, once.
//! - A request whose token is refused was not looked at: it is made again, once, with a new one.
//! - Watches have a connection of their own, so that a flood of events does not stand before the answers of calls.

use crate::{
    ClientError, Config,
    backoff::Backoff,
    error::Failure,
    login::{self, Login, Used},
};
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
use tls::Connector;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response, Uri},
    service::Routes,
    transport::{Channel, Endpoint as Dialer},
};
use tower::{Service, ServiceExt};

/// Bytes that a server may send ahead of the reader of one stream.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for one connection: the most that HTTP/2 can say, so that a stream which nobody reads holds back no other
/// before there are two thousand of them.
const CONNECTION_WINDOW_BYTES: u32 = i32::MAX as u32;

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
    login: Option<Arc<Login>>,
}

struct Endpoint {
    name: String,
    calls: Link,
    watches: Link,
    metrics: Option<MetricsSource>,
}

/// How a server's metrics are had, which are no gRPC.
#[derive(Clone)]
pub(crate) struct MetricsSource {
    pub(crate) connector: Connector,
    pub(crate) uri: Uri,
    pub(crate) is_tls: bool,
}

impl Transport {
    pub(crate) fn network(config: &Config) -> Result<Self, ClientError> {
        if config.endpoints.is_empty() {
            return Err(ClientError::Config("no endpoint is given".to_owned()));
        }
        let login = config.user.clone().map(|user| Arc::new(Login::new(user)));
        let endpoint = |name: &String| Endpoint::network(name, config, login.as_ref());
        let endpoints = config.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        Ok(Self::new(endpoints, config.request_timeout, login))
    }

    /// Over channels that `dial` makes of the names of the endpoints, two of each.
    pub(crate) fn dialed(config: &Config, dial: impl Fn(&str) -> Channel) -> Result<Self, ClientError> {
        if config.endpoints.is_empty() {
            return Err(ClientError::Config("no endpoint is given".to_owned()));
        }
        let login = config.user.clone().map(|user| Arc::new(Login::new(user)));
        let link = |name: &str| Link { way: Way::Network(dial(name)), login: login.clone() };
        let endpoint =
            |name: &String| Endpoint { name: name.clone(), calls: link(name), watches: link(name), metrics: None };
        let endpoints = config.endpoints.iter().map(endpoint).collect();
        Ok(Self::new(endpoints, config.request_timeout, login))
    }

    pub(crate) fn in_process(routes: Routes) -> Self {
        let link = Link { way: Way::InProcess(routes), login: None };
        let endpoint = Endpoint { name: "in-process".to_owned(), calls: link.clone(), watches: link, metrics: None };
        Self::new(vec![endpoint], Config::default().request_timeout, None)
    }

    fn new(endpoints: Vec<Endpoint>, request_timeout: Duration, login: Option<Arc<Login>>) -> Self {
        Self { shared: Arc::new(Shared { endpoints, preferred: AtomicUsize::new(0), request_timeout, login }) }
    }

    /// Logs in by this endpoint, if there is a user and that was not done. Until then nothing of a call was sent.
    pub(crate) async fn log_in(&self, preferred: &Preferred<'_>, deadline: Instant) -> Result<Option<Used>, Status> {
        let Some(login) = &self.shared.login else { return Ok(None) };
        let deadline = self.attempt_deadline(Repeat::Always, deadline);
        let used = timeout_at(deadline, login.ensure(preferred.calls())).await;
        used.unwrap_or_else(|_| Err(Status::unavailable("no answer to a login"))).map(Some)
    }

    /// Whether another login may help against these words of a server's; the one that was used is forgotten then.
    pub(crate) fn renews(&self, used: Option<&Used>, text: &str) -> bool {
        match (&self.shared.login, used) {
            (Some(login), Some(used)) if login::is_refused(text) => {
                login.forget(used);
                true
            }
            _ => false,
        }
    }

    /// Of the first endpoint; `None` inside one process.
    pub(crate) fn metrics_source(&self) -> Option<MetricsSource> {
        self.shared.endpoints.first().and_then(|endpoint| endpoint.metrics.clone())
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
        let (mut attempts, mut renewed) = (0_usize, false);
        loop {
            let preferred = self.preferred();
            let error = match self.log_in(&preferred, deadline).await {
                Ok(used) => match self.once(&preferred, repeat, deadline, &attempt).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(Ok(status)) if !renewed && self.renews(used.as_ref(), status.message()) => {
                        renewed = true;
                        continue;
                    }
                    Err(Ok(status)) => preferred.failed(repeat, &status)?,
                    Err(Err(waited)) => preferred.was_silent(repeat, waited)?,
                },
                Err(status) => preferred.failed(Repeat::Always, &status)?,
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

    /// One attempt: how it failed, or how long it went unanswered.
    async fn once<T, F>(
        &self,
        preferred: &Preferred<'_>,
        repeat: Repeat,
        deadline: Instant,
        attempt: &impl Fn(Link) -> F,
    ) -> Result<tonic::Response<T>, Result<Status, Duration>>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let started = Instant::now();
        match timeout_at(self.attempt_deadline(repeat, deadline), attempt(preferred.calls())).await {
            Ok(outcome) => outcome.map_err(Ok),
            Err(_) => Err(Err(started.elapsed())),
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
    fn network(name: &str, config: &Config, login: Option<&Arc<Login>>) -> Result<Self, ClientError> {
        let connector = config.tls.clone().map_or_else(Connector::plain, Connector::tls);
        let uri = address(name, config.tls.is_some())?;
        let dialer = Dialer::from(uri.clone())
            .http2_keep_alive_interval(config.keepalive_interval)
            .keep_alive_timeout(config.keepalive_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let channel = || dialer.connect_with_connector_lazy(bounded(&connector, config.connect_timeout));
        let connect = || Link { way: Way::Network(channel()), login: login.cloned() };
        let metrics = MetricsSource { connector: connector.clone(), uri, is_tls: config.tls.is_some() };
        Ok(Self { name: name.to_owned(), calls: connect(), watches: connect(), metrics: Some(metrics) })
    }
}

/// An endpoint's URI. A scheme that contradicts the configuration is refused, rather than one of them ignored.
fn address(name: &str, tls: bool) -> Result<Uri, ClientError> {
    let malformed =
        || ClientError::Config(format!("endpoint {name:?} is not HOST:PORT, http://HOST:PORT or https://HOST:PORT"));
    let scheme = if tls { "https" } else { "http" };
    let text = if name.contains("://") { name.to_owned() } else { format!("{scheme}://{name}") };
    let uri = Uri::try_from(text).map_err(|_| malformed())?;
    match (uri.scheme_str(), tls) {
        _ if uri.host().is_none_or(str::is_empty) || uri.path().len() > 1 || uri.query().is_some() => Err(malformed()),
        (Some("http"), false) | (Some("https"), true) => Ok(uri),
        (Some("https"), false) => {
            Err(ClientError::Config(format!("endpoint {name} needs TLS: say which authority to trust")))
        }
        (Some("http"), true) => {
            Err(ClientError::Config(format!("endpoint {name} is plain text, but TLS is configured")))
        }
        _ => Err(malformed()),
    }
}

/// Connects within `limit`. The limit is kept here because tonic's own reports a late connection as if a request might
/// have been sent on it.
fn bounded(
    connector: &Connector,
    limit: Duration,
) -> impl Service<Uri, Response = <Connector as Service<Uri>>::Response, Error = BoxError, Future: Send>
+ Send
+ 'static
+ use<> {
    let connector = connector.clone();
    tower::service_fn(move |uri: Uri| {
        let connecting = connector.clone().oneshot(uri);
        async move {
            let connected = timeout(limit, connecting).await;
            Ok::<_, BoxError>(connected.map_err(|_| format!("no connection within {limit:?}"))??)
        }
    })
}

/// A way to a server, and who we are there, as tonic's generated clients want it.
#[derive(Clone)]
pub(crate) struct Link {
    way: Way,
    login: Option<Arc<Login>>,
}

#[derive(Clone)]
enum Way {
    Network(Channel),
    InProcess(Routes),
}

impl Link {
    /// The same way, as nobody.
    pub(crate) fn without_login(self) -> Self {
        Self { login: None, ..self }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Request<Body>> for Link {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.way {
            Way::Network(channel) => channel.poll_ready(context).map_err(Into::into),
            Way::InProcess(routes) => Service::<Request<Body>>::poll_ready(routes, context).map_err(Into::into),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(login) = &self.login {
            login.mark(request.headers_mut());
        }
        match &mut self.way {
            Way::Network(channel) => {
                let response = channel.call(request);
                Box::pin(async { Ok(response.await?) })
            }
            Way::InProcess(routes) => {
                let response = routes.call(request);
                Box::pin(async { Ok(response.await?) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_and_its_scheme_is_meant() {
        let cases = [
            ("127.0.0.1:2379", false, Some("http://127.0.0.1:2379/")),
            ("127.0.0.1:2379", true, Some("https://127.0.0.1:2379/")),
            ("http://[::1]:2379", false, Some("http://[::1]:2379/")),
            ("https://store.example:2379/", true, Some("https://store.example:2379/")),
            ("http://127.0.0.1:2379", true, None),
            ("https://127.0.0.1:2379", false, None),
            ("unix:///run/store", false, None),
            ("http://127.0.0.1:2379/path", false, None),
            ("http://", false, None),
            ("", false, None),
            ("a b", false, None),
        ];
        for (name, tls, expected) in cases {
            let uri = address(name, tls).map(|uri| uri.to_string());
            assert_eq!(uri.as_deref().ok(), expected, "{name:?} tls={tls}");
            assert!(matches!(uri, Ok(_) | Err(ClientError::Config(_))));
        }
    }
}
