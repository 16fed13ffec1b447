//! The calls of other members, answered.

use std::sync::Arc;

use futures_util::{Stream, StreamExt, future::BoxFuture, stream::BoxStream, stream::FuturesUnordered};
use openraft::{async_runtime::watch::WatchReceiver, impls::ProgressResponder, vote::leader_id_std::CommittedLeaderId};
use proto::peer::{self as pb, peer_server::Peer};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tonic::{Request, Response, Status, Streaming};
use types::Release;

use super::{
    Acquaintances,
    client::message_bytes_max,
    receive::{self, Offer, Receiving},
    refusal::Refusal,
    wire::{self, Fault},
};
use crate::{
    ChangeError, Config, Leadership, MemberId, ReadError,
    apply::WeakDriver,
    change::{Change, Changes},
    codec,
    propose::is_refusal,
    read::{Reader, index_sure_of},
    standing::Standing,
    types::{Collected, LogId, Openraft, Proposal},
};

/// Proposals of one member that are appended at the same time.
const FORWARDED_MAX: usize = 64;

/// `meshstore.peer.v1.Peer`, over one member. Clones share it.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) raft: Openraft,
    pub(crate) driver: WeakDriver,
    pub(crate) acquaintances: Arc<Acquaintances>,
    pub(crate) readers: mpsc::Sender<Reader>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) applied: watch::Receiver<Option<LogId>>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) receiving: Receiving,
}

impl Service {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// As a tonic service, with its limits.
    pub(crate) fn server(self) -> pb::peer_server::PeerServer<Self> {
        let bytes_max = message_bytes_max(&self.0.config);
        pb::peer_server::PeerServer::new(self)
            .max_decoding_message_size(bytes_max)
            .max_encoding_message_size(usize::MAX)
    }
}

/// Which member the certificate of a request's connection names. A listener that knows it puts it among the request's
/// extensions, and what the request says of its sender is held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender(pub MemberId);

type Shown = Option<Sender>;

/// A request's message, and what its connection has shown.
fn opened<T>(request: Request<T>) -> (Shown, T) {
    (request.extensions().get().copied(), request.into_inner())
}

fn senseless(fault: Fault) -> Status {
    Refusal::from(fault).status()
}

fn stopped<E>(_: E) -> Status {
    Refusal::Stopped.status()
}

impl Inner {
    async fn admit(&self, shown: Shown, header: Option<&pb::Header>) -> Result<u64, Status> {
        if let (Some(Sender(shown)), Some(header)) = (shown, header)
            && shown.0 != header.sender
        {
            return Err(Status::permission_denied(format!("the certificate is member {shown}'s")));
        }
        self.acquaintances.admit(header).await.map_err(|refusal| refusal.status())
    }

    /// Why what a leader sent is not taken. If only a later release could read it, this member stops.
    fn unread(&self, refusal: &Refusal) -> Status {
        if let Refusal::Senseless(fault) = refusal {
            self.acquaintances.look_at(*fault);
        }
        refusal.status()
    }

    /// A vote that a sender speaks of as a candidate or leader must be its own.
    fn own_vote(sender: u64, vote: Option<&pb::Vote>) -> Result<(), Status> {
        match vote {
            Some(vote) if vote.member == sender => Ok(()),
            _ => Err(senseless(Fault::Contradiction("vote"))),
        }
    }

    async fn vote(&self, request: Request<pb::VoteRequest>, is_real: bool) -> Result<pb::VoteResponse, Status> {
        let (shown, request) = opened(request);
        let sender = self.admit(shown, request.header.as_ref()).await?;
        Self::own_vote(sender, request.vote.as_ref())?;
        let request = wire::vote_request_in(&request).map_err(senseless)?;
        if request.vote.committed {
            return Err(senseless(Fault::Contradiction("vote")));
        }
        let response = if is_real { self.raft.vote(request).await } else { self.raft.pre_vote(request).await };
        response.map(|response| wire::vote_response_out(&response)).map_err(stopped)
    }

    /// The member's answer to a proposal, in time or not.
    async fn append_proposal(&self, from: Forwarder, request: pb::ForwardRequest) -> Result<Verdict, Status> {
        let Forwarder { sender, term, opened } = from;
        let proposal = codec::decode_proposal(request.proposal);
        let proposal = proposal.map_err(|damage| senseless(Fault::Damaged("proposal", damage)))?;
        self.check_proposal(sender, &proposal)?;
        let sequence = proposal.tag.sequence;
        if wire::until_in(opened, request.until_us).is_some_and(|until| until <= Instant::now()) {
            let outcome = pb::ForwardOutcome::Refused.into();
            return Ok(Box::pin(async move { pb::ForwardResponse { sequence, outcome } }));
        }
        let (responder, verdict) = ProgressResponder::complete_only();
        let write = self.raft.write(proposal).with_leader(CommittedLeaderId::new(term)).responder(responder);
        write.await.map_err(stopped)?;
        Ok(Box::pin(async move {
            let verdict = verdict.await;
            let outcome = match &verdict {
                Ok(Ok(_)) => pb::ForwardOutcome::Applied,
                verdict if is_refusal(verdict) => pb::ForwardOutcome::Refused,
                _ => pb::ForwardOutcome::Unknown,
            };
            pb::ForwardResponse { sequence, outcome: outcome.into() }
        }))
    }

    fn check_proposal(&self, sender: u64, proposal: &Proposal) -> Result<(), Status> {
        let is_its_own = proposal.tag.member == sender;
        let fits = proposal.commands.len() <= self.config.entry_commands_max
            && proposal.commands.iter().all(|command| command.len() <= self.config.command_bytes_max)
            && proposal.bytes() <= self.config.entry_bytes_max + self.config.command_bytes_max;
        if is_its_own && fits { Ok(()) } else { Err(senseless(Fault::Contradiction("proposal"))) }
    }

    /// Appends what comes, and tells what came of it, as it comes of it.
    fn forwarded(
        self: Arc<Self>,
        from: Forwarder,
        requests: Streaming<pb::ForwardRequest>,
    ) -> impl Stream<Item = Result<pb::ForwardResponse, Status>> {
        let state = (self, Some(requests), FuturesUnordered::<Verdict>::new());
        futures_util::stream::unfold(state, move |(inner, mut requests, mut verdicts)| async move {
            loop {
                let open = requests.is_some() && verdicts.len() < FORWARDED_MAX;
                let request = async {
                    match &mut requests {
                        Some(requests) => requests.message().await,
                        None => Ok(None),
                    }
                };
                let request = tokio::select! {
                    biased;
                    Some(response) = verdicts.next() => return Some((Ok(response), (inner, requests, verdicts))),
                    request = request, if open => request,
                    else => return None,
                };
                let verdict = match request {
                    Ok(Some(request)) => inner.append_proposal(from, request).await,
                    Ok(None) => {
                        requests = None;
                        continue;
                    }
                    Err(status) => Err(status),
                };
                match verdict {
                    Ok(verdict) => verdicts.push(verdict),
                    Err(status) => return Some((Err(status), (inner, None, FuturesUnordered::new()))),
                }
            }
        })
    }

    async fn take_image(&self, offer: pb::ImageOffer, mut requests: Streaming<pb::ImageRequest>, held: Held) -> Taken {
        let (only, end) = self.receiving.turn(self.config.election_timeout).await?;
        let offer = Offer::read(offer).map_err(|refusal| self.unread(&refusal))?;
        let collector = self.driver.collect(offer.id.clone()).await;
        let collector = collector.map_err(|error| Status::internal(error.to_string()))?;
        let (bytes, collected) =
            receive::held(offer.parts.clone(), Collected { collector, workers: self.receiving.workers, only }).await?;
        if held.send(pb::ImageHeld { bytes }).is_err() {
            return Err(Status::cancelled("the sender went away"));
        }
        let collected = receive::collect(&offer.parts, collected, &mut requests, &end).await?;
        let (vote, snapshot) = offer.snapshot(collected);
        let installed = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(wire::vote_out(&installed.vote))
    }
}

/// Who forwards proposals, for which term of this member.
#[derive(Clone, Copy)]
struct Forwarder {
    sender: u64,
    term: u64,
    /// From here the times of its proposals count. They have come as late as the opening or later, so that what is
    /// delayed on its way is not appended late by more than the opening was.
    opened: Instant,
}

type Verdict = BoxFuture<'static, pb::ForwardResponse>;
type Held = oneshot::Sender<pb::ImageHeld>;
type Taken = Result<pb::Vote, Status>;

fn image_response(step: pb::image_response::Step) -> pb::ImageResponse {
    pb::ImageResponse { step: Some(step) }
}

#[tonic::async_trait]
impl Peer for Service {
    async fn greet(&self, request: Request<pb::GreetRequest>) -> Result<Response<pb::GreetResponse>, Status> {
        let Inner { acquaintances, raft, applied, leadership, .. } = &*self.0;
        let (shown, request) = opened(request);
        self.0.admit(shown, request.header.as_ref()).await?;
        let known = acquaintances.all().into_iter().map(|(member, known)| wire::known_out(member, &known));
        let own = acquaintances.own();
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        Ok(Response::new(pb::GreetResponse {
            known: known.collect(),
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or(0),
            log_index: metrics.last_log_index.unwrap_or(0),
            commit_index: metrics.local_committed.map_or(0, |committed| committed.index),
            applied_index: applied.borrow().map_or(0, |applied| applied.index),
            release: wire::release_out(acquaintances.releases.own()),
            // Another member may have yet to hear of it.
            cluster_version: acquaintances
                .releases
                .version()
                .filter(|_| leadership.borrow().acting)
                .map_or(0, Release::number),
            sessions: own.sessions.clone(),
            found: own.found.as_ref().map(wire::log_id_out),
        }))
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        self.0.vote(request, false).await.map(Response::new)
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        self.0.vote(request, true).await.map(Response::new)
    }

    type AppendStream = BoxStream<'static, Result<pb::AppendResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (shown, mut requests) = opened(request);
        let opening = requests.message().await?.ok_or_else(|| senseless(Fault::Missing("header")))?;
        let sender = self.0.admit(shown, opening.header.as_ref()).await?;
        let (fault, faults) = oneshot::channel();
        let requests = appended(Arc::clone(&self.0), sender, requests, fault);
        let standing = Arc::clone(&self.0.standing);
        let requests = requests.inspect(move |request| standing.hear(request.vote.leader_id.term));
        let starts = self.0.acquaintances.own().disk.starts;
        let outcomes = self.0.raft.stream_append(requests).map(move |outcome| match outcome {
            Ok(result) => Ok(wire::append_result_out(&result, starts)),
            Err(fatal) => Err(stopped(fatal)),
        });
        // What was wrong with a request comes after the outcomes of those before it.
        let end = futures_util::stream::once(faults).filter_map(|fault| async { fault.ok().map(Err) });
        Ok(Response::new(outcomes.chain(end).boxed()))
    }

    async fn beat(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::AppendResponse>, Status> {
        let (shown, request) = opened(request);
        let sender = self.0.admit(shown, request.header.as_ref()).await?;
        Inner::own_vote(sender, request.vote.as_ref())?;
        let request = wire::append_in(request).map_err(|fault| self.0.unread(&fault.into()))?;
        self.0.standing.hear(request.vote.leader_id.term);
        let mut outcome = Box::pin(self.0.raft.stream_append(futures_util::stream::once(async { request })));
        match outcome.next().await {
            Some(Ok(result)) => {
                let starts = self.0.acquaintances.own().disk.starts;
                Ok(Response::new(wire::append_result_out(&result, starts)))
            }
            Some(Err(_)) | None => Err(Refusal::Stopped.status()),
        }
    }

    type ImageStream = BoxStream<'static, Result<pb::ImageResponse, Status>>;

    async fn image(
        &self,
        request: Request<Streaming<pb::ImageRequest>>,
    ) -> Result<Response<Self::ImageStream>, Status> {
        use pb::image_request::Step;
        let (shown, mut requests) = opened(request);
        let Some(Step::Offer(offer)) = requests.message().await?.and_then(|request| request.step) else {
            return Err(senseless(Fault::Missing("offer")));
        };
        let sender = self.0.admit(shown, offer.header.as_ref()).await?;
        Inner::own_vote(sender, offer.vote.as_ref())?;
        let (held, is_held) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        let taking = async move { inner.take_image(*offer, requests, held).await };
        // The transfer goes on as long as the sender listens.
        let steps = Steps { is_held: Some(is_held), taking: Some(Box::pin(taking)) };
        let responses = futures_util::stream::unfold(steps, |mut steps| async move {
            let step = steps.next().await?;
            Some((step.map(image_response), steps))
        });
        Ok(Response::new(responses.boxed()))
    }

    async fn transfer(&self, request: Request<pb::TransferRequest>) -> Result<Response<pb::TransferResponse>, Status> {
        let (shown, request) = opened(request);
        let sender = self.0.admit(shown, request.header.as_ref()).await?;
        Inner::own_vote(sender, request.vote.as_ref())?;
        let request = wire::transfer_in(&request).map_err(senseless)?;
        let taken = self.0.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        let refused = taken.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(pb::TransferResponse { refused }))
    }

    type ForwardStream = BoxStream<'static, Result<pb::ForwardResponse, Status>>;

    async fn forward(
        &self,
        request: Request<Streaming<pb::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let (shown, mut requests) = opened(request);
        let opening = requests.message().await?.ok_or_else(|| senseless(Fault::Missing("header")))?;
        let sender = self.0.admit(shown, opening.header.as_ref()).await?;
        let now = *self.0.leadership.borrow();
        if now.leader != Some(self.0.config.member) || now.term != opening.term {
            return Err(Status::unavailable("this member does not lead that term"));
        }
        let from = Forwarder { sender, term: opening.term, opened: Instant::now() };
        Ok(Response::new(Arc::clone(&self.0).forwarded(from, requests).boxed()))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let (shown, request) = opened(request);
        let sender = self.0.admit(shown, request.header.as_ref()).await?;
        let member = self.0.config.member;
        if self.0.leadership.borrow().leader != Some(member) {
            return Err(Status::unavailable("this member does not lead"));
        }
        if let Some(index) = index_sure_of(&self.0.raft, member, (sender, request.term)).await {
            return Ok(Response::new(pb::ReadIndexResponse { index }));
        }
        let (reader, index) = oneshot::channel();
        let queued = self.0.readers.try_send(reader);
        queued.map_err(|_| Status::resource_exhausted(ReadError::Busy.to_string()))?;
        match index.await.map_err(stopped)? {
            Ok(index) => Ok(Response::new(pb::ReadIndexResponse { index })),
            Err(error @ ReadError::NoQuorum) => Err(Status::deadline_exceeded(error.to_string())),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }

    async fn change(&self, request: Request<pb::ChangeRequest>) -> Result<Response<pb::ChangeResponse>, Status> {
        use pb::change_response::Outcome;
        let (shown, request) = opened(request);
        self.0.admit(shown, request.header.as_ref()).await?;
        let change = Change::read(request.change.ok_or_else(|| senseless(Fault::Missing("change")))?);
        let made = tokio::time::timeout(self.0.config.patience, self.0.changes.make_here(change)).await;
        let outcome = match made.unwrap_or(Err(ChangeError::Unknown)) {
            Ok(index) => Outcome::Index(index),
            Err(error) => Outcome::Refusal(wire::refusal_out(&error)),
        };
        Ok(Response::new(pb::ChangeResponse { outcome: Some(outcome) }))
    }
}

/// The leader's entries, up to the first request that is no good; `fault` hears what was wrong with that.
fn appended(
    inner: Arc<Inner>,
    sender: u64,
    requests: Streaming<pb::AppendRequest>,
    fault: oneshot::Sender<Status>,
) -> impl Stream<Item = openraft::raft::AppendEntriesRequest<crate::types::Types>> + Send + 'static {
    futures_util::stream::unfold((requests, Some(fault)), move |(mut requests, mut fault)| {
        let inner = Arc::clone(&inner);
        async move {
            let request = async {
                let Some(request) = requests.message().await? else { return Ok(None) };
                Inner::own_vote(sender, request.vote.as_ref())?;
                wire::append_in(request).map(Some).map_err(|fault| inner.unread(&fault.into()))
            };
            match request.await {
                Ok(request) => request.map(|request| (request, (requests, fault))),
                Err(status) => {
                    if let Some(fault) = fault.take() {
                        // Nobody listens any more if the stream itself is gone.
                        drop(fault.send(status));
                    }
                    None
                }
            }
        }
    })
}

/// The answers to one image: what is held of it, then that it is installed.
struct Steps {
    is_held: Option<oneshot::Receiver<pb::ImageHeld>>,
    taking: Option<BoxFuture<'static, Taken>>,
}

impl Steps {
    async fn next(&mut self) -> Option<Result<pb::image_response::Step, Status>> {
        use pb::image_response::Step;
        let taking = self.taking.as_mut()?;
        if let Some(is_held) = &mut self.is_held {
            tokio::select! {
                biased;
                Ok(held) = is_held => {
                    self.is_held = None;
                    return Some(Ok(Step::Held(held)));
                }
                taken = taking => {
                    self.taking = None;
                    return Some(taken.map(Step::Installed));
                }
            }
        }
        let taken = taking.await;
        self.taking = None;
        Some(taken.map(Step::Installed))
    }
}
