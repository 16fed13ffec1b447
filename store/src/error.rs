//! Why there is no answer.
//!
//! Owns: what the store refuses, one variant per error of etcd's, and what is broken beneath it.
//!
//! - A refusal is part of the log's outcome: the same on every member. Nothing was written.
//! - A [`StoreError`] is this member's own trouble; after one from apply the member must stop.

use types::{LeaseId, Revision};

use crate::AuthRefusal;

/// Why the store refused. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A key is empty.
    #[error("key is not provided")]
    KeyNotProvided,
    /// A put keeps value or lease of a key that does not exist; also a transaction's operation that says nothing.
    #[error("key not found")]
    KeyNotFound,
    /// A put both ignores its value and brings one.
    #[error("value is provided")]
    ValueProvided,
    /// A put both ignores its lease and brings one.
    #[error("lease is provided")]
    LeaseProvided,
    /// A transaction has more compares or operations than [`Limits::txn_ops_max`](crate::Limits).
    #[error("too many operations in txn request")]
    TooManyOps,
    /// A transaction may write a key twice.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// An order that there is not.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// A command is longer than [`Limits::request_bytes_max`](crate::Limits).
    #[error("request is too large")]
    RequestTooLarge,
    /// The revision is no longer readable: read again at `oldest` or later.
    #[error("revision {asked} is compacted, oldest is {oldest}")]
    Compacted {
        /// The wire's number.
        asked: i64,
        /// The compacted revision, which can still be read; -1 before the first compaction.
        oldest: i64,
    },
    /// The revision does not exist yet.
    #[error("revision {asked} is in the future, current is {current}")]
    FutureRevision {
        /// The wire's number.
        asked: i64,
        /// The store's revision.
        current: Revision,
    },
    /// No such lease: it was never granted, was revoked, or has expired.
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// A lease of this name is there already.
    #[error("lease {0} already exists")]
    LeaseExists(LeaseId),
    /// A TTL above [`LEASE_TTL_MAX`](crate::LEASE_TTL_MAX).
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// A member's quota is used up: delete, compact, and clear the alarm.
    #[error("database space exceeded")]
    NoSpace,
    /// A member's state differs from the others': nothing is written until a person has looked.
    #[error("corrupt cluster")]
    Corrupt,
    /// Not permitted, or users and roles cannot be changed like that.
    #[error(transparent)]
    Auth(#[from] AuthRefusal),
}

/// What is broken beneath the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine could not read.
    #[error("storage engine failed")]
    Engine(#[from] engine::EngineError),
    /// What was read is not what this store writes: a damaged disk, or data of a newer version.
    #[error("space {space} holds a row that cannot be read: {what}")]
    Corrupt {
        /// Where.
        space: &'static str,
        /// What is wrong with it; never the row's own bytes.
        what: &'static str,
    },
    /// The end of a lease with many keys is not all on the engine yet: try again, with the member running.
    #[error("a lease with many keys is about to end")]
    Unsettled,
    /// The system has no thread for the watches.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller's doing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Ours.
    #[error(transparent)]
    Broken(#[from] StoreError),
}

impl From<AuthRefusal> for Failure {
    fn from(refusal: AuthRefusal) -> Self {
        Self::Refused(refusal.into())
    }
}

impl From<engine::EngineError> for Failure {
    fn from(error: engine::EngineError) -> Self {
        Self::Broken(error.into())
    }
}

/// Bytes that are no command of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version of this program.
    #[error("command format {0} is not known")]
    Format(u8),
    /// The same: a command of a kind that this version does not have.
    #[error("command kind {0} is not known")]
    Kind(u8),
    /// Cut short, or damaged.
    #[error("malformed command: {0}")]
    Malformed(&'static str),
}
