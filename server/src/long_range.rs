//! `Range` whose answer is too long to be held: one message, written while it is read.
//!
//! - A message tells its length before it begins, so the range is walked twice: to measure it, and to send it.
//! - At most two pieces of an answer are in memory, however slow its client is.
//! - What fails halfway, as when the revision is compacted, ends the call with that error and no whole message.
//!
//! Source of the pieces' encoding: Protocol Buffers, "Encoding": messages that follow each other are merged.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use proto::etcdserverpb as pb;
use store::{Actor, Order, Range, Show};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, body::Body};

use crate::{core::Core, pieces::Pieces, unary, wire};

/// Bytes of keys that an answer may hold in memory, if it can be read in pieces.
pub(crate) const HELD_BYTES_MAX: usize = 4 << 20;
/// Pieces that wait for a slow client.
const QUEUE_MAX: usize = 1;

type Frames = mpsc::Sender<Result<Frame<Bytes>, Status>>;

/// Whether the answer can be read in pieces.
pub(crate) fn has_pieces(range: &Range) -> bool {
    range.order == Order::default() && !range.is_filtered() && range.show != Show::CountOnly
}

/// Measures the answer, and starts the task that sends it, which ends with the client or with the server.
pub(crate) async fn answer(core: &Arc<Core>, actor: Actor, range: Range) -> Result<Response<Body>, Status> {
    let mut pieces = Pieces::new(core, actor.clone(), range.clone());
    let mut length = 0;
    while !pieces.is_over() {
        length += piece(&mut pieces).await?.encoded_len();
    }
    let first = pb::RangeResponse {
        header: pieces.revision().map(|revision| core.header(revision)),
        more: pieces.more(),
        count: pieces.count().await?.cast_signed(),
        kvs: Vec::new(),
    };
    let mut begin = BytesMut::new();
    unary::begin(&mut begin, first.encoded_len() + length)?;
    first.encode(&mut begin).expect("the buffer grows");

    let pieces = Pieces::new(core, actor, Range { revision: pieces.at(), ..range });
    let (frames, body) = mpsc::channel(QUEUE_MAX);
    let stop = core.stop.clone();
    core.tasks.spawn(async move {
        tokio::select! {
            outcome = send(begin.freeze(), pieces, length, &frames) => {
                let status = outcome.err().unwrap_or_else(|| Status::ok(""));
                let _client_gone = frames.send(Ok(Frame::trailers(trailers(&status)))).await.is_err();
            },
            () = frames.closed() => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(unary::response(Body::new(StreamBody::new(ReceiverStream::new(body)))))
}

async fn send(begin: Bytes, mut pieces: Pieces, length: usize, frames: &Frames) -> Result<(), Status> {
    tell(frames, begin).await?;
    let mut sent = 0;
    while !pieces.is_over() {
        let mut data = BytesMut::new();
        piece(&mut pieces).await?.encode(&mut data).expect("the buffer grows");
        sent += data.len();
        if sent > length {
            break;
        }
        tell(frames, data.freeze()).await?;
    }
    if sent == length { Ok(()) } else { Err(Status::internal("etcdserver: the range was not what it was measured as")) }
}

/// The next keys, as a part of the answer.
async fn piece(pieces: &mut Pieces) -> Result<pb::RangeResponse, Status> {
    let kvs = pieces.next(u64::MAX).await?;
    Ok(pb::RangeResponse { kvs: kvs.into_iter().map(wire::key_value).collect(), ..Default::default() })
}

/// A client that has gone ends the task; see [`answer`].
async fn tell(frames: &Frames, data: Bytes) -> Result<(), Status> {
    frames.send(Ok(Frame::data(data))).await.map_err(|_gone| crate::status::server_stopped())
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Our own texts are header values, all of them.
    let _unfit_text = status.add_header(&mut trailers).is_err();
    trailers
}
