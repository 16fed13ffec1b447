//! The admin server: readiness, metrics, configuration and certificates, for people and for Prometheus.
//!
//! It only reads, and shows neither keys nor tokens.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Switch;
use crate::{worker::Shared, xds::Resources};

const CONNECTIONS_MAX: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the admin server shows.
pub(crate) struct AdminState {
    pub(crate) shared: Arc<Shared>,
    pub(crate) resources: Resources,
    pub(crate) ready: Arc<Switch>,
}

/// The admin server, bound.
pub(crate) struct Admin(TcpListener);

impl Admin {
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(TcpListener::bind(address).await?))
    }

    /// Serves until told to stop.
    pub(crate) async fn run(self, state: AdminState, stop: CancellationToken) {
        let (state, slots, tasks) = (Arc::new(state), Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
        while let Some(accepted) = stop.run_until_cancelled(accept(&self.0, &slots)).await {
            let Some((stream, slot)) = accepted else { continue };
            let (state, stop) = (state.clone(), stop.clone());
            tasks.spawn(async move {
                let service = service_fn(|request| {
                    let response = state.answer(&request);
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                let served = builder.serve_connection(TokioIo::new(stream), service);
                if let Some(Err(error)) = stop.run_until_cancelled(served).await {
                    tracing::debug!(%error, "admin connection ended");
                }
                drop(slot);
            });
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "admin accept failed");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

type Answer = Response<Full<Bytes>>;

impl AdminState {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served\n");
        }
        match request.uri().path() {
            "/ready" if self.ready.get() => text(StatusCode::OK, "text/plain", "LIVE\n"),
            "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "PRE_INITIALIZING\n"),
            "/metrics" | "/stats/prometheus" => self.metrics(),
            "/config_dump" => document(&self.config_dump()),
            "/certs" => document(&self.certs()),
            _ => text(StatusCode::NOT_FOUND, "text/plain", "/ready /metrics /stats/prometheus /config_dump /certs\n"),
        }
    }

    fn metrics(&self) -> Answer {
        match self.shared.telemetry.render() {
            Ok(metrics) => text(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "cannot render\n"),
        }
    }

    fn config_dump(&self) -> Value {
        let snapshot = self.shared.snapshot.load();
        let clusters = snapshot.clusters.iter().map(|(name, cluster)| {
            let (endpoints, ejected) = cluster.health();
            json!({"name": &**name, "endpoints": endpoints, "ejected": ejected})
        });
        let clusters: Vec<Value> = clusters.collect();
        let unresolved = self.shared.telemetry.troubles.list().into_iter();
        let unresolved: Vec<Value> = unresolved
            .map(|told| json!({"cluster": &*told.cluster, "name": &*told.name, "reason": told.reason}))
            .collect();
        json!({
            "connected": self.shared.telemetry.gauges.xds_connected.get(),
            "accepted": self.resources.summary(),
            "unresolved": unresolved,
            "serving": {"clusters": clusters, "routes": snapshot.routes.keys().map(|name| &**name).collect::<Vec<_>>()},
        })
    }

    fn certs(&self) -> Value {
        let svid = self.shared.credentials.svid();
        let certificate = svid.as_ref().map(|svid| {
            let validity = svid.validity();
            json!({
                "spiffe_id": svid.id().to_string(),
                "not_before": unix(validity.not_before),
                "not_after": unix(validity.not_after),
                "chain": svid.chain().len(),
            })
        });
        let bundle = self.shared.credentials.bundle();
        json!({
            "certificate": certificate,
            "trust_domain": bundle.trust_domain().to_string(),
            "roots": bundle.roots().len(),
        })
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn document(value: &Value) -> Answer {
    text(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn text(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
