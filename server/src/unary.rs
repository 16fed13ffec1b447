//! The short way for the calls that come most.
//!
//! Owns: one message in, one message out, for the unary methods of etcd's `KV` service.
//!
//! - What these methods do is [`KvFace`]'s, as for everybody else; what is left out is the machinery between: streams of
//!   messages where there is one of each, and boxes around them.
//! - A request is bounded before it is taken in.
//!
//! Source of the framing: gRPC over HTTP/2, `PROTOCOL-HTTP2.md`.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::BodyExt;
use prost::Message;
use proto::etcdserverpb::kv_server::{Kv, KvServer};
use tonic::{Status, body::Body, codegen::BoxFuture, metadata::MetadataMap, server::NamedService};
use tower::Service;

use crate::{
    kv::{Held, KvFace},
    long_range,
};

/// Before each message: whether it is compressed, one byte, and its length, four.
const PREFIX_BYTES: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const OK: HeaderValue = HeaderValue::from_static("0");

/// What all paths of the service start with.
pub(crate) const KV_PATHS: &str = "/etcdserverpb.KV/";

/// etcd's `KV` service.
#[derive(Clone, Debug)]
pub(crate) struct KvService {
    face: KvFace,
    /// For what is not unary, or rare.
    rest: KvServer<KvFace>,
    request_bytes_max: usize,
}

impl KvService {
    /// `request_bytes_max` bounds a request's message.
    pub(crate) fn new(face: KvFace, request_bytes_max: usize) -> Self {
        let rest = KvServer::new(face.clone())
            .max_decoding_message_size(request_bytes_max)
            .max_encoding_message_size(usize::MAX);
        Self { face, rest, request_bytes_max }
    }
}

impl NamedService for KvService {
    const NAME: &'static str = "etcdserverpb.KV";
}

impl Service<Request<Body>> for KvService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (face, bytes_max) = (self.face.clone(), self.request_bytes_max);
        match request.uri().path().strip_prefix(KV_PATHS) {
            Some("Range") => Box::pin(answer(request, bytes_max, |request| async move {
                match face.range_to_be_held(request).await? {
                    Held::Whole(answer) => respond(tonic::Response::new(answer)),
                    Held::TooLong(actor, range) => long_range::answer(&face.core, actor, range).await,
                }
            })),
            Some("Put") => {
                Box::pin(answer(request, bytes_max, |request| async move { respond(face.put(request).await?) }))
            }
            Some("Txn") => {
                Box::pin(answer(request, bytes_max, |request| async move { respond(face.txn(request).await?) }))
            }
            _ => self.rest.call(request),
        }
    }
}

/// Answers a unary call.
async fn answer<Q, F>(
    request: Request<Body>,
    bytes_max: usize,
    handle: impl FnOnce(tonic::Request<Q>) -> F,
) -> Result<Response<Body>, Infallible>
where
    Q: Message + Default,
    F: Future<Output = Result<Response<Body>, Status>>,
{
    let (head, body) = request.into_parts();
    let question = match receive(&head.headers, body, bytes_max).await {
        Ok(question) => question,
        Err(status) => return Ok(status.into_http()),
    };
    let request = tonic::Request::from_parts(MetadataMap::from_headers(head.headers), head.extensions, question);
    Ok(handle(request).await.unwrap_or_else(Status::into_http))
}

/// Takes in a request's one message.
async fn receive<Q: Message + Default>(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Q, Status> {
    if let Some(encoding) = headers.get(ENCODING).filter(|encoding| *encoding != "identity") {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        return Err(Status::unimplemented(format!(
            "grpc: Decompressor is not installed for grpc-encoding \"{encoding}\""
        )));
    }
    let mut message = whole(body, bytes_max).await?;
    if message.len() < PREFIX_BYTES {
        return Err(Status::internal("grpc: the request has no message"));
    }
    let (is_compressed, length) = (message.get_u8() != 0, message.get_u32() as usize);
    if is_compressed {
        return Err(Status::internal("grpc: compressed flag set with identity or empty encoding"));
    }
    if message.len() != length {
        return Err(Status::internal("grpc: the request is not one message"));
    }
    Q::decode(message).map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}

/// The whole body, which is in one piece nearly always.
async fn whole(mut body: Body, bytes_max: usize) -> Result<Bytes, Status> {
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let received = first.len() + rest.len() + data.len();
        if received > bytes_max + PREFIX_BYTES {
            // Source: grpc-go `errMessageTooLarge`.
            let reason = format!("grpc: received message larger than max ({received} vs. {bytes_max})");
            return Err(Status::resource_exhausted(reason));
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.put(data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.put(first);
    whole.put(rest);
    Ok(whole.freeze())
}

/// All that the faces answer with is the message: no metadata, no extensions.
fn respond<A: Message>(answer: tonic::Response<A>) -> Result<Response<Body>, Status> {
    let message = answer.into_inner();
    let length = message.encoded_len();
    let mut data = BytesMut::with_capacity(PREFIX_BYTES + length);
    begin(&mut data, length)?;
    message.encode(&mut data).expect("the buffer grows");
    Ok(response(Body::new(Reply { data: Some(data.freeze()), ended: false })))
}

/// Writes what stands before a message of so many bytes.
pub(crate) fn begin(data: &mut BytesMut, length: usize) -> Result<(), Status> {
    let too_large = |_| Status::resource_exhausted(format!("grpc: message too large ({length} bytes)"));
    let length = u32::try_from(length).map_err(too_large)?;
    data.put_u8(0);
    data.put_u32(length);
    Ok(())
}

/// An answer with a body that ends with its status.
pub(crate) fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// One message, and that all is well.
struct Reply {
    data: Option<Bytes>,
    ended: bool,
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([(STATUS, OK)])))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
