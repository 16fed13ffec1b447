//! etcd's services as JSON over HTTP.
//!
//! Owns: the translation, and nothing of what a request means: the message goes to the same gRPC services, in this
//! process, that the client port has, with their limits, their authentication and their errors.
//!
//! - A streaming RPC takes JSON objects one after another and answers one line a message: `{"result":…}`, and at its end
//!   `{"error":…}` if it failed. What is no message fails the stream after the answers to those before it.
//! - The client's certificate does not count here: who asks is said by the `authorization` header alone, as in etcd.

use std::{collections::HashMap, sync::Arc};

use bytes::{BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody};
use prost_reflect::{DescriptorPool, MessageDescriptor};
use tokio::{sync::oneshot, task::yield_now};
use tonic::{
    Code, Status, Streaming,
    body::Body,
    client::Grpc,
    metadata::{KeyAndValueRef, MetadataMap},
};

use super::{
    json::{self, Malformed, Objects},
    paths::PATHS,
    raw::Raw,
    reply,
};
use crate::{
    GrpcFace,
    deadline::{self, Deadline},
    status,
};

/// JSON is longer than the message in it, by a third where it carries bytes.
const JSON_PER_MESSAGE: usize = 2;

/// The gateway of one serving thread.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    methods: Arc<Methods>,
    services: GrpcFace,
    body_bytes_max: usize,
}

/// The RPCs by their path below `/v3/`.
#[derive(Debug)]
pub(crate) struct Methods(HashMap<&'static str, Rpc>);

#[derive(Clone, Debug)]
struct Rpc {
    path: PathAndQuery,
    input: MessageDescriptor,
    output: MessageDescriptor,
    streams_in: bool,
    streams_out: bool,
}

impl Methods {
    /// All of [`PATHS`].
    pub(crate) fn new() -> Self {
        let pool = DescriptorPool::decode(proto::ETCD_DESCRIPTORS).expect("the descriptors are checked in, and tested");
        let row = |&(path, service, method)| (path, Rpc::new(&pool, service, method));
        Self(PATHS.iter().map(row).collect())
    }
}

impl Rpc {
    fn new(pool: &DescriptorPool, service: &str, method: &str) -> Self {
        let found =
            pool.get_service_by_name(service).and_then(|service| service.methods().find(|one| one.name() == method));
        let found = found.expect("the table names methods of the descriptors, and is tested");
        Self {
            path: PathAndQuery::try_from(format!("/{service}/{method}")).expect("names are made of letters and dots"),
            input: found.input(),
            output: found.output(),
            streams_in: found.is_client_streaming(),
            streams_out: found.is_server_streaming(),
        }
    }
}

impl Gateway {
    /// `request_bytes_max`: the longest message that the services take.
    pub(super) fn new(methods: Arc<Methods>, services: GrpcFace, request_bytes_max: usize) -> Self {
        Self { methods, services, body_bytes_max: JSON_PER_MESSAGE * request_bytes_max }
    }

    pub(super) fn for_thread(&self) -> Self {
        Self { services: self.services.for_thread(), ..self.clone() }
    }

    /// Answers a request to `path`, which is what follows `/v3/`.
    pub(super) async fn answer(&self, path: &str, request: Request<Body>) -> Response<Body> {
        let Some(rpc) = self.methods.0.get(path) else {
            return reply::error(&status::no_such_path());
        };
        if request.method() != Method::POST {
            return reply::error(&status::only_post());
        }
        let answered = match (rpc.streams_in, rpc.streams_out) {
            (false, false) => self.unary(rpc, request).await,
            (false, true) => self.stream_out(rpc, request).await,
            (true, _) => self.stream_both(rpc, request).await,
        };
        answered.unwrap_or_else(|status| reply::error(&status))
    }

    async fn unary(&self, rpc: &Rpc, request: Request<Body>) -> Result<Response<Body>, Status> {
        let request = self.read(rpc, request).await?;
        let mut services = self.services();
        let answer = services.unary(request.map(Ok), rpc.path.clone(), Raw).await?;
        let (metadata, message) = (answer.metadata().clone(), answer.into_inner());
        let mut text = Vec::new();
        json::write(&rpc.output, message, &mut text).map_err(|malformed| status::unreadable_answer(&malformed))?;
        Ok(with_metadata(reply::json(StatusCode::OK, text), &metadata))
    }

    async fn stream_out(&self, rpc: &Rpc, request: Request<Body>) -> Result<Response<Body>, Status> {
        let request = self.read(rpc, request).await?;
        let mut services = self.services();
        let answer = services.server_streaming(request.map(Ok), rpc.path.clone(), Raw).await?;
        Ok(lines(rpc, answer, None))
    }

    async fn stream_both(&self, rpc: &Rpc, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (failed, failure) = oneshot::channel();
        let (head, body) = request.into_parts();
        let messages = messages(body, rpc.input.clone(), self.body_bytes_max, failed);
        let mut services = self.services();
        let answer = services.streaming(addressed(&head.headers, messages)?, rpc.path.clone(), Raw).await?;
        Ok(lines(rpc, answer, Some(failure)))
    }

    fn services(&self) -> Grpc<GrpcFace> {
        Grpc::new(self.services.clone()).max_decoding_message_size(usize::MAX)
    }

    /// The one message of a body.
    async fn read(&self, rpc: &Rpc, request: Request<Body>) -> Result<tonic::Request<Bytes>, Status> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, self.body_bytes_max).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                status::unreadable_request(&Malformed::TooLong(self.body_bytes_max))
            } else {
                status::unreadable_request(&Malformed::Truncated)
            }
        })?;
        let message =
            json::read(&rpc.input, &body.to_bytes()).map_err(|malformed| status::unreadable_request(&malformed))?;
        addressed(&head.headers, message)
    }
}

/// A request with the metadata that its HTTP headers stand for: `authorization`, `Grpc-Timeout`, and `Grpc-Metadata-*`
/// without that prefix.
///
/// # Errors
/// If the time that it has is none.
fn addressed<T>(headers: &HeaderMap, message: T) -> Result<tonic::Request<T>, Status> {
    const PREFIX: &str = "grpc-metadata-";
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let stripped = name.as_str().strip_prefix(PREFIX).and_then(|rest| rest.parse::<header::HeaderName>().ok());
        let is_meant = *name == header::AUTHORIZATION || *name == deadline::FIELD;
        if let Some(name) = stripped.or_else(|| is_meant.then(|| name.clone())) {
            metadata.append(name, value.clone());
        }
    }
    Deadline::of(&metadata).map_err(|_| status::invalid_timeout(&metadata[deadline::FIELD]))?;
    Ok(tonic::Request::from_parts(MetadataMap::from_headers(metadata), http::Extensions::default(), message))
}

/// What a client sends, one message an object. It ends where the body ends, or breaks off at what is no message: `failed`
/// is told then.
fn messages(
    body: Body,
    input: MessageDescriptor,
    bytes_max: usize,
    failed: oneshot::Sender<Malformed>,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
    let start = Some((body.into_data_stream(), Objects::new(bytes_max), failed));
    stream::unfold(start, move |request| {
        let input = input.clone();
        async move {
            let (mut body, mut objects, failed) = request?;
            loop {
                let next = objects.next().and_then(|object| object.map(|json| json::read(&input, &json)).transpose());
                let malformed = match next {
                    Ok(Some(message)) => return Some((Ok(message), Some((body, objects, failed)))),
                    Ok(None) => match body.next().await {
                        Some(Ok(arrived)) => {
                            objects.push(&arrived);
                            continue;
                        }
                        None if objects.is_complete() => return None,
                        None | Some(Err(_)) => Malformed::Truncated,
                    },
                    Err(malformed) => malformed,
                };
                let status = status::unreadable_request(&malformed);
                // Nobody listens any more if the answer is gone.
                let _ = failed.send(malformed);
                // The codec gathers messages that are at hand, and at an error would drop those before it.
                yield_now().await;
                return Some((Err(status), None));
            }
        }
    })
}

/// One line a message. `failure`: why the request ended early, if it does.
fn lines(
    rpc: &Rpc,
    answer: tonic::Response<Streaming<Bytes>>,
    failure: Option<oneshot::Receiver<Malformed>>,
) -> Response<Body> {
    let metadata = answer.metadata().clone();
    let lines = Lines { output: rpc.output.clone(), messages: answer.into_inner(), failure, ended: false };
    let frames = stream::unfold(lines, |mut lines| async {
        lines.next().await.map(|line| (Ok::<_, Status>(http_body::Frame::data(line)), lines))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, reply::JSON);
    with_metadata(response, &metadata)
}

/// What a streaming RPC answers, as lines.
struct Lines {
    output: MessageDescriptor,
    messages: Streaming<Bytes>,
    failure: Option<oneshot::Receiver<Malformed>>,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let line = match self.message().await? {
            Ok(message) => result(&self.output, message),
            Err(status) => Err(status),
        };
        self.ended = line.is_err();
        Some(line.unwrap_or_else(|status| reply::error_line(&status)))
    }

    /// The next message. The service ends the stream when the request breaks off, and does not know why.
    async fn message(&mut self) -> Option<Result<Bytes, Status>> {
        if let Some(message) = self.messages.next().await {
            return Some(message);
        }
        let malformed = self.failure.as_mut()?.try_recv().ok()?;
        Some(Err(status::unreadable_request(&malformed)))
    }
}

fn result(output: &MessageDescriptor, message: Bytes) -> Result<Bytes, Status> {
    let mut line = Vec::with_capacity(message.len() * JSON_PER_MESSAGE);
    line.put_slice(br#"{"result":"#);
    json::write(output, message, &mut line).map_err(|malformed| status::unreadable_answer(&malformed))?;
    line.put_slice(b"}\n");
    Ok(line.into())
}

/// Shows an answer's metadata as headers `Grpc-Metadata-*`, as etcd's gateway does; but not gRPC's own trailers.
fn with_metadata(mut response: Response<Body>, metadata: &MetadataMap) -> Response<Body> {
    for entry in metadata.iter() {
        if let KeyAndValueRef::Ascii(name, value) = entry
            && !name.as_str().starts_with("grpc-")
        {
            let name = format!("grpc-metadata-{name}").parse::<header::HeaderName>();
            if let (Ok(name), Ok(value)) = (name, value.as_bytes().try_into()) {
                response.headers_mut().append(name, value);
            }
        }
    }
    response
}

/// The HTTP status that a gRPC code is shown as. Source: grpc-gateway `HTTPStatusFromCode`.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_of_etcd_but_range_stream_has_a_path() {
        let methods = Methods::new();
        let pool = DescriptorPool::decode(proto::ETCD_DESCRIPTORS).unwrap();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let found = methods.0.values().any(|rpc| rpc.path == *path);
            assert_eq!(found, method.name() != "RangeStream", "{path}");
        }
        assert_eq!(methods.0.len(), PATHS.len(), "a path is named twice");
    }
}
