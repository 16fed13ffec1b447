//! openraft's calls to other members.
//!
//! - Entries go on one stream each session, pipelined; openraft hears of the outcomes in their order.
//! - A member that answers to nothing for two election timeouts is taken as unreachable, and the stream begins anew.
//! - Entries that were purged before they were sent are not waited for: openraft may go on with a stream that it has given
//!   up already. The stream is broken off, and the member is sent an image.
//! - A member that lost entries it had acknowledged to the leader of this term is taken as unreachable, too: it is not to
//!   be trusted with others, and openraft takes for granted that there is none.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderRequest, VoteRequest, VoteResponse,
    },
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    client::{CallError, Peers, senseless},
    image::Sender,
    wire,
};
use crate::{
    Lane, MemberId, Node,
    apply::Driver,
    life::Held,
    log::Purged,
    types::{LogId, Snapshot, State, Types, Vote},
};

/// What a member says of a request, and in which of its starts.
type Outcome = (u64, StreamAppendResult<Types>);
type Outcomes<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// Makes links to members.
pub(crate) struct Network {
    peers: Arc<Peers>,
    driver: Driver,
    acknowledged: Arc<Acknowledged>,
    purged: Purged,
}

/// What the last request said that a member was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    term: u64,
    committed: Option<LogId>,
}

impl Asked {
    fn of(request: &AppendEntriesRequest<Types>) -> Self {
        Self { term: request.vote.leader_id.term, committed: request.leader_commit }
    }
}

/// What each member has acknowledged, and to the leader of which term.
#[derive(Debug, Default)]
struct Acknowledged(Mutex<BTreeMap<u64, (u64, Option<LogId>)>>);

impl Acknowledged {
    fn note(&self, member: u64, term: u64, matched: Option<LogId>) {
        let mut members = self.0.lock();
        let (of_term, highest) = members.entry(member).or_default();
        match term.cmp(of_term) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => *highest = matched.max(*highest),
            std::cmp::Ordering::Greater => (*of_term, *highest) = (term, matched),
        }
    }

    /// Whether the member had acknowledged `conflict` in this term.
    fn contradicts(&self, member: u64, term: u64, conflict: LogId) -> bool {
        self.0.lock().get(&member).is_some_and(|(of_term, highest)| *of_term == term && Some(conflict) <= *highest)
    }
}

impl Network {
    pub(crate) fn new(peers: Arc<Peers>, driver: Driver, purged: Purged) -> Self {
        Self { peers, driver, acknowledged: Arc::default(), purged }
    }

    fn link(&self, target: u64, node: &Node, lane: Lane) -> Link {
        let (peers, acknowledged) = (Arc::clone(&self.peers), Arc::clone(&self.acknowledged));
        let images = Sender::new(self.driver.clone());
        Link { peers, acknowledged, purged: self.purged.clone(), target, node: node.clone(), lane, images }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Node) -> Link {
        self.link(target, node, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Link {
        self.link(target, node, Lane::Beat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Node) -> Link {
        self.link(target, node, Lane::Bulk)
    }
}

/// One way to one member.
pub(crate) struct Link {
    peers: Arc<Peers>,
    acknowledged: Arc<Acknowledged>,
    purged: Purged,
    target: u64,
    node: Node,
    lane: Lane,
    images: Sender,
}

impl Link {
    /// Takes note of what the member has acknowledged. Hides from openraft that it lost some of that.
    fn checked(&self, asked: &Asked, (starts, result): Outcome) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let acquaintances = &self.peers.acquaintances;
        match &result {
            Ok(matched) => {
                self.acknowledged.note(self.target, asked.term, *matched);
                if let Some(held) = (*matched).min(asked.committed).filter(|_| starts != 0) {
                    acquaintances.holds(self.target, Held { starts, log_id: held });
                }
            }
            Err(StreamAppendError::Conflict(at)) if self.acknowledged.contradicts(self.target, asked.term, *at) => {
                acquaintances.has_lost(self.target, at);
                let reason = "it lost entries that it had acknowledged".to_owned();
                return Err(rpc_error(&CallError::Unreachable { member: MemberId(self.target), reason }));
            }
            Err(_) => {}
        }
        Ok(result)
    }

    /// One request, without a stream.
    async fn beat(
        &self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let asked = Asked::of(&request);
        let mut client =
            self.peers.client(self.target, Some(&self.node), self.lane).map_err(|error| rpc_error(&error))?;
        let request = wire::append_out(Some(self.peers.header(self.target)), &request);
        let response = self.peers.answer(self.target, option.soft_ttl(), client.beat(request)).await;
        let outcome = self.outcome(response.map_err(|error| rpc_error(&error))?)?;
        self.checked(&asked, outcome)
    }

    fn outcome(&self, response: proto::peer::AppendResponse) -> Result<Outcome, RPCError<Types>> {
        let starts = response.starts;
        let result = wire::append_result_in(response);
        Ok((starts, result.map_err(|fault| rpc_error(&senseless(self.target, &fault)))?))
    }

    async fn stream<S>(
        &self,
        input: S,
    ) -> Result<impl Stream<Item = Result<Outcome, RPCError<Types>>> + Send + '_, RPCError<Types>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let deadline = self.peers.config.election_timeout;
        let mut client =
            self.peers.client(self.target, Some(&self.node), self.lane).map_err(|error| rpc_error(&error))?;
        let (sent, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let header = self.peers.header(self.target);
        let opening = proto::peer::AppendRequest { header: Some(header), ..proto::peer::AppendRequest::default() };
        let requests = {
            let sent = Arc::clone(&sent);
            input.map(move |request| {
                sent.fetch_add(1, Ordering::Relaxed);
                wire::append_out(None, &request)
            })
        };
        // The connection's own task holds the input: it must let go of it when the outcomes are dropped.
        let requests = requests.take_until(stop.clone().cancelled_owned());
        let requests = futures_util::stream::once(async { opening }).chain(requests);
        let outcomes = self
            .peers
            .answer(self.target, deadline, client.append(requests))
            .await
            .map_err(|error| rpc_error(&error))?;
        let state = (outcomes, sent, 0_usize, Some(stop.drop_guard()));
        Ok(futures_util::stream::unfold(state, move |(mut outcomes, sent, received, guard)| async move {
            let guard = guard?;
            let next = loop {
                match tokio::time::timeout(deadline * 2, outcomes.message()).await {
                    Ok(next) => break next,
                    Err(_) if sent.load(Ordering::Relaxed) <= received => {}
                    Err(_) => {
                        let late = CallError::Late { member: MemberId(self.target), deadline: deadline * 2 };
                        return Some((Err(rpc_error(&late)), (outcomes, sent, received, None)));
                    }
                }
            };
            let outcome = match next {
                Ok(Some(response)) => self.outcome(response),
                Ok(None) => return None,
                Err(status) => Err(rpc_error(&self.peers.refused(self.target, &status))),
            };
            let guard = outcome.is_ok().then_some(guard);
            Some((outcome, (outcomes, sent, received + 1, guard)))
        }))
    }
}

/// Late or not, openraft is to wait a little before it tries again.
fn rpc_error(error: &CallError) -> RPCError<Types> {
    match error {
        CallError::Unreachable { .. } => Unreachable::new(error).into(),
        CallError::Late { .. } => NetworkError::new(error).into(),
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = State;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.beat(request, option).await.map(AppendEntriesResponse::from)
    }

    fn stream_append<S>(&mut self, input: S, option: RPCOption) -> BoxFuture<'_, Result<Outcomes<'_>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        if self.lane != Lane::Beat {
            return self.watched_stream(input).boxed();
        }
        let link = &*self;
        let outcomes = input.then(move |request| {
            let option = option.clone();
            async move { link.beat(request, option).await }
        });
        async move { Ok(outcomes.boxed()) }.boxed()
    }

    /// After a failure entries wait so long; with the next heartbeat the other may be there again.
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(self.peers.config.heartbeat)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let to = (self.target, &self.node);
        self.peers.vote(to, &request, true, option.soft_ttl()).await.map_err(|error| rpc_error(&error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let to = (self.target, &self.node);
        self.peers.vote(to, &request, false, option.soft_ttl()).await.map_err(|error| rpc_error(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = self.images.send(&self.peers, (self.target, &self.node), vote);
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = sending => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => {
                    tracing::warn!(member = %MemberId(self.target), %error, "cannot send an image");
                    Err(Unreachable::new(&error).into())
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<Types>, RPCError<Types>> {
        let to = (self.target, &self.node);
        self.peers.transfer(to, &request, option.soft_ttl()).await.map_err(|error| rpc_error(&error))?;
        Ok(Ok(()))
    }
}

impl Link {
    /// The stream, its outcomes checked against what was acknowledged in the term of its requests.
    ///
    /// It is opened for its first request, and not before: openraft holds requests back after a failure, and nothing else.
    async fn watched_stream<S>(&self, mut input: S) -> Result<Outcomes<'_>, RPCError<Types>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let Some(first) = input.next().await else { return Ok(futures_util::stream::empty().boxed()) };
        let input = futures_util::stream::iter([first]).chain(input);
        // A session is of one leader: each of its requests tells the term of all.
        let asked = Arc::new(Mutex::new(Asked::default()));
        let broken_off = CancellationToken::new();
        let noting = {
            let (asked, purged, broken_off) = (Arc::clone(&asked), self.purged.clone(), broken_off.clone());
            input.take_while(move |request| {
                *asked.lock() = Asked::of(request);
                // What has nothing to say lies at the end of the log, or where it is gone.
                let is_gone = request.entries.is_empty() && purged.is_after(request.prev_log_id);
                if is_gone {
                    broken_off.cancel();
                }
                std::future::ready(!is_gone)
            })
        };
        let outcomes = self.stream(noting).await?;
        let end = {
            let (broken_off, member) = (broken_off.clone(), MemberId(self.target));
            futures_util::stream::once(async move {
                let reason = "the entries that it is to be sent next are purged".to_owned();
                broken_off.is_cancelled().then(|| Err(rpc_error(&CallError::Unreachable { member, reason })))
            })
        };
        let checked = outcomes.map(move |outcome| {
            let asked = *asked.lock();
            self.checked(&asked, outcome?)
        });
        let until_then = checked.take_until(broken_off.cancelled_owned());
        Ok(until_then.chain(end.filter_map(std::future::ready)).boxed())
    }
}
