//! Watch responses on the wire.
//!
//! Owns: the gRPC face of the watch service, and how its responses are encoded.
//!
//! - Events that many watchers of a stream are told are encoded once; each response adds only what is its own.
//! - Responses that are at hand together are handed over together.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, future::BoxFuture};
use http::Request;
use prost::{Message, encoding};
use proto::{
    etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse},
    mvccpb::{self, event::EventType},
};
use store::{Change, Events, KeyValue};
use tokio::sync::mpsc;
use tonic::{
    Response, Status, Streaming,
    body::Body,
    codec::{Codec, EncodeBuf, Encoder},
    server::{Grpc, NamedService, StreamingService},
};
use tonic_prost::ProstDecoder;
use tower::Service;

use super::WatchFace;
use crate::wire;

/// The number of `WatchResponse.events`. Source: etcd `rpc.proto`.
const EVENTS_FIELD: u32 = 11;

/// One response.
#[derive(Debug)]
pub(crate) enum Answer {
    Whole(WatchResponse),
    /// Whose events are encoded already, see [`encode`].
    Encoded {
        header: ResponseHeader,
        watch_id: i64,
        events: Bytes,
    },
}

/// Events as the field of a response.
pub(super) fn encode(events: &Events) -> Bytes {
    let mut out = BytesMut::new();
    for (change, previous) in events.iter() {
        encoding::message::encode(EVENTS_FIELD, &event(change, previous), &mut out);
    }
    out.freeze()
}

/// A delete shows the key and when it went, and nothing else.
pub(super) fn event(change: &Change, previous: Option<&KeyValue>) -> mvccpb::Event {
    let (kind, kv) = match change {
        Change::Put(kv) => (EventType::Put, wire::key_value(kv.clone())),
        Change::Delete { key, revision } => {
            let kv = mvccpb::KeyValue { key: key.clone(), mod_revision: revision.get(), ..Default::default() };
            (EventType::Delete, kv)
        }
    };
    mvccpb::Event { r#type: kind.into(), kv: Some(kv), prev_kv: previous.cloned().map(wire::key_value) }
}

/// What a stream sends: pieces of responses, or why it ends.
pub(super) type Piece = Result<Vec<Answer>, Status>;

/// The responses of one stream.
#[derive(Debug)]
pub(crate) struct Answers {
    pieces: mpsc::Receiver<Piece>,
    here: vec::IntoIter<Answer>,
}

impl Answers {
    pub(super) fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, here: Vec::new().into_iter() }
    }
}

impl Stream for Answers {
    type Item = Result<Answer, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(answer) = self.here.next() {
                return Poll::Ready(Some(Ok(answer)));
            }
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Ok(piece)) => self.here = piece.into_iter(),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
    }
}

/// The watch service, with its own encoding.
#[derive(Clone, Debug)]
pub(crate) struct WatchServer(WatchFace);

impl WatchServer {
    pub(crate) const fn new(face: WatchFace) -> Self {
        Self(face)
    }
}

impl NamedService for WatchServer {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl Service<Request<Body>> for WatchServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_watch = request.uri().path().ends_with("/Watch");
        let face = self.0.clone();
        Box::pin(async move {
            if !is_watch {
                return Ok(Status::unimplemented("").into_http());
            }
            let mut grpc = Grpc::new(WatchCodec).max_encoding_message_size(usize::MAX);
            Ok(grpc.streaming(face, request).await)
        })
    }
}

impl StreamingService<WatchRequest> for WatchFace {
    type Response = Answer;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<WatchRequest>>) -> Self::Future {
        let answers = self.watch(request);
        Box::pin(async move { Ok(Response::new(answers)) })
    }
}

struct WatchCodec;

impl Codec for WatchCodec {
    type Encode = Answer;
    type Decode = WatchRequest;
    type Encoder = AnswerEncoder;
    type Decoder = ProstDecoder<WatchRequest>;

    fn encoder(&mut self) -> AnswerEncoder {
        AnswerEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

struct AnswerEncoder;

impl Encoder for AnswerEncoder {
    type Item = Answer;
    type Error = Status;

    fn encode(&mut self, answer: Answer, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let (own, events) = match answer {
            Answer::Whole(response) => (response, Bytes::new()),
            Answer::Encoded { header, watch_id, events } => {
                (WatchResponse { header: Some(header), watch_id, ..Default::default() }, events)
            }
        };
        own.encode(out).map_err(|error| Status::internal(error.to_string()))?;
        out.put(events);
        Ok(())
    }
}
