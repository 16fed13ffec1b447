//! Between what is on the wire and what the room speaks.

use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use proto::peer as pb;
use tokio::time::Instant;
use types::Release;

use crate::{
    ChangeError, MemberId, Node,
    codec::{self, Damage},
    life::{Disk, Held, Known, Life, SESSIONS_MAX},
    types::{COUNT_MAX, Entry, LogId, Types, Vote, log_id},
};

/// What of a message makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {0} contradicts the rest")]
    Contradiction(&'static str),
    #[error("its {0} is none to which anybody counts")]
    Impossible(&'static str),
    #[error("its {0} is damaged: {1}")]
    Damaged(&'static str, Damage),
}

/// The first release tells none.
pub(crate) fn release_out(release: Release) -> u32 {
    if release == Release::FIRST { 0 } else { release.number() }
}

/// A point in time, counted from when a stream was opened.
pub(crate) fn until_out(opened: Instant, until: Instant) -> u64 {
    // 0 is for none.
    u64::try_from(until.saturating_duration_since(opened).as_micros()).unwrap_or(u64::MAX).max(1)
}

/// The same on the other side, which counts from when it saw the stream opened. One that no clock will reach is none.
pub(crate) fn until_in(opened: Instant, until_us: u64) -> Option<Instant> {
    if until_us == 0 { None } else { opened.checked_add(Duration::from_micros(until_us)) }
}

pub(crate) fn vote_out(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, member: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_in(vote: Option<pb::Vote>) -> Result<Vote, Fault> {
    let pb::Vote { term, member, committed } = vote.ok_or(Fault::Missing("vote"))?;
    let term = counted(term, "term")?;
    Ok(if committed { Vote::new_committed(term, member) } else { Vote::new(term, member) })
}

pub(crate) fn log_id_out(log_id: &LogId) -> pb::LogId {
    pb::LogId { term: log_id.leader_id.term, index: log_id.index }
}

fn log_id_in(at: pb::LogId) -> Result<LogId, Fault> {
    Ok(log_id(counted(at.term, "term")?, counted(at.index, "index")?))
}

fn counted(number: u64, what: &'static str) -> Result<u64, Fault> {
    if number > COUNT_MAX { Err(Fault::Impossible(what)) } else { Ok(number) }
}

pub(crate) fn known_out(member: u64, known: &Known) -> pb::Known {
    let Known { disk: Disk { incarnation, starts }, session, held } = *known;
    let held_starts = held.map_or(0, |held| held.starts);
    pb::Known { member, incarnation, starts, session, held: held.map(|held| log_id_out(&held.log_id)), held_starts }
}

pub(crate) fn known_in(known: &pb::Known) -> Result<Known, Fault> {
    let at = known.held.map(log_id_in).transpose()?;
    let held = at.map(|log_id| Held { starts: known.held_starts, log_id });
    Ok(Known { disk: disk_in(known.incarnation, known.starts)?, session: known.session, held })
}

fn disk_in(incarnation: u64, starts: u64) -> Result<Disk, Fault> {
    Ok(Disk { incarnation, starts: counted(starts, "number of starts")? })
}

/// The sender of a header.
pub(crate) fn sender_in(header: &pb::Header) -> Result<Life, Fault> {
    let disk = disk_in(header.sender_incarnation, header.sender_starts)?;
    life_in(disk, &header.sender_sessions, header.sender_found)
}

pub(crate) fn life_in(disk: Disk, sessions: &[u64], found: Option<pb::LogId>) -> Result<Life, Fault> {
    let sessions = sessions.iter().take(SESSIONS_MAX).copied().collect();
    Ok(Life { disk, sessions, found: found.map(log_id_in).transpose()? })
}

pub(crate) fn vote_request_out(header: pb::Header, request: &VoteRequest<Types>) -> pb::VoteRequest {
    pb::VoteRequest {
        header: Some(header),
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(request: &pb::VoteRequest) -> Result<VoteRequest<Types>, Fault> {
    let last_log_id = request.last_log_id.map(log_id_in).transpose()?;
    let mut vote_request = VoteRequest::new(vote_in(request.vote)?, last_log_id);
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
    let last_log_id = response.last_log_id.map(log_id_in).transpose()?;
    Ok(VoteResponse::new(vote_in(response.vote)?, last_log_id, response.granted))
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
    let prev_log_id = request.previous.map(log_id_in).transpose()?;
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut last = prev_log_id;
    for entry in request.entries {
        let entry: Entry = codec::decode_entry(entry).map_err(|damage| Fault::Damaged("entry", damage))?;
        let follows = match last {
            Some(last) => last.index + 1 == entry.log_id.index && last < entry.log_id,
            None => entry.log_id.index == 0,
        };
        if !follows {
            return Err(Fault::Contradiction("entry"));
        }
        last = Some(entry.log_id);
        entries.push(entry);
    }
    let leader_commit = request.committed.map(log_id_in).transpose()?;
    if !vote.committed || last.max(leader_commit).is_some_and(|last| last.leader_id.term > vote.leader_id.term) {
        return Err(Fault::Contradiction("vote"));
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

/// An outcome, as the `starts`th start of this member has it.
pub(crate) fn append_result_out(result: &StreamAppendResult<Types>, starts: u64) -> pb::AppendResponse {
    use pb::append_response::Outcome;
    let outcome = match result {
        Ok(matched) => Outcome::Matched(pb::Matched { log_id: matched.as_ref().map(log_id_out) }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(log_id_out(at)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote_out(vote)),
    };
    pb::AppendResponse { outcome: Some(outcome), starts }
}

pub(crate) fn append_result_in(response: pb::AppendResponse) -> Result<StreamAppendResult<Types>, Fault> {
    use pb::append_response::Outcome;
    Ok(match response.outcome.ok_or(Fault::Missing("outcome"))? {
        Outcome::Matched(matched) => Ok(matched.log_id.map(log_id_in).transpose()?),
        Outcome::Conflict(at) => Err(StreamAppendError::Conflict(log_id_in(at)?)),
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

pub(crate) fn transfer_in(request: &pb::TransferRequest) -> Result<TransferLeaderRequest<Types>, Fault> {
    let vote = vote_in(request.vote)?;
    Ok(TransferLeaderRequest::new(vote, request.to, request.last_log_id.map(log_id_in).transpose()?))
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
        ChangeError::NameTaken { name, by } => pb::ChangeRefusal { reason: name.clone(), ..about(Kind::NameTaken, by) },
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
        Kind::NameTaken => ChangeError::NameTaken { name: refusal.reason, by: member },
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
