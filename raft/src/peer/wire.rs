//! Between what is on the wire and what the room speaks.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use proto::peer as pb;
use types::Release;

use crate::{
    ChangeError, MemberId, Node,
    codec::{self, Damage},
    types::{Entry, LogId, Types, Vote, log_id},
};

/// What of a message makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {0} contradicts the rest")]
    Contradiction(&'static str),
    #[error("its {0} is damaged: {1}")]
    Damaged(&'static str, Damage),
}

/// The first release tells none.
pub(crate) fn release_out(release: Release) -> u32 {
    if release == Release::FIRST { 0 } else { release.number() }
}

pub(crate) fn vote_out(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, member: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_in(vote: Option<pb::Vote>) -> Result<Vote, Fault> {
    let pb::Vote { term, member, committed } = vote.ok_or(Fault::Missing("vote"))?;
    Ok(if committed { Vote::new_committed(term, member) } else { Vote::new(term, member) })
}

pub(crate) fn log_id_out(log_id: &LogId) -> pb::LogId {
    pb::LogId { term: log_id.leader_id.term, index: log_id.index }
}

pub(crate) fn log_id_in(at: pb::LogId) -> LogId {
    log_id(at.term, at.index)
}

pub(crate) fn vote_request_out(header: pb::Header, request: &VoteRequest<Types>) -> pb::VoteRequest {
    pb::VoteRequest {
        header: Some(header),
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(request: pb::VoteRequest) -> Result<VoteRequest<Types>, Fault> {
    let mut vote_request = VoteRequest::new(vote_in(request.vote)?, request.last_log_id.map(log_id_in));
    vote_request.leadership_transfer = request.leadership_transfer;
    Ok(vote_request)
}

pub(crate) fn vote_response_out(response: &VoteResponse<Types>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_out(&response.vote)),
        last_log_id: response.last_log_id.as_ref().map(log_id_out),
        granted: response.vote_granted,
    }
}

pub(crate) fn vote_response_in(response: pb::VoteResponse) -> Result<VoteResponse<Types>, Fault> {
    Ok(VoteResponse::new(vote_in(response.vote)?, response.last_log_id.map(log_id_in), response.granted))
}

pub(crate) fn append_out(header: Option<pb::Header>, request: &AppendEntriesRequest<Types>) -> pb::AppendRequest {
    pb::AppendRequest {
        header,
        vote: Some(vote_out(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_out),
        committed: request.leader_commit.as_ref().map(log_id_out),
        entries: request.entries.iter().map(codec::encode_entry).collect(),
    }
}

/// A request whose entries follow each other and what they are said to follow, as openraft takes for granted.
pub(crate) fn append_in(request: pb::AppendRequest) -> Result<AppendEntriesRequest<Types>, Fault> {
    let vote = vote_in(request.vote)?;
    let prev_log_id = request.previous.map(log_id_in);
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut last = prev_log_id;
    for entry in request.entries {
        let entry: Entry = codec::decode_entry(entry).map_err(|damage| Fault::Damaged("entry", damage))?;
        let follows = match last {
            Some(last) => last.index.checked_add(1) == Some(entry.log_id.index) && last < entry.log_id,
            None => entry.log_id.index == 0,
        };
        if !follows {
            return Err(Fault::Contradiction("entry"));
        }
        last = Some(entry.log_id);
        entries.push(entry);
    }
    let leader_commit = request.committed.map(log_id_in);
    if !vote.committed || last.max(leader_commit).is_some_and(|last| last.leader_id.term > vote.leader_id.term) {
        return Err(Fault::Contradiction("vote"));
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(crate) fn append_result_out(result: &StreamAppendResult<Types>) -> pb::AppendResponse {
    use pb::append_response::Outcome;
    let outcome = match result {
        Ok(matched) => Outcome::Matched(pb::Matched { log_id: matched.as_ref().map(log_id_out) }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(log_id_out(at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote_out(vote)),
    };
    pb::AppendResponse { outcome: Some(outcome) }
}

pub(crate) fn append_result_in(response: pb::AppendResponse) -> Result<StreamAppendResult<Types>, Fault> {
    use pb::append_response::Outcome;
    Ok(match response.outcome.ok_or(Fault::Missing("outcome"))? {
        Outcome::Matched(matched) => Ok(matched.log_id.map(log_id_in)),
        Outcome::Conflict(at) => Err(StreamAppendError::Conflict(log_id_in(at))),
        Outcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_in(Some(vote))?)),
    })
}

pub(crate) fn transfer_out(header: pb::Header, request: &TransferLeaderRequest<Types>) -> pb::TransferRequest {
    pb::TransferRequest {
        header: Some(header),
        vote: Some(vote_out(request.from_leader())),
        to: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_out),
    }
}

pub(crate) fn transfer_in(request: pb::TransferRequest) -> Result<TransferLeaderRequest<Types>, Fault> {
    let vote = vote_in(request.vote)?;
    Ok(TransferLeaderRequest::new(vote, request.to, request.last_log_id.map(log_id_in)))
}

pub(crate) fn node_out(node: Node) -> pb::Node {
    let Node { name, peer_urls, client_urls, wants_vote } = node;
    pb::Node { name, peer_urls, client_urls, wants_vote }
}

pub(crate) fn node_in(node: pb::Node) -> Node {
    let pb::Node { name, peer_urls, client_urls, wants_vote } = node;
    Node { name, peer_urls, client_urls, wants_vote }
}

pub(crate) fn record_in(record: Bytes) -> Result<codec::Record, Fault> {
    codec::decode_record(record).map_err(|damage| Fault::Damaged("record", damage))
}

pub(crate) fn refusal_out(error: &ChangeError) -> pb::ChangeRefusal {
    use pb::ChangeRefusalKind as Kind;
    let refusal = |kind: Kind| pb::ChangeRefusal { kind: kind.into(), ..pb::ChangeRefusal::default() };
    let about = |kind: Kind, member: &MemberId| pb::ChangeRefusal { member: member.0, ..refusal(kind) };
    match error {
        ChangeError::NoLeader => refusal(Kind::NotLeader),
        ChangeError::Unknown => refusal(Kind::Unknown),
        ChangeError::InProgress => refusal(Kind::InProgress),
        ChangeError::Exists(member) => about(Kind::Exists, member),
        ChangeError::Removed(member) => about(Kind::Removed, member),
        ChangeError::NotFound(member) => about(Kind::NotFound, member),
        ChangeError::NotLearner(member) => about(Kind::NotLearner, member),
        ChangeError::NotVoter(member) => about(Kind::NotVoter, member),
        ChangeError::NotReady { member, matched, last } => {
            pb::ChangeRefusal { matched: *matched, last: *last, ..about(Kind::NotReady, member) }
        }
        ChangeError::WouldLoseQuorum => refusal(Kind::WouldLoseQuorum),
        ChangeError::Invalid(reason) => pb::ChangeRefusal { reason: reason.clone(), ..refusal(Kind::Invalid) },
        ChangeError::Stopped => refusal(Kind::Stopped),
    }
}

/// What another member says of a change; that it is stopped is not that this one is.
pub(crate) fn refusal_in(refusal: pb::ChangeRefusal) -> ChangeError {
    use pb::ChangeRefusalKind as Kind;
    let member = MemberId(refusal.member);
    match refusal.kind() {
        Kind::Unknown => ChangeError::Unknown,
        Kind::NotLeader | Kind::Stopped => ChangeError::NoLeader,
        Kind::InProgress => ChangeError::InProgress,
        Kind::Exists => ChangeError::Exists(member),
        Kind::Removed => ChangeError::Removed(member),
        Kind::NotFound => ChangeError::NotFound(member),
        Kind::NotLearner => ChangeError::NotLearner(member),
        Kind::NotVoter => ChangeError::NotVoter(member),
        Kind::NotReady => ChangeError::NotReady { member, matched: refusal.matched, last: refusal.last },
        Kind::WouldLoseQuorum => ChangeError::WouldLoseQuorum,
        Kind::Invalid => ChangeError::Invalid(refusal.reason),
    }
}

#[cfg(test)]
mod tests;
