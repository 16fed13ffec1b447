//! Calls to other members.
//!
//! Owns: the channels, one for each member and lane.
//!
//! - A channel is dialed when it is first needed, and again when the member's URLs change.
//! - A refusal that means that this member must stop stops it.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use engine::Workers;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use parking_lot::Mutex;
use proto::peer::{self as pb, peer_client::PeerClient};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Status, Streaming, transport::Channel};

use super::{
    Acquaintances,
    refusal::{Verdict, verdict},
    wire,
};
use crate::{
    ChangeError, Config, Dialer, Lane, MemberId, Node, ReadError, codec,
    node::Roster,
    types::{Proposal, Types},
};

/// What another member sends at once may be so long: its entries, and one more command than they should hold.
pub(crate) fn message_bytes_max(config: &Config) -> usize {
    const OVERHEAD_BYTES: usize = 1 << 20;
    let entries = config.append_bytes_max.max(config.entry_bytes_max + config.command_bytes_max);
    let commands = config.entry_commands_max * size_of::<u32>();
    entries.max(Config::IMAGE_CHUNK_BYTES_MAX) + commands + OVERHEAD_BYTES
}

/// The other members, as this one reaches them. Shared.
pub(crate) struct Peers {
    pub(crate) acquaintances: Arc<Acquaintances>,
    pub(crate) config: Config,
    /// Where images are read and written.
    pub(crate) workers: Workers,
    dialer: Arc<dyn Dialer>,
    channels: Mutex<BTreeMap<(u64, Lane), Dialed>>,
    roster: watch::Receiver<Arc<Roster>>,
}

/// A channel, and the URLs that it was dialed by.
struct Dialed {
    urls: Vec<String>,
    channel: Channel,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no way to it, or it said no.
    #[error("member {member}: {reason}")]
    Unreachable { member: MemberId, reason: String },
    /// It took too long.
    #[error("member {member}: no answer in {deadline:?}")]
    Late { member: MemberId, deadline: Duration },
}

/// How far another member is, as it said when it was greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caught {
    pub(crate) round_trip: Duration,
    pub(crate) applied_index: u64,
}

/// An open stream of proposals to the leader of one term.
pub(crate) struct Forwarding {
    pub(crate) term: u64,
    /// When the stream was begun to be opened: the leader counts from when that has reached it.
    opened: Instant,
    proposals: mpsc::Sender<pb::ForwardRequest>,
    outcomes: Streaming<pb::ForwardResponse>,
}

impl Peers {
    pub(crate) fn new(
        acquaintances: Arc<Acquaintances>,
        config: Config,
        (dialer, workers): (Arc<dyn Dialer>, Workers),
        roster: watch::Receiver<Arc<Roster>>,
    ) -> Self {
        Self { acquaintances, config, workers, dialer, channels: Mutex::default(), roster }
    }

    /// A client of `member`, whose node is as openraft knows it or else as it was applied here.
    pub(super) fn client(
        &self,
        member: u64,
        node: Option<&Node>,
        lane: Lane,
    ) -> Result<PeerClient<Channel>, CallError> {
        let unreachable = |reason: String| CallError::Unreachable { member: MemberId(member), reason };
        let node = match node {
            Some(node) => node.clone(),
            None => self.roster.borrow().membership.get_node(&member).cloned().unwrap_or_default(),
        };
        let mut channels = self.channels.lock();
        let channel = match channels.get(&(member, lane)) {
            Some(Dialed { urls, channel }) if *urls == node.peer_urls => channel.clone(),
            _ => {
                let dialed = self.dialer.dial(MemberId(member), &node, lane);
                let channel = dialed.map_err(|error| unreachable(error.to_string()))?;
                channels.insert((member, lane), Dialed { urls: node.peer_urls, channel: channel.clone() });
                channel
            }
        };
        drop(channels);
        let bytes_max = message_bytes_max(&self.config);
        Ok(PeerClient::new(channel).max_decoding_message_size(bytes_max).max_encoding_message_size(usize::MAX))
    }

    /// Waits for an answer until `deadline`, and hears what a refusal means.
    pub(super) async fn answer<T>(
        &self,
        member: u64,
        deadline: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.refused(member, &status)),
            Err(_) => Err(CallError::Late { member: MemberId(member), deadline }),
        }
    }

    /// What a failed call means; this member stops if it says so.
    pub(super) fn refused(&self, member: u64, status: &Status) -> CallError {
        let who = MemberId(member);
        match verdict(status) {
            Some(Verdict::Forgetful) => {
                self.acquaintances.must_stop(&format!("member {who} says: {}", status.message()));
            }
            Some(Verdict::Removed) => self.acquaintances.was_removed(),
            Some(Verdict::TooOld(version)) => self.acquaintances.is_too_old(version),
            None => {}
        }
        CallError::Unreachable { member: who, reason: status.to_string() }
    }

    pub(super) fn header(&self, member: u64) -> pb::Header {
        self.acquaintances.header(member)
    }

    pub(super) async fn vote(
        &self,
        (member, node): (u64, &Node),
        request: &VoteRequest<Types>,
        is_real: bool,
        deadline: Duration,
    ) -> Result<VoteResponse<Types>, CallError> {
        let mut client = self.client(member, Some(node), Lane::Beat)?;
        let request = wire::vote_request_out(self.header(member), request);
        let response = if is_real {
            self.answer(member, deadline, client.vote(request)).await?
        } else {
            self.answer(member, deadline, client.pre_vote(request)).await?
        };
        wire::vote_response_in(response).map_err(|fault| senseless(member, &fault))
    }

    pub(super) async fn transfer(
        &self,
        (member, node): (u64, &Node),
        request: &TransferLeaderRequest<Types>,
        deadline: Duration,
    ) -> Result<(), CallError> {
        let mut client = self.client(member, Some(node), Lane::Beat)?;
        let request = wire::transfer_out(self.header(member), request);
        let response = self.answer(member, deadline, client.transfer(request)).await?;
        if response.refused.is_empty() {
            Ok(())
        } else {
            Err(CallError::Unreachable { member: MemberId(member), reason: response.refused })
        }
    }

    /// Gets in touch: each side knows the other's disk then, and what the other knows.
    pub(super) async fn greet(
        &self,
        member: u64,
        node: Option<&Node>,
        deadline: Duration,
    ) -> Result<Caught, CallError> {
        let mut client = self.client(member, node, Lane::Beat)?;
        let request = pb::GreetRequest { header: Some(self.header(member)) };
        let begun = Instant::now();
        let response = self.answer(member, deadline, client.greet(request)).await?;
        let round_trip = begun.elapsed();
        let fault = |fault| senseless(member, &fault);
        let known = response.known.iter().map(|known| Ok((known.member, wire::known_in(known)?)));
        let known: BTreeMap<_, _> = known.collect::<Result<_, _>>().map_err(fault)?;
        let own = known.get(&member).ok_or(wire::Fault::Missing("disk")).map_err(fault)?;
        let life = wire::life_in(own.disk, &response.sessions, response.found).map_err(fault)?;
        let met = self.acquaintances.meet(member, &life).await;
        met.map_err(|refusal| CallError::Unreachable { member: MemberId(member), reason: refusal.to_string() })?;
        self.acquaintances.learn(member, known).await;
        self.acquaintances.compare_releases(member, &response);
        Ok(Caught { round_trip, applied_index: response.applied_index })
    }

    /// The index that a read must wait for, from the leader, to which this member has given the vote of `term`.
    pub(crate) async fn read_index(
        &self,
        leader: MemberId,
        term: Option<u64>,
        deadline: Duration,
    ) -> Result<u64, ReadError> {
        let mut client = self.client(leader.0, None, Lane::Log).map_err(|_| ReadError::NoLeader)?;
        let request = pb::ReadIndexRequest { header: Some(self.header(leader.0)), term: term.unwrap_or(0) };
        let call = async {
            let response = client.read_index(request).await;
            // The leader leads, but it has no quorum.
            if let Err(status) = &response
                && status.code() == tonic::Code::DeadlineExceeded
            {
                return Ok(tonic::Response::new(None));
            }
            response.map(|response| tonic::Response::new(Some(response.into_inner().index)))
        };
        let index = self.answer(leader.0, deadline, call).await.map_err(|_| ReadError::NoLeader)?;
        index.ok_or(ReadError::NoQuorum)
    }

    /// Has the leader make a change.
    pub(crate) async fn change(
        &self,
        leader: MemberId,
        change: pb::change_request::Change,
        deadline: Duration,
    ) -> Result<u64, ChangeError> {
        use pb::change_response::Outcome;
        let mut client = self.client(leader.0, None, Lane::Log).map_err(|_| ChangeError::NoLeader)?;
        let request = pb::ChangeRequest { header: Some(self.header(leader.0)), change: Some(change) };
        match self.answer(leader.0, deadline, client.change(request)).await.map(|response| response.outcome) {
            Ok(Some(Outcome::Index(index))) => Ok(index),
            Ok(Some(Outcome::Refusal(refusal))) => Err(wire::refusal_in(refusal)),
            Ok(None) | Err(_) => Err(ChangeError::Unknown),
        }
    }

    /// Opens a stream of proposals to the leader of `term`, in which nothing was sent yet. It holds up to `entries_max`.
    pub(crate) async fn forward(
        self: Arc<Self>,
        leader: MemberId,
        term: u64,
        entries_max: usize,
    ) -> Result<Forwarding, CallError> {
        let mut client = self.client(leader.0, None, Lane::Log)?;
        let (proposals, queue) = mpsc::channel(entries_max + 1);
        let opening = pb::ForwardRequest { header: Some(self.header(leader.0)), term, ..pb::ForwardRequest::default() };
        let opened = Instant::now();
        let requests = futures_util::stream::unfold((Some(opening), queue), |(opening, mut queue)| async move {
            match opening {
                Some(opening) => Some((opening, (None, queue))),
                None => queue.recv().await.map(|request| (request, (None, queue))),
            }
        });
        let outcomes = self.answer(leader.0, self.config.election_timeout, client.forward(requests)).await?;
        Ok(Forwarding { term, opened, proposals, outcomes })
    }
}

impl Forwarding {
    /// Sends a proposal that is not to be appended after `until`; `false` if the stream is broken, or holds too many.
    pub(crate) fn send(&self, proposal: &Proposal, until: Option<Instant>) -> bool {
        let proposal = codec::encode_proposal(proposal);
        let until_us = until.map_or(0, |until| wire::until_out(self.opened, until));
        self.proposals.try_send(pb::ForwardRequest { proposal, until_us, ..pb::ForwardRequest::default() }).is_ok()
    }

    /// The next outcome, by sequence; `None` once the stream is broken.
    pub(crate) async fn next(&mut self) -> Option<(u64, pb::ForwardOutcome)> {
        let response = self.outcomes.message().await.ok()??;
        Some((response.sequence, response.outcome()))
    }
}

pub(super) fn senseless(member: u64, fault: &wire::Fault) -> CallError {
    CallError::Unreachable { member: MemberId(member), reason: format!("its answer makes no sense: {fault}") }
}
