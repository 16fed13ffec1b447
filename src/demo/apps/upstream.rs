//! Calls from one app to another, by service name.
//!
//! Owns: the way through the sidecar: a connection to its outbound listener, and `Host: SERVICE:9080`.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::demo::http::{Call, Client, HttpError};

/// The port of every Bookinfo service.
const SERVICE_PORT: u16 = 9080;

/// Why a service could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Answered, with this status.
    #[error("status {0}")]
    Status(StatusCode),
    /// Answered 200 with something else than JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl UpstreamError {
    /// What to answer to whoever asked us: the other service's own status, else 503 (504 after a timeout).
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Status(status) => *status,
            Self::Http(HttpError::Timeout(_)) => StatusCode::GATEWAY_TIMEOUT,
            Self::Http(_) | Self::Json(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The other services, as the sidecar offers them.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    client: Client,
    outbound: SocketAddr,
}

impl Upstream {
    /// `outbound`: the sidecar's outbound HTTP listener.
    pub(super) fn new(outbound: SocketAddr) -> Self {
        Self { client: Client::new(), outbound }
    }

    /// GETs JSON from `service`. Only status 200 counts as success.
    pub(super) async fn json(
        &self,
        service: &str,
        path: &str,
        headers: HeaderMap,
        deadline: Duration,
    ) -> Result<Value, UpstreamError> {
        let host = format!("{service}:{SERVICE_PORT}");
        let call = Call { to: self.outbound, host: &host, path, headers, deadline };
        let answer = self.client.get(call).await?;
        if answer.status != StatusCode::OK {
            return Err(UpstreamError::Status(answer.status));
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }
}
