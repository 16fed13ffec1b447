//! Linearizable reads.
//!
//! Owns: the callers who wait to learn which entry their read must follow.
//! In:   callers from [`crate::Raft::read_barrier`].
//! Out:  to each, the index that must be applied before it reads.
//!
//! - One round of read index serves all callers who arrived before it began, and none who came later.
//! - A round asks a quorum whether this member still leads; no clock is trusted.

use openraft::{
    ReadPolicy,
    errors::{ForwardToLeader, LinearizableReadError, RaftError},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{MemberId, ReadError, apply::Driver, types::Types};

/// Where one caller waits for its index.
pub(crate) type Reader = oneshot::Sender<Result<u64, ReadError>>;

/// Runs rounds, one after another, until `stop` or until no reader can come any more.
pub(crate) async fn run(
    raft: openraft::Raft<Types, Driver>,
    mut queue: mpsc::Receiver<Reader>,
    stop: CancellationToken,
) {
    let mut readers = Vec::new();
    while let Some(1..) = stop.run_until_cancelled(queue.recv_many(&mut readers, usize::MAX)).await {
        let index = read_index(&raft).await;
        for reader in readers.drain(..) {
            // A reader that went away needs no index.
            drop(reader.send(index.clone()));
        }
    }
}

pub(crate) async fn read_index(raft: &openraft::Raft<Types, Driver>) -> Result<u64, ReadError> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(ForwardToLeader { leader_id, .. }))) => {
            Err(ReadError::NotLeader { leader: leader_id.map(MemberId) })
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
        Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
    }
}
