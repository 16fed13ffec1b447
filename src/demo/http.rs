//! The demo's HTTP client: what the apps call each other with, and what the tour drives traffic with.
//!
//! Owns: one connection pool. A request goes to an address and names its service by `Host`, as a program
//! does whose `http_proxy` is its sidecar.
//!
//! - Every request has a deadline, which covers connecting and the whole body.
//! - A body is read up to [`BODY_BYTES_MAX`], never further.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};

/// Longest answer that is read, bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No whole answer within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Nothing listens there, or the connection ended before the answer did.
    #[error("no connection: {0}")]
    Connection(#[source] legacy::Error),
    /// The head was answered, then the body broke off or was too long.
    #[error("the answer broke off: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The caller's path, host or header can not be written as HTTP.
    #[error("not a request: {0}")]
    Request(#[from] http::Error),
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Any status: an error status is an answer too.
    pub(crate) status: StatusCode,
    /// As received.
    pub(crate) headers: HeaderMap,
    /// At most [`BODY_BYTES_MAX`].
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text; bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// Where the connection goes.
    pub(crate) to: SocketAddr,
    /// Whom the request is for, for example `reviews:9080`.
    pub(crate) host: &'a str,
    /// Path and query.
    pub(crate) path: &'a str,
    /// Sent besides `Host`.
    pub(crate) headers: HeaderMap,
    /// Connecting and the whole body included.
    pub(crate) deadline: Duration,
}

/// Pooled HTTP/1.1 client; a clone shares the pool.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { inner: legacy::Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Sends a GET and reads the whole answer.
    pub(crate) async fn get(&self, call: Call<'_>) -> Result<Answer, HttpError> {
        self.send(Method::GET, call, Bytes::new()).await
    }

    /// Sends a form by POST and reads the whole answer.
    pub(crate) async fn post_form(&self, mut call: Call<'_>, form: &'static str) -> Result<Answer, HttpError> {
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers.insert(header::CONTENT_TYPE, form_type);
        self.send(Method::POST, call, Bytes::from_static(form.as_bytes())).await
    }

    async fn send(&self, method: Method, call: Call<'_>, body: Bytes) -> Result<Answer, HttpError> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{}", call.to, call.path)).body(Full::new(body))?;
        *request.headers_mut() = call.headers;
        let host = HeaderValue::from_str(call.host).map_err(http::Error::from)?;
        request.headers_mut().insert(header::HOST, host);
        let whole = async {
            let (head, body) = self.inner.request(request).await.map_err(HttpError::Connection)?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(HttpError::Body)?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(call.deadline, whole).await.unwrap_or(Err(HttpError::Timeout(call.deadline)))
    }
}
