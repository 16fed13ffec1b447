//! Sending images.
//!
//! - An image is made when it is to be sent. Its sender keeps it until it is taken, so that an interrupted transfer goes
//!   on where it stopped; the apply thread gives the same image to others who send meanwhile.
//! - It is read off the async threads, a chunk at a time, and no faster than [`crate::Config::image_bytes_per_second`].

use std::{sync::Arc, time::Duration};

use proto::peer::{self as pb, image_request::Step, image_response};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tonic::Streaming;
use tracing::info;

use super::{
    client::{CallError, Peers, senseless},
    wire,
};
use crate::{
    Lane, MachineError, MemberId, Node,
    apply::{Driver, Kept},
    codec,
    types::Vote,
};

/// Sends this member's image to one other.
pub(super) struct Sender {
    driver: Driver,
    /// What is being sent, until it is taken.
    kept: Option<Arc<Kept>>,
}

/// Why an image was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("no image: {0}")]
    Stopped(std::io::Error),
    #[error("{0}")]
    Interrupted(String),
}

impl Sender {
    pub(super) fn new(driver: Driver) -> Self {
        Self { driver, kept: None }
    }

    /// Sends what is missing, and gives the receiver's vote once it has taken the image.
    pub(super) async fn send(&mut self, peers: &Peers, to: (u64, &Node), vote: Vote) -> Result<Vote, ImageError> {
        let kept = match self.kept.take().filter(|kept| kept.is_recent()) {
            Some(kept) => kept,
            None => self.driver.image().await.map_err(ImageError::Stopped)?,
        };
        self.kept = Some(Arc::clone(&kept));
        let vote = transfer(peers, to, vote, &kept).await?;
        self.kept = None;
        Ok(vote)
    }
}

async fn transfer(
    peers: &Peers,
    (member, node): (u64, &Node),
    vote: Vote,
    kept: &Arc<Kept>,
) -> Result<Vote, ImageError> {
    let mut client = peers.client(member, Some(node), Lane::Bulk)?;
    let (requests, queue) = mpsc::channel(2);
    let offer = pb::ImageOffer {
        header: Some(peers.header(member)),
        vote: Some(wire::vote_out(&vote)),
        record: codec::encode_record(&kept.record),
        id: kept.image.id().to_owned(),
        parts: kept
            .image
            .parts()
            .iter()
            .map(|part| pb::ImagePart { name: part.name.clone(), bytes: part.bytes })
            .collect(),
    };
    let requests_out =
        futures_util::stream::unfold((Some(Step::Offer(Box::new(offer))), queue), |(offer, mut queue)| async move {
            let step = match offer {
                Some(offer) => Some(offer),
                None => queue.recv().await,
            };
            step.map(|step| (pb::ImageRequest { step: Some(step) }, (None, queue)))
        });
    let deadline = peers.config.election_timeout * 2;
    let mut responses = peers.answer(member, deadline, client.image(requests_out)).await?;
    let Some(image_response::Step::Held(held)) = next(peers, member, deadline, &mut responses).await? else {
        return Err(senseless(member, &wire::Fault::Missing("answer")).into());
    };
    let begun = Instant::now();
    let chunks = Chunks { peers, kept, requests };
    let sending = chunks.send(&held.bytes);
    tokio::pin!(sending);
    let early = tokio::select! {
        sent = &mut sending => {
            sent?;
            None
        }
        early = responses.message() => Some(early),
    };
    if let Some(early) = early {
        let reason = early.err().map_or_else(|| "ended by the receiver".to_owned(), |status| status.to_string());
        return Err(ImageError::Interrupted(reason));
    }
    // Bringing it to stable storage, and installing it, takes what it takes.
    let Some(image_response::Step::Installed(vote)) = next(peers, member, INSTALL_MAX, &mut responses).await? else {
        return Err(senseless(member, &wire::Fault::Missing("vote")).into());
    };
    let (member, bytes) = (MemberId(member), kept.image.parts().iter().map(|part| part.bytes).sum::<u64>());
    info!(%member, bytes, elapsed_ms = begun.elapsed().as_millis(), "image sent");
    wire::vote_in(Some(vote)).map_err(|fault| senseless(member.0, &fault).into())
}

/// Longest that a receiver may take to install an image.
const INSTALL_MAX: Duration = Duration::from_mins(10);

async fn next(
    peers: &Peers,
    member: u64,
    deadline: Duration,
    responses: &mut Streaming<pb::ImageResponse>,
) -> Result<Option<image_response::Step>, CallError> {
    match tokio::time::timeout(deadline, responses.message()).await {
        Ok(Ok(response)) => Ok(response.and_then(|response| response.step)),
        Ok(Err(status)) => Err(peers.refused(member, &status)),
        Err(_) => Err(CallError::Late { member: MemberId(member), deadline }),
    }
}

/// What goes after the offer.
struct Chunks<'a> {
    peers: &'a Peers,
    kept: &'a Arc<Kept>,
    requests: mpsc::Sender<Step>,
}

impl Chunks<'_> {
    /// Sends what of each part comes after what is `held` of it.
    async fn send(self, held: &[u64]) -> Result<(), ImageError> {
        let (chunk_bytes, rate) = (self.peers.config.image_chunk_bytes, self.peers.config.image_bytes_per_second);
        let (begun, mut sent) = (Instant::now(), 0_u64);
        for (part, described) in self.kept.image.parts().iter().enumerate() {
            let mut offset = held.get(part).copied().unwrap_or(0);
            while offset < described.bytes {
                let data = self.read(part, offset, chunk_bytes).await?;
                if data.is_empty() {
                    return Err(MachineError::new(format!("part {} of the image is short", described.name)).into());
                }
                let (bytes, checksum) = (data.len() as u64, crc32fast::hash(&data));
                let part = u32::try_from(part).unwrap_or(u32::MAX);
                self.push(Step::Chunk(pb::ImageChunk { part, offset, data, checksum })).await?;
                offset += bytes;
                sent += bytes;
                sleep_until(begun + Duration::from_micros(sent.saturating_mul(1_000_000) / rate)).await;
            }
        }
        self.push(Step::End(pb::ImageEnd {})).await
    }

    async fn read(&self, part: usize, offset: u64, bytes: usize) -> Result<bytes::Bytes, ImageError> {
        let image = Arc::clone(&self.kept.image);
        let read = self.peers.workers.run(move || image.read(part, offset, bytes)).await;
        Ok(read.map_err(|error| ImageError::Interrupted(error.to_string()))??)
    }

    async fn push(&self, step: Step) -> Result<(), ImageError> {
        let ended = |_| ImageError::Interrupted("the connection ended".to_owned());
        self.requests.send(step).await.map_err(ended)
    }
}
