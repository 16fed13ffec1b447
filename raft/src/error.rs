//! What can go wrong, by what the caller can do about it.

use std::{error::Error, sync::Arc};

use types::Release;

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
    /// The others know this member with another disk, or with a later state of this one: it has lost what it had
    /// promised, and its vote could undo what was acknowledged. It does not start on this disk again. Start it on the disk it
    /// had; if that is gone, remove the member from the cluster and add a new one in its place.
    #[error(
        "this member has lost its data: {reason}; start it on the disk it had, \
         or have a new one take its place (`meshstore cluster replace`)"
    )]
    Forgetful {
        /// Who noticed, and what.
        reason: String,
    },
    /// It was told to go on as the only member of its cluster. The log is as it was.
    #[error("this member can not be made the only one of its cluster (--force-new-cluster): {reason}")]
    NotForced {
        /// Why not, and what to do.
        reason: String,
    },
    /// The member was removed from the cluster. Its id is never used again: add a new member, on an empty disk.
    #[error("this member was removed from the cluster")]
    Removed,
    /// The cluster has agreed to write what this release does not understand.
    #[error(
        "this is release {release}, and the cluster is at {version}, which it does not understand: \
         start this member with release {version} or the one after it"
    )]
    TooOld {
        /// This member's.
        release: Release,
        /// The cluster's version.
        version: Release,
    },
    /// The cluster is so far behind that this release was never meant to run beside it.
    #[error(
        "this is release {release}, and the cluster is at {version}: a release runs beside the one before it and no other; \
         bring all members to {} first",
        .release.before()
    )]
    TooNew {
        /// This member's.
        release: Release,
        /// The cluster's version, or the leader's release where there is none yet.
        version: Release,
    },
    /// Something was written by a later release. It is whole, and this release cannot read it.
    #[error(
        "{what} is of a later release, in a format {format} that release {} does not know: \
         start this member with the release that the others run",
        Release::THIS
    )]
    Later {
        /// The record, such as `entry 17` or `vote`.
        what: String,
        /// Its format.
        format: u8,
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
    /// Not appended: nobody took it who leads, for as long as [`crate::Config::patience`]. Try again.
    #[error("no leader")]
    NoLeader,
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
    /// It may have been applied, may be later, or may never be: there was no answer in [`crate::Config::patience`], or
    /// the member stopped in the middle.
    #[error("the outcome of the proposal is unknown")]
    Unknown,
    /// Not appended, and it will not be: its time was over before a leader had taken it.
    #[error("the time for the proposal was over before a leader had taken it")]
    Late,
    /// Not appended: the member is shutting down, or was stopped by an error.
    #[error("this member is stopped")]
    Stopped,
}

/// Why a read can not be linearizable now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader was found in [`crate::Config::patience`]. Try again.
    #[error("no leader")]
    NoLeader,
    /// The leader could not make sure in time that it still leads.
    #[error("no quorum confirmed the read in time")]
    NoQuorum,
    /// Too many reads wait. Try later.
    #[error("too many reads wait")]
    Busy,
    /// The member is shutting down, or was stopped by an error.
    #[error("this member is stopped")]
    Stopped,
}

/// Why a change of the members was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nothing was done: no leader was found in [`crate::Config::patience`]. Try again.
    #[error("no leader")]
    NoLeader,
    /// It may have been made or not: look at the members.
    #[error("the outcome of the change is unknown")]
    Unknown,
    /// Nothing was done: another change is being made. Try again.
    #[error("another change of the members is in progress")]
    InProgress,
    /// There is a member of this id.
    #[error("member {0} exists")]
    Exists(MemberId),
    /// Another member has the name.
    #[error(
        "there is a member named {name} already, {by}: choose another name (--name), or take that member's place by \
         'meshstore cluster replace'"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        by: MemberId,
    },
    /// There was a member of this id, and it is never used again.
    #[error("member {0} was removed, and its id is not used again")]
    Removed(MemberId),
    /// There is no member of this id.
    #[error("member {0} not found")]
    NotFound(MemberId),
    /// It has a vote already.
    #[error("member {0} is not a learner")]
    NotLearner(MemberId),
    /// It has no vote, so that it can not lead.
    #[error("member {0} is not a voter")]
    NotVoter(MemberId),
    /// The learner has not caught up yet. Try later.
    #[error("learner {member} is not caught up: its log reaches to {matched}, the leader's to {last}")]
    NotReady {
        /// The learner.
        member: MemberId,
        /// The last entry that it is known to have.
        matched: u64,
        /// The leader's last entry.
        last: u64,
    },
    /// Too few members that are in touch would be left for a quorum, or none at all.
    #[error("too few members would be in touch for a quorum")]
    WouldLoseQuorum,
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The member is shutting down, or was stopped by an error.
    #[error("this member is stopped")]
    Stopped,
}
