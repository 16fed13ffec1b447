//! Taking another member's image.
//!
//! - One image is taken at a time, from its offer until it is installed; a new offer ends the transfer before it, whose
//!   sender may be gone. What is wrong with a chunk ends the transfer; what came before it stays.
//! - The collector does its work off the async threads.
//! - openraft decides whether the image is still wanted once it is complete: an older one changes nothing.

use std::{sync::Arc, time::Duration};

use engine::Workers;
use parking_lot::Mutex;
use proto::peer as pb;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{refusal::Refusal, wire};
use crate::{
    Collector, Config, Part,
    codec::Record,
    types::{Collected, Snapshot, SnapshotMeta, State, Vote},
};

/// An offer may have so many parts, and so long names.
const PARTS_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 1_024;

/// Without a chunk for so long, the sender is gone.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Whose turn it is to be taken.
pub(crate) struct Receiving {
    one: Arc<Semaphore>,
    /// Ends the transfer that goes on now.
    end: Mutex<CancellationToken>,
    /// Where collectors do their work.
    pub(super) workers: Workers,
}

impl Receiving {
    pub(crate) fn new(workers: Workers) -> Self {
        Self { one: Arc::new(Semaphore::new(1)), end: Mutex::default(), workers }
    }

    /// Ends the transfer that goes on, and gives this one its turn, until the token is cancelled; unless the other one is
    /// being installed.
    pub(super) async fn turn(&self, patience: Duration) -> Result<(OwnedSemaphorePermit, CancellationToken), Status> {
        let token = CancellationToken::new();
        std::mem::replace(&mut *self.end.lock(), token.clone()).cancel();
        match timeout(patience, Arc::clone(&self.one).acquire_owned()).await {
            Ok(Ok(permit)) => Ok((permit, token)),
            Ok(Err(_)) | Err(_) => Err(Status::unavailable("another image is being installed")),
        }
    }
}

/// What another member offers.
pub(crate) struct Offer {
    pub(super) vote: Vote,
    pub(super) record: Record,
    pub(super) id: String,
    pub(super) parts: Vec<Part>,
}

impl Offer {
    pub(crate) fn read(offer: pb::ImageOffer) -> Result<Self, Refusal> {
        let vote = wire::vote_in(offer.vote)?;
        let record = wire::record_in(offer.record)?;
        let parts: Vec<_> = offer.parts.into_iter().map(|part| Part { name: part.name, bytes: part.bytes }).collect();
        let names = parts.iter().map(|part| &part.name).chain([&offer.id]);
        if parts.len() > PARTS_MAX || names.into_iter().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            return Err(Refusal::Senseless(wire::Fault::Contradiction("parts")));
        }
        let fits = record.applied.is_some_and(|applied| {
            let changed_at = record.roster.membership.log_id();
            *changed_at <= Some(applied) && applied.leader_id.term <= vote.leader_id.term
        });
        if !fits || !vote.committed {
            return Err(Refusal::Senseless(wire::Fault::Contradiction("record")));
        }
        Ok(Self { vote, record, id: offer.id, parts })
    }

    /// The collected image, as openraft wants it.
    pub(super) fn snapshot(self, collected: Collected) -> (Vote, Snapshot) {
        let meta =
            SnapshotMeta { last_log_id: self.record.applied, last_membership: self.record.roster.membership.clone() };
        (self.vote, Snapshot { meta, snapshot: State::Collected(collected) })
    }
}

/// Takes chunks to the end of the image, and makes sure that it is whole.
pub(super) async fn collect(
    parts: &[Part],
    mut collected: Collected,
    requests: &mut Streaming<pb::ImageRequest>,
    end: &CancellationToken,
) -> Result<Collected, Status> {
    use pb::image_request::Step;
    loop {
        let request = end.run_until_cancelled(timeout(SILENCE_MAX, requests.message())).await;
        let request = request.ok_or_else(|| Status::aborted("another image is offered"))?;
        let request = request.map_err(|_| Status::deadline_exceeded("no more came of the image"))??;
        let request = request.ok_or_else(|| Status::aborted("the image ended before its end"))?;
        match request.step {
            Some(Step::Chunk(chunk)) => collected = take(parts, collected, chunk).await?,
            Some(Step::End(pb::ImageEnd {})) => return finish(parts.to_vec(), collected).await,
            Some(Step::Offer(_)) | None => {
                return Err(Refusal::Senseless(wire::Fault::Contradiction("step")).status());
            }
        }
    }
}

async fn take(parts: &[Part], collected: Collected, chunk: pb::ImageChunk) -> Result<Collected, Status> {
    let senseless = |what| Refusal::Senseless(wire::Fault::Contradiction(what)).status();
    let part = parts.get(chunk.part as usize).ok_or_else(|| senseless("part"))?.clone();
    let ends_at = chunk.offset.checked_add(chunk.data.len() as u64);
    if chunk.data.is_empty() || chunk.data.len() > Config::IMAGE_CHUNK_BYTES_MAX || ends_at > Some(part.bytes) {
        return Err(senseless("chunk"));
    }
    if crc32fast::hash(&chunk.data) != chunk.checksum {
        return Err(Status::data_loss("a chunk's checksum does not match"));
    }
    off_the_async_threads(collected, move |collector| {
        if collector.held(&part) != chunk.offset {
            return Err(senseless("offset"));
        }
        collector.write(&part, chunk.offset, chunk.data).map_err(|error| Status::internal(error.to_string()))
    })
    .await
}

async fn finish(parts: Vec<Part>, collected: Collected) -> Result<Collected, Status> {
    off_the_async_threads(collected, move |collector| {
        if let Some(short) = parts.iter().find(|part| collector.held(part) != part.bytes) {
            return Err(Status::aborted(format!("part {} is not complete", short.name)));
        }
        collector.finish(&parts).map_err(|error| Status::data_loss(error.to_string()))
    })
    .await
}

async fn off_the_async_threads(
    mut collected: Collected,
    work: impl FnOnce(&mut dyn Collector) -> Result<(), Status> + Send + 'static,
) -> Result<Collected, Status> {
    let done = collected.workers.run(move || {
        work(&mut *collected.collector)?;
        Ok(collected)
    });
    done.await.map_err(|error| Status::internal(error.to_string()))?
}

/// How much of each part is there already.
pub(super) async fn held(parts: Vec<Part>, collected: Collected) -> Result<(Vec<u64>, Collected), Status> {
    let counted = collected.workers.run(move || {
        let held = parts.iter().map(|part| collected.collector.held(part).min(part.bytes)).collect();
        (held, collected)
    });
    counted.await.map_err(|error| Status::internal(error.to_string()))
}
