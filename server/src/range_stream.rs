//! `RangeStream`: a range in pieces that each fit into memory.
//!
//! Source: etcd 3.7 `server/etcdserver/v3_server.go`.
//!
//! - At most two pieces a stream are in memory, however slow its client is.
//! - Only the last piece has a header, the count, and whether a limit cut off keys.

use std::sync::Arc;

use proto::etcdserverpb as pb;
use store::{Actor, Order, Range, Show};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    core::Core,
    pieces::{Pieces, read_as},
    status::{refused, stream_in_key_order_only, stream_without_filters_only},
    wire,
};

type Stream = mpsc::Sender<Result<pb::RangeStreamResponse, Status>>;

/// A stream's pieces.
pub(crate) type Chunks = ReceiverStream<Result<pb::RangeStreamResponse, Status>>;

/// Pieces that wait for a slow client.
const QUEUE_MAX: usize = 1;
/// Keys of the first piece, so that it comes at once; the others are bounded by their bytes alone.
const FIRST_KEYS: u64 = 10;

/// Refuses what cannot be streamed.
pub(crate) fn checked(range: Range) -> Result<Range, Status> {
    store::validate_range(&range).map_err(|refusal| refused(&refusal))?;
    if range.order != Order::default() {
        return Err(stream_in_key_order_only());
    }
    if range.is_filtered() {
        return Err(stream_without_filters_only());
    }
    Ok(range)
}

/// Starts the stream's task, which ends with the client or with the server.
pub(crate) fn start(core: &Arc<Core>, actor: Actor, range: Range) -> Chunks {
    let (stream, chunks) = mpsc::channel(QUEUE_MAX);
    let core = Arc::clone(core);
    core.tasks.clone().spawn(async move {
        let stop = core.stop.clone();
        tokio::select! {
            outcome = send(&core, actor, range, &stream) => if let Err(status) = outcome {
                let _client_gone = stream.send(Err(status)).await.is_err();
            },
            () = stream.closed() => {}
            () = stop.cancelled() => {}
        }
    });
    ReceiverStream::new(chunks)
}

async fn send(core: &Arc<Core>, actor: Actor, range: Range, stream: &Stream) -> Result<(), Status> {
    if range.show == Show::CountOnly {
        let answer = core.read(true, move |view| read_as(view, &actor, &range.keys, |view| view.range(&range))).await?;
        let header = Some(core.header(answer.revision));
        let count = answer.count.cast_signed();
        return tell(stream, pb::RangeResponse { header, count, ..Default::default() }).await;
    }
    let mut pieces = Pieces::new(core, actor, range);
    let mut keys_max = FIRST_KEYS;
    loop {
        let kvs = pieces.next(keys_max).await?;
        keys_max = u64::MAX;
        let mut piece = pb::RangeResponse { kvs: kvs.into_iter().map(wire::key_value).collect(), ..Default::default() };
        if pieces.is_over() {
            piece.more = pieces.more();
            piece.header = pieces.revision().map(|revision| core.header(revision));
            piece.count = pieces.count().await?.cast_signed();
            return tell(stream, piece).await;
        }
        tell(stream, piece).await?;
    }
}

/// A client that has gone ends the task; see [`start`].
async fn tell(stream: &Stream, piece: pb::RangeResponse) -> Result<(), Status> {
    let sent = stream.send(Ok(pb::RangeStreamResponse { range_response: Some(piece) })).await;
    sent.map_err(|_gone| crate::status::server_stopped())
}
