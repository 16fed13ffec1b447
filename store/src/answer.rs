//! What the store answers.
//!
//! Owns: keys as they are shown, and one answer type per request.
//!
//! - Every answer says at which revision it was given: the store's revision right after it, its own writes included.

use std::time::Duration;

use bytes::Bytes;
use types::{LeaseId, Revision};

use crate::Alarm;

/// One version of one key. Source: etcd v3 `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// What it holds.
    pub value: Bytes,
    /// The revision that created it; a key that was deleted is created anew.
    pub create_revision: Revision,
    /// The revision that wrote this version.
    pub mod_revision: Revision,
    /// How often it was written since it was created, from 1.
    pub version: i64,
    /// The lease that it is attached to.
    pub lease: Option<LeaseId>,
}

/// What a key costs beside its bytes, so that many tiny ones are bounded too.
const KEY_BYTES: usize = 32;

impl KeyValue {
    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        KEY_BYTES + self.key.len() + self.value.len()
    }
}

/// Without the value, which is the user's and may be secret.
impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &self.key)
            .field("value_bytes", &self.value.len())
            .field("create_revision", &self.create_revision)
            .field("mod_revision", &self.mod_revision)
            .field("version", &self.version)
            .field("lease", &self.lease)
            .finish()
    }
}

/// The answer to a [`Command`](crate::Command), of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a put.
    Put(PutAnswer),
    /// To a delete.
    DeleteRange(DeleteRangeAnswer),
    /// To a transaction.
    Txn(TxnAnswer),
    /// To a compaction.
    Compact(CompactAnswer),
    /// To a grant.
    LeaseGrant(LeaseGrantAnswer),
    /// To a revoke.
    LeaseRevoke(LeaseRevokeAnswer),
    /// To a checkpoint.
    LeaseCheckpoint(LeaseCheckpointAnswer),
    /// To an alarm raised or cleared.
    Alarm(AlarmAnswer),
    /// To a piece of the deletes of leases that have ended.
    Settle(SettleAnswer),
    /// To a change of users and roles, or a login.
    Auth(AuthAnswer),
}

/// A key was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAnswer {
    /// The revision that wrote it.
    pub revision: Revision,
    /// The version that was replaced; only if asked for, and if there was one.
    pub previous: Option<KeyValue>,
}

/// Keys were deleted, or none was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRangeAnswer {
    /// The revision that deleted them; the one before if none was there.
    pub revision: Revision,
    /// How many.
    pub deleted: u64,
    /// What they were, in key order; only if asked for.
    pub previous: Vec<KeyValue>,
}

/// A transaction ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnAnswer {
    /// The revision of its writes; the one before if it wrote nothing.
    pub revision: Revision,
    /// Whether all its compares held.
    pub succeeded: bool,
    /// One answer per operation of the branch that ran.
    pub ops: Vec<OpAnswer>,
}

/// The answer to one [`Op`](crate::Op), of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpAnswer {
    /// To a read.
    Range(RangeAnswer),
    /// To a put.
    Put(PutAnswer),
    /// To a delete.
    DeleteRange(DeleteRangeAnswer),
    /// To a transaction inside.
    Txn(TxnAnswer),
}

/// The keys of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The store's revision when it was read, whichever revision was asked for.
    pub revision: Revision,
    /// The keys, at most as many as the limit; empty if only the count was asked for.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut off keys.
    pub more: bool,
    /// How many live keys the range has at the revision asked for, whatever limit and filters say.
    pub count: u64,
}

/// History was compacted; dead rows are swept afterwards (see [`Sweeper`](crate::Sweeper)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactAnswer {
    /// The store's revision, which compaction does not move.
    pub revision: Revision,
}

/// A lease was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseGrantAnswer {
    /// The store's revision, which a grant does not move.
    pub revision: Revision,
    /// Its name.
    pub id: LeaseId,
    /// How long it lives unless it is renewed.
    pub ttl: Duration,
}

/// Leases were ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRevokeAnswer {
    /// The store's revision after the last of them.
    pub revision: Revision,
    /// Those that existed, in the order in which they ended.
    pub revoked: Vec<LeaseId>,
    /// Those that exist still, since they have more keys than the command had room for.
    pub left: Vec<LeaseId>,
}

/// It is noted how long leases have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseCheckpointAnswer {
    /// The store's revision, which this does not move.
    pub revision: Revision,
    /// Those that exist, and what is noted of each.
    pub remaining: Vec<(LeaseId, Option<Duration>)>,
}

/// An alarm was raised or cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmAnswer {
    /// The store's revision, which alarms do not move.
    pub revision: Revision,
    /// The alarm: raised now, or before already; cleared now. `None` if it was to be cleared and was not raised.
    pub alarm: Option<Alarm>,
}

/// Some more keys of leases that have ended are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleAnswer {
    /// The store's revision, which this does not move.
    pub revision: Revision,
    /// Whether none is left.
    pub is_settled: bool,
}

/// Users and roles were changed, or somebody logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthAnswer {
    /// The store's revision, which this does not move.
    pub revision: Revision,
    /// The auth revision after it.
    pub auth_revision: u64,
}
