//! `RangeStream`: a range in pieces that each fit into memory.
//!
//! Source: etcd 3.7 `server/etcdserver/v3_server.go`.
//!
//! - All pieces are of one revision: the one asked for, or the store's when the first was read. If it is compacted before
//!   the last piece, the stream ends with that error.
//! - At most two pieces a stream are in memory, however slow its client is, and nothing is pinned between them.
//! - Only the last piece has a header, the count, and whether a limit cut off keys.

use std::sync::Arc;

use proto::etcdserverpb as pb;
use store::{Actor, Bounds, Chunk, Failure, Order, Range, Show, View};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use types::{KeyRange, Revision};

use crate::{
    core::Core,
    status::{refused, stream_in_key_order_only, stream_without_filters_only},
    wire,
};

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
    if [range.mod_revisions, range.create_revisions] != [Bounds::default(); 2] {
        return Err(stream_without_filters_only());
    }
    Ok(range)
}

/// Starts the stream's task, which ends with the client or with the server.
pub(crate) fn start(core: &Arc<Core>, actor: Actor, range: Range) -> Chunks {
    let (pieces, stream) = mpsc::channel(QUEUE_MAX);
    let core = Arc::clone(core);
    core.tasks.clone().spawn(async move {
        let stop = core.stop.clone();
        tokio::select! {
            outcome = send(&core, actor, range, &pieces) => if let Err(status) = outcome {
                let _client_gone = pieces.send(Err(status)).await.is_err();
            },
            () = pieces.closed() => {}
            () = stop.cancelled() => {}
        }
    });
    ReceiverStream::new(stream)
}

type Pieces = mpsc::Sender<Result<pb::RangeStreamResponse, Status>>;

async fn send(core: &Core, actor: Actor, range: Range, pieces: &Pieces) -> Result<(), Status> {
    if range.show == Show::CountOnly {
        let answer = core.read(true, move |view| read_as(view, &actor, &range.keys, |view| view.range(&range))).await?;
        let header = Some(core.header(answer.revision));
        let count = answer.count.cast_signed();
        return tell(pieces, pb::RangeResponse { header, count, ..Default::default() }).await;
    }
    let mut left = range.limit.map_or(u64::MAX, std::num::NonZeroU64::get);
    let (mut keys, mut at, mut revision, mut sent) = (range.keys, range.revision, None, 0);
    loop {
        let keys_max = if sent == 0 { left.min(FIRST_KEYS) } else { left };
        let bounds = (keys_max, core.config.store.request_bytes_max);
        let by = actor.clone();
        let read = move |view: &View| read_as(view, &by, &keys, |view| view.chunk(&keys, at, range.show, bounds));
        let Chunk { revision: now, kvs, rest } = core.read(true, read).await?;
        let first = *revision.get_or_insert(now);
        at = at.or(revision);
        (left, sent) = (left - kvs.len() as u64, sent + kvs.len() as u64);
        let mut piece = pb::RangeResponse { kvs: kvs.into_iter().map(wire::key_value).collect(), ..Default::default() };
        match rest {
            Some(rest) if left > 0 => keys = rest,
            rest => {
                piece.more = rest.is_some();
                let beyond = match rest {
                    Some(rest) => core.read(true, move |view| count(view, &actor, rest, at)).await?,
                    None => 0,
                };
                piece.header = Some(core.header(first));
                piece.count = (sent + beyond).cast_signed();
                return tell(pieces, piece).await;
            }
        }
        tell(pieces, piece).await?;
    }
}

/// Each piece is read by who may still read it.
fn read_as<T>(
    view: &View,
    actor: &Actor,
    keys: &KeyRange,
    read: impl FnOnce(&View) -> Result<T, Failure>,
) -> Result<T, Failure> {
    view.read_as(actor, |access| Ok(access.read(keys)?), read)
}

fn count(view: &View, actor: &Actor, keys: KeyRange, revision: Option<Revision>) -> Result<u64, Failure> {
    let range = Range { revision, show: Show::CountOnly, ..Range::new(keys) };
    Ok(read_as(view, actor, &range.keys, |view| view.range(&range))?.count)
}

/// A client that has gone ends the task; see [`start`].
async fn tell(pieces: &Pieces, piece: pb::RangeResponse) -> Result<(), Status> {
    let sent = pieces.send(Ok(pb::RangeStreamResponse { range_response: Some(piece) })).await;
    sent.map_err(|_gone| crate::status::server_stopped())
}
