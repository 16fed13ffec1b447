//! Answers, in the forms that Go's `net/http` and etcd's gateway give them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use tonic::{Status, body::Body};

use super::gateway::http_status;

/// The content type of JSON.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The content type of a text for people.
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A JSON document.
pub(super) fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    full(status, JSON, text)
}

/// A text that no browser is to take for anything else.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = full(status, TEXT, text);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Nothing but a status.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// There is nothing at that path.
pub(super) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The path is there, but only to be read.
pub(super) fn only_get() -> Response<Body> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// The gateway's answer to a request that failed: `error` for clients of etcd 3.5, `message` for all.
pub(super) fn error(status: &Status) -> Response<Body> {
    let message = status.message();
    let error = json!({ "error": message, "code": i32::from(status.code()), "message": message });
    json(http_status(status.code()), error.to_string())
}

/// The last line of a stream that failed.
pub(super) fn error_line(status: &Status) -> Bytes {
    let error = json!({ "code": i32::from(status.code()), "message": status.message() });
    let mut line = json!({ "error": error }).to_string();
    line.push('\n');
    line.into()
}

/// Any text.
pub(super) fn full(status: StatusCode, content: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content);
    response
}
