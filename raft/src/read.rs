//! Linearizable reads.
//!
//! Owns: the callers who wait to learn which entry their read must follow.
//! In:   callers from [`crate::Raft::read_barrier`], and other members' questions to this one as the leader.
//! Out:  to each, the index that must be applied before it reads.
//!
//! - One round of read index serves all callers who arrived before it began, and none who came later.
//! - The leader asks a quorum whether it still leads; no clock is trusted. Another member asks the leader, and says in which
//!   term it has given it its vote: with that it is one of the quorum, and of three members the leader need ask no other.
//! - A round that found no leader is repeated, until its callers have waited for [`crate::Config::patience`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use openraft::{
    ReadPolicy,
    errors::{LinearizableReadError, RaftError},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{Leadership, MemberId, ReadError, peer::Peers, types::Openraft};

/// Where one caller waits for its index.
pub(crate) type Reader = oneshot::Sender<Result<u64, ReadError>>;

/// Asks for all who wait.
pub(crate) struct Rounds {
    pub(crate) raft: Openraft,
    pub(crate) member: MemberId,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) peers: Arc<Peers>,
}

impl Rounds {
    /// Runs rounds, one after another, until `stop` or until no reader can come any more.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Reader>, stop: CancellationToken) {
        let mut readers = Vec::new();
        while let Some(1..) = stop.run_until_cancelled(queue.recv_many(&mut readers, usize::MAX)).await {
            let Some(index) = stop.run_until_cancelled(self.round()).await else { break };
            for reader in readers.drain(..) {
                // A reader that went away needs no index.
                drop(reader.send(index.clone()));
            }
        }
    }

    /// The index of now, from whoever leads.
    async fn round(&mut self) -> Result<u64, ReadError> {
        let until = Instant::now() + self.peers.config.patience;
        loop {
            let leader = self.leadership.borrow_and_update().leader;
            let index = match leader {
                Some(leader) if leader == self.member => read_index(&self.raft).await,
                Some(leader) => match term_given_to(&self.raft, leader).await {
                    Ok(term) => self.peers.read_index(leader, term, self.deadline()).await,
                    Err(error) => Err(error),
                },
                None => Err(ReadError::NoLeader),
            };
            if index != Err(ReadError::NoLeader) || Instant::now() >= until {
                return index;
            }
            let soon = Instant::now() + self.peers.config.heartbeat;
            tokio::select! {
                changed = timeout_at(until, self.leadership.changed()) => if let Ok(Err(_)) = changed {
                    return Err(ReadError::Stopped);
                },
                // The leader that is known may not have been ready, or its answer was lost.
                () = sleep_until(soon), if leader.is_some() => {}
            }
        }
    }

    /// A leader that has no quorum says so before this.
    fn deadline(&self) -> Duration {
        self.peers.config.election_timeout
    }
}

/// The index of now, if this member leads.
pub(crate) async fn read_index(raft: &Openraft) -> Result<u64, ReadError> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(ReadError::NoLeader),
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
        Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
    }
}

/// The term in which this member follows `leader`, or voted for it; `None` if it has turned to another by now, or to none.
///
/// It is asked after the callers came, and of openraft's own state, which changes before a vote leaves this member: no later
/// leader that needed its vote can have committed anything before they came.
async fn term_given_to(raft: &Openraft, leader: MemberId) -> Result<Option<u64>, ReadError> {
    let vote = raft.with_raft_state(|state| *state.vote_ref()).await.map_err(|_| ReadError::Stopped)?;
    Ok((vote.leader_id.voted_for == leader.0).then_some(vote.leader_id.term))
}

/// The index of now, if this member leads `term`, and is a quorum together with `voter`, which says that it has given it that
/// term's vote and no later one. `None` if more must be asked.
pub(crate) async fn index_sure_of(raft: &Openraft, member: MemberId, (voter, term): (u64, u64)) -> Option<u64> {
    let index = raft.with_raft_state(move |state| {
        let vote = state.vote_ref();
        let leads = vote.committed && vote.leader_id.term == term && vote.leader_id.voted_for == member.0;
        let sure = leads && is_quorum(state.membership_state.effective().get_joint_config(), &[member.0, voter]);
        // What earlier terms left is known once an entry of this one is committed.
        let committed = state.local_committed().filter(|committed| sure && committed.leader_id.term == term)?;
        Some(committed.index)
    });
    // One that has stopped says so to the next question.
    index.await.unwrap_or(None)
}

/// Whether these are more than half of the voters, of each of two sets while voters change.
fn is_quorum(voters: &[BTreeSet<u64>], members: &[u64]) -> bool {
    let is_majority =
        |voters: &BTreeSet<u64>| members.iter().filter(|member| voters.contains(member)).count() > voters.len() / 2;
    voters.iter().all(is_majority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_more_than_half_of_each_set_of_voters() {
        let sets = |sets: &[&[u64]]| sets.iter().map(|set| set.iter().copied().collect()).collect::<Vec<_>>();
        for (voters, members, is_one) in [
            (sets(&[&[1, 2, 3]]), [1, 2], true),
            (sets(&[&[1, 2, 3]]), [1, 4], false),
            (sets(&[&[1, 2, 3, 4]]), [1, 2], false),
            (sets(&[&[1, 2, 3, 4, 5]]), [1, 2], false),
            (sets(&[&[1, 2, 3], &[1, 2, 4]]), [1, 2], true),
            (sets(&[&[1, 2, 3], &[1, 3, 4]]), [1, 2], false),
            (sets(&[&[1, 2, 3], &[1, 2, 3, 4]]), [1, 2], false),
            // A leader that is on its way out does not count itself.
            (sets(&[&[2, 3, 4]]), [1, 2], false),
            (sets(&[&[2]]), [1, 2], true),
        ] {
            assert_eq!(is_quorum(&voters, &members), is_one, "{members:?} of {voters:?}");
        }
    }
}
