//! Linearizable reads.
//!
//! Owns: the callers who wait to learn which entry their read must follow.
//! In:   callers from [`crate::Raft::read_barrier`], and other members' questions to this one as the leader.
//! Out:  to each, the index that must be applied before it reads.
//!
//! - One round of read index serves all callers who arrived before it began, and none who came later.
//! - The leader asks a quorum whether it still leads; no clock is trusted. Another member asks the leader.
//! - A round that found no leader is repeated, until its callers have waited for [`crate::Config::patience`].

use std::{sync::Arc, time::Duration};

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
                Some(leader) => self.peers.read_index(leader, self.deadline()).await,
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
