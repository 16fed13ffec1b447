//! Keys and their history, leases and watches: a deterministic function of the log.
//!
//! Owns: the spaces of [`Store::SPACES`], what a [`Command`] does to them, and everything read from them.
//! In:   committed commands, in log order, on one thread; reads and watches from anywhere.
//! Out:  one answer per command; [`View`]s that see whole batches only; watches that see every event once.
//!
//! - The same log gives the same answers and the same rows on every member, however it is cut into batches.
//! - A revision is one transaction's writes: never split, never reused, after a restart either.
//! - A reader sees a batch wholly or not at all, and never waits for a writer.
//! - Old history is forgotten logically when a compaction is applied, and physically by the [`Sweeper`], later.

mod alarm;
mod answer;
mod apply;
mod auth;
mod chunk;
mod codec;
mod command;
mod ending;
mod error;
mod hash;
mod layout;
mod lessor;
mod limits;
mod living;
mod recent;
mod rows;
mod snapshot;
mod sweep;
mod transfer;
mod validate;
mod varint;
mod view;
mod watch;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), expect(dead_code, reason = "what fuzzes the store needs no more than its rig and its model"))]
mod tests;

pub use alarm::{Alarm, AlarmChange, AlarmKind};
pub use answer::{
    AlarmAnswer, Answer, AuthAnswer, CompactAnswer, DeleteRangeAnswer, KeyValue, LeaseCheckpointAnswer,
    LeaseGrantAnswer, LeaseRevokeAnswer, OpAnswer, PutAnswer, RangeAnswer, SettleAnswer, TxnAnswer,
};
pub use apply::Store;
pub use auth::{
    Access, Actor, Auth, AuthCommand, AuthRefusal, Entry, Kind, PasswordHash, Permission, ROOT, Role, TokenDigest, User,
};
pub use chunk::Chunk;
pub use command::{
    Bounds, Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, LeaseCheckpoint, LeaseGrant,
    LeaseRevoke, Op, Order, OrderBy, Put, PutLease, PutValue, Range, ReadOnlyTxn, Show, Txn,
};
pub use error::{DecodeError, Failure, Refusal, StoreError};
pub use hash::KeyHash;
pub use lessor::{Lessor, Renewal};
pub use limits::{AutoCompaction, LEASE_TTL_MAX, Limits, QueueLimits};
pub use sweep::{Sweep, Sweeper};
pub use transfer::{Export, Load, LoadError, Loaded, Step, Steps};
pub use validate::{validate, validate_range, validate_read_only};
pub use view::{Lease, View};
pub use watch::{
    Change, Delivery, DuplicateWatch, Event, Events, Filter, WatchHub, WatchId, WatchLoad, WatchRequest, WatchStart,
    WatchStream,
};
