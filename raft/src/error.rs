//! What can go wrong, by what the caller can do about it.

use std::{error::Error, sync::Arc};

use crate::{ClusterId, MemberId};

/// Why a member could not start, or why it stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RaftError {
    /// The configuration contradicts itself.
    #[error("raft configuration: {reason}")]
    Config {
        /// Which field, and why.
        reason: String,
    },
    /// The log on this disk belongs to somebody else. Start with the identity it names, or with its own disk.
    #[error(
        "this log belongs to member {found_member} of cluster {found_cluster}, \
         not to member {member} of cluster {cluster}"
    )]
    Foreign {
        /// The configured cluster.
        cluster: ClusterId,
        /// The configured member.
        member: MemberId,
        /// The cluster whose log this is.
        found_cluster: ClusterId,
        /// The member whose log this is.
        found_member: MemberId,
    },
    /// A record does not read as it was written. Nothing was cut or skipped: restore this member from a backup, or let
    /// a new member take its place.
    #[error("corrupt raft log: {what}: {reason}")]
    Corrupt {
        /// The record, such as `entry 17` or `vote`.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log's disk failed. A failed write or sync is not retried, since what it left behind is unknown.
    #[error("raft log storage failed")]
    Log(#[source] Arc<engine::EngineError>),
    /// The state machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A thread or task of the member ended when it should not have.
    #[error("raft stopped: {reason}")]
    Stopped {
        /// What ended, and why.
        reason: String,
    },
}

impl From<engine::EngineError> for RaftError {
    fn from(error: engine::EngineError) -> Self {
        Self::Log(Arc::new(error))
    }
}

/// The state machine failed, so that this member can not go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("state machine failed: {0}")]
pub struct MachineError(#[source] Arc<dyn Error + Send + Sync>);

impl MachineError {
    /// Wraps what the state machine ran into.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(source.into()))
    }
}

/// Why a proposal has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not appended: another member leads, or none does. Try there, or later.
    #[error("this member is not the leader")]
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<MemberId>,
    },
    /// Not appended: too many proposals wait. Try later.
    #[error("too many proposals wait")]
    Busy,
    /// Not appended: the command is longer than [`crate::Config::command_bytes_max`].
    #[error("command of {bytes} bytes is longer than the {bytes_max} allowed")]
    TooLarge {
        /// The command's length.
        bytes: usize,
        /// The longest allowed.
        bytes_max: usize,
    },
    /// It may have been applied, may be later, or may never be: the member lost leadership or stopped in the middle.
    #[error("the outcome of the proposal is unknown")]
    Unknown,
    /// Not appended: the member is shutting down, or was stopped by an error.
    #[error("this member is stopped")]
    Stopped,
}

/// Why a read can not be linearizable now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Another member leads, or none does. Read there, or later.
    #[error("this member is not the leader")]
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<MemberId>,
    },
    /// This member could not make sure in time that it still leads.
    #[error("no quorum confirmed the read in time")]
    NoQuorum,
    /// Too many reads wait. Try later.
    #[error("too many reads wait")]
    Busy,
    /// The member is shutting down, or was stopped by an error.
    #[error("this member is stopped")]
    Stopped,
}
