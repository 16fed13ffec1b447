//! A server's metrics, which it has on its client port beside gRPC.

use crate::{Client, ClientError, transport::MetricsSource};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioExecutor;
use std::fmt::Display;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::codegen::http::Response;
use tower::ServiceExt;

/// More than any server has.
const METRICS_BYTES_MAX: usize = 64 << 20;

impl Client {
    /// The first endpoint's metrics, in Prometheus' text form.
    ///
    /// # Errors
    /// [`ClientError::Unavailable`] when it cannot be reached or has none; `Config` for a client inside one process.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let source = self.transport.metrics_source();
        let source = source.ok_or_else(|| ClientError::Config("a client in process has no metrics".to_owned()))?;
        let limit = self.transport.request_timeout();
        let answered = timeout(limit, fetch(&source)).await;
        let failed = |error: String| ClientError::Unavailable { text: format!("{}/metrics: {error}", source.uri) };
        answered.map_err(|_| failed(format!("no answer within {limit:?}")))?.map_err(failed)
    }
}

async fn fetch(source: &MetricsSource) -> Result<String, String> {
    let io = source.connector.clone().oneshot(source.uri.clone()).await.map_err(text)?;
    let authority = source.uri.authority().map_or("", |authority| authority.as_str());
    let request =
        Request::get(if source.is_tls { format!("https://{authority}/metrics") } else { "/metrics".to_owned() })
            .header("host", authority)
            .body(Empty::<Bytes>::new())
            .map_err(text)?;
    // Plain text on a port that serves gRPC too is told from it by its HTTP version.
    if source.is_tls {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(text)?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        body(sender.send_request(request).await.map_err(text)?).await
    } else {
        let (mut sender, connection) = http1::handshake(io).await.map_err(text)?;
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        body(sender.send_request(request).await.map_err(text)?).await
    }
}

async fn body(response: Response<Incoming>) -> Result<String, String> {
    if response.status() != StatusCode::OK {
        return Err(format!("it answered {}", response.status()));
    }
    let bytes = Limited::new(response.into_body(), METRICS_BYTES_MAX).collect().await.map_err(text)?.to_bytes();
    String::from_utf8(bytes.into()).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
