//! One client's HTTP connection.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::handler::handle;
use crate::{
    config::{Codec, HttpConfig},
    telemetry::PartyId,
    upstream::Io,
    worker::Shared,
};

/// Pings on an HTTP/2 connection that is silent, and the time for their answer.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// Who is at the other end of a downstream connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    /// Proven by mTLS.
    pub(crate) identity: Option<Arc<str>>,
    /// What upstream is told of the identity.
    pub(crate) client_cert: Option<HeaderValue>,
    pub(crate) party: PartyId,
}

/// What the requests of one connection share.
pub(crate) struct HttpConnection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: usize,
    pub(crate) config: Arc<HttpConfig>,
    pub(crate) peer: Peer,
    /// No further request is served after those in flight.
    pub(crate) drain: CancellationToken,
    pub(crate) activity: Arc<Activity>,
}

impl HttpConnection {
    pub(crate) fn drains(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Serves the connection to its end.
    pub(crate) async fn serve(self, io: Io) {
        let idle = self.config.idle_timeout.unwrap_or(self.shared.limits.downstream_idle_timeout);
        let builder = builder(&self.config, &self.shared.limits);
        let (drain, activity) = (self.drain.clone(), self.activity.clone());
        let connection = Arc::new(self);
        let service = service_fn(move |request| {
            let connection = connection.clone();
            async move { Ok::<_, std::convert::Infallible>(handle(connection, request).await) }
        });
        let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
        let result = tokio::select! {
            result = served.as_mut() => result,
            () = activity.idle(idle) => Ok(()),
            () = drain.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "downstream connection ended");
        }
    }
}

/// How many requests a connection serves now, and when the last one ended.
#[derive(Debug)]
pub(crate) struct Activity {
    epoch: Instant,
    requests: AtomicU32,
    /// Milliseconds since `epoch`.
    last_end: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { epoch: Instant::now(), requests: AtomicU32::new(0), last_end: AtomicU64::new(0) }
    }
}

impl Activity {
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.requests.fetch_add(1, Relaxed);
        Active(self.clone())
    }

    /// Waits until the connection has served nothing for so long.
    async fn idle(&self, limit: Duration) {
        loop {
            let busy = self.requests.load(Relaxed) > 0;
            let since =
                if busy { Instant::now() } else { self.epoch + Duration::from_millis(self.last_end.load(Relaxed)) };
            if since + limit <= Instant::now() {
                return;
            }
            sleep_until(since + limit).await;
        }
    }
}

/// One request, until its response has been sent.
pub(crate) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        let since = u64::try_from(self.0.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end.store(since, Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

fn builder(config: &HttpConfig, limits: &crate::settings::Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max)
        .max_headers(limits.headers_max)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.h2_header_bytes_max)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_pending_accept_reset_streams(20);
    match config.codec {
        Codec::Detect => builder,
        Codec::Http1 => builder.http1_only(),
        Codec::Http2 => builder.http2_only(),
    }
}
