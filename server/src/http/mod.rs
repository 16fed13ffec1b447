//! What a member says over HTTP: etcd's JSON gateway, its health, its version, its metrics.
//!
//! Owns: the paths, and the forms of the answers.
//! In:   requests of HTTP/1.1 or HTTP/2 that are not gRPC.
//! Out:  answers that etcd's clients, probes and dashboards know.
//!
//! - Nothing here knows what a request means: it goes to the gRPC services of this process, or reads what the member
//!   knows of itself.

mod access;
mod drain;
mod gateway;
mod health;
pub(crate) mod json;
mod paths;
mod raw;
mod reply;

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use tls::PeerInfo;
use tonic::body::Body;

pub use access::Access;
use gateway::Gateway;
pub(crate) use gateway::Methods;
pub(crate) use json::Malformed;

use crate::{
    GrpcFace,
    core::Core,
    upgrade::{etcd_api, etcd_minor, program_version},
};

/// Said to who shows a certificate to the gateway while users are recognized by theirs. The words are etcd's.
const NO_COMMON_NAMES: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected\n";

/// What a listener says over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// All of it; `gateway`: the JSON gateway too.
    Clients {
        /// Whether etcd's services are there as JSON.
        gateway: bool,
    },
    /// Health and metrics alone.
    Probes,
}

/// A member's HTTP side, for one serving thread. Clones share it.
#[derive(Clone, Debug)]
pub struct HttpFace {
    core: Arc<Core>,
    gateway: Option<Gateway>,
    access: Arc<Access>,
}

impl HttpFace {
    pub(crate) fn new(
        core: Arc<Core>,
        methods: Arc<Methods>,
        services: GrpcFace,
        request_bytes_max: usize,
        access: Arc<Access>,
        serves: Serves,
    ) -> Self {
        let has_gateway = serves == Serves::Clients { gateway: true };
        let gateway = has_gateway.then(|| Gateway::new(methods, services, request_bytes_max));
        Self { core, gateway, access }
    }

    /// The same, its gateway counting on its own.
    #[must_use]
    pub fn for_thread(&self) -> Self {
        Self { gateway: self.gateway.as_ref().map(Gateway::for_thread), ..self.clone() }
    }

    /// Answers one request. `secure`: it came over TLS.
    pub async fn answer(&self, request: Request<Body>, secure: bool) -> Response<Body> {
        let request = drain::drained(request, &self.core);
        if let Some(refused) = Some(&request).filter(|_| !secure).and_then(|request| self.access.refuse_host(request)) {
            return refused;
        }
        let asked = request.headers().clone();
        let mut response =
            if request.method() == Method::OPTIONS { reply::empty(StatusCode::OK) } else { self.route(request).await };
        self.access.allow_origin(&asked, response.headers_mut());
        response
    }

    async fn route(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let Some(path) = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/")) {
            if self.mistakes_certificate(&request) {
                return reply::text(StatusCode::BAD_REQUEST, NO_COMMON_NAMES);
            }
            return match &self.gateway {
                Some(gateway) => gateway.answer(path, request).await,
                None => reply::not_found(),
            };
        }
        if !is_known(&path) {
            return reply::not_found();
        }
        // hyper leaves the body of an answer to HEAD away.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return reply::only_get();
        }
        let query = request.uri().query().unwrap_or_default();
        match path.as_str() {
            "/version" => reply::json(StatusCode::OK, version(&self.core)),
            "/metrics" => self.metrics().await,
            "/health" => health::health(&self.core, query).await,
            path => health::checks(&self.core, path, query).await,
        }
    }

    /// Whether the client may believe that its certificate says who it is, which the gateway does not look at.
    fn mistakes_certificate(&self, request: &Request<Body>) -> bool {
        let named = |peer: &PeerInfo| peer.common_name.as_ref().is_some_and(|name| !name.is_empty());
        let certificates_count = self.core.config.auth.client_cert_auth && self.core.view.auth_is_enabled();
        certificates_count && request.extensions().get().is_some_and(named)
    }

    async fn metrics(&self) -> Response<Body> {
        let core = Arc::clone(&self.core);
        match tokio::task::spawn_blocking(move || crate::metrics::exposition(&core)).await {
            Ok(text) => reply::full(StatusCode::OK, crate::metrics::CONTENT_TYPE, text),
            Err(error) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn is_known(path: &str) -> bool {
    matches!(path, "/version" | "/metrics" | "/health") || health::is_check(path)
}

/// Under etcd's keys the versions of its API, under our own those of this program.
fn version(core: &Core) -> String {
    let (release, version) = (core.config.release, core.version());
    let etcd_cluster = format!("{}.0", etcd_minor(version));
    json!({
        "etcdserver": etcd_api(release),
        "etcdcluster": etcd_cluster,
        "storage": etcd_cluster,
        "meshstoreserver": program_version(release),
        "meshstorecluster": version.to_string(),
    })
    .to_string()
}
