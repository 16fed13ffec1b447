//! What can be asked of the store.
//!
//! Owns: the commands that travel through the log, and the read requests that need not.
//!
//! - A command holds all that apply needs: no clock, no id and no default is chosen when it is applied.
//! - What the wire calls 0, empty or "ignore" is a variant here, so that each request has one spelling.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;
use types::{KeyRange, LeaseId, Revision};

use crate::{AlarmChange, AuthCommand, Refusal};

/// What an [`Entry`](crate::Entry) of the log asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes the keys of a range.
    DeleteRange(DeleteRange),
    /// Compares, then runs one of two lists of operations, all at one revision.
    Txn(Txn),
    /// Forgets history below a revision.
    Compact(Compact),
    /// Makes a lease.
    LeaseGrant(LeaseGrant),
    /// Ends leases and deletes their keys.
    LeaseRevoke(LeaseRevoke),
    /// Notes how long leases have left, for the member that leads next.
    LeaseCheckpoint(LeaseCheckpoint),
    /// Raises or clears an alarm.
    Alarm(AlarmChange),
    /// Deletes some more keys of leases that have ended with many; nothing that a reader sees changes.
    Settle,
    /// Changes users and roles, or logs somebody in.
    Auth(AuthCommand),
}

/// Writes one key. Source: etcd v3 `PutRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key; empty is refused.
    pub key: Bytes,
    /// What the key shall hold.
    pub value: PutValue,
    /// What the key shall be attached to.
    pub lease: PutLease,
    /// Whether the answer carries the version that this put replaces.
    pub prev_kv: bool,
}

/// The value of a [`Put`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutValue {
    /// This one.
    Set(Bytes),
    /// The one it has (`ignore_value`); [`Refusal::KeyNotFound`] if the key does not exist.
    Keep,
}

impl PutValue {
    /// Reads the wire's form.
    ///
    /// # Errors
    /// [`Refusal::ValueProvided`] for a value that is to be ignored.
    pub fn from_wire(value: Bytes, ignore: bool) -> Result<Self, Refusal> {
        match (ignore, value.is_empty()) {
            (false, _) => Ok(Self::Set(value)),
            (true, true) => Ok(Self::Keep),
            (true, false) => Err(Refusal::ValueProvided),
        }
    }
}

/// The lease of a [`Put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutLease {
    /// This one, or none: the key leaves the lease it had.
    Set(Option<LeaseId>),
    /// The one it has (`ignore_lease`); [`Refusal::KeyNotFound`] if the key does not exist.
    Keep,
}

impl PutLease {
    /// Reads the wire's form, where 0 is no lease.
    ///
    /// # Errors
    /// [`Refusal::LeaseProvided`] for a lease that is to be ignored.
    pub fn from_wire(lease: i64, ignore: bool) -> Result<Self, Refusal> {
        match (ignore, LeaseId::new(lease)) {
            (false, lease) => Ok(Self::Set(lease)),
            (true, None) => Ok(Self::Keep),
            (true, Some(_)) => Err(Refusal::LeaseProvided),
        }
    }
}

/// Deletes the keys of a range. Source: etcd v3 `DeleteRangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// Which keys.
    pub keys: KeyRange,
    /// Whether the answer carries what was deleted.
    pub prev_kv: bool,
}

/// Compares, then runs one of two lists of operations. Source: etcd v3 `TxnRequest`.
///
/// All compares, those of nested transactions too, are decided before anything is written. All writes share one
/// revision, and no key is written twice in it (see [`validate`](crate::validate())).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success` to run.
    pub compares: Vec<Compare>,
    /// Runs if all compares hold.
    pub success: Vec<Op>,
    /// Runs if one does not.
    pub failure: Vec<Op>,
}

/// One step of a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads; sees what the steps before it wrote.
    Range(Range),
    /// Writes one key.
    Put(Put),
    /// Deletes the keys of a range.
    DeleteRange(DeleteRange),
    /// A transaction inside.
    Txn(Txn),
}

/// One condition of a [`Txn`]: it must hold for every key of a range. Source: etcd v3 `Compare`.
///
/// A range without a live key is compared once, as if its fields were all 0; a value then never holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub keys: KeyRange,
    /// How a key's field shall stand to `target`.
    pub result: CompareResult,
    /// Which field, and the number or bytes it is held against.
    pub target: CompareTarget,
}

/// How a key's field stands to what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// The same.
    Equal,
    /// The key's field is greater.
    Greater,
    /// The key's field is less.
    Less,
    /// Not the same.
    NotEqual,
}

/// A field of a key, and what it is compared with. Numbers compare signed, values as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// How often the key was written since it was created.
    Version(i64),
    /// The revision that created it.
    CreateRevision(i64),
    /// The revision that wrote it last.
    ModRevision(i64),
    /// What it holds.
    Value(Bytes),
    /// The lease it is attached to, 0 for none.
    Lease(i64),
}

/// Forgets history below a revision. Source: etcd v3 `CompactionRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// The oldest revision that stays readable; the wire's number, since etcd takes 0 once.
    pub revision: i64,
}

/// Makes a lease. Source: etcd v3 `LeaseGrantRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGrant {
    /// Its name, chosen by the client or by the member that proposes it.
    pub id: LeaseId,
    /// How long it lives unless it is renewed: whole seconds, as [`Limits::lease_ttl`](crate::Limits::lease_ttl) gave it.
    pub ttl: Duration,
}

/// Ends leases: a client's revoke names one, an expiry as many as are due.
///
/// Each lease that has keys takes one revision of its own, in the order given. Unknown ones are passed over; when all
/// are unknown the command is refused with [`Refusal::LeaseNotFound`]. The first is ended however many keys it has; others
/// are left for a further command if their keys are too many to be deleted by this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRevoke {
    /// Which leases.
    pub ids: Vec<LeaseId>,
}

/// Notes how long leases have left. Unknown ones are passed over. Source: etcd `LeaseCheckpointRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseCheckpoint {
    /// Which leases, and what is left of each, whole seconds; `None` is all of it.
    pub remaining: Vec<(LeaseId, Option<Duration>)>,
}

/// Reads the keys of a range as they were at one revision. Source: etcd v3 `RangeRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub keys: KeyRange,
    /// When; `None` is now.
    pub revision: Option<Revision>,
    /// Most keys to return, after order and filters; `None` is all.
    pub limit: Option<NonZeroU64>,
    /// In which order.
    pub order: Order,
    /// How much of each key.
    pub show: Show,
    /// Returns only keys last written in these revisions.
    pub mod_revisions: Bounds,
    /// Returns only keys created in these revisions.
    pub create_revisions: Bounds,
}

impl Range {
    /// All of the keys as they are now, in key order.
    pub fn new(keys: KeyRange) -> Self {
        Self {
            keys,
            revision: None,
            limit: None,
            order: Order::default(),
            show: Show::Whole,
            mod_revisions: Bounds::default(),
            create_revisions: Bounds::default(),
        }
    }

    /// Whether it leaves out keys by the revisions that wrote or created them.
    pub fn is_filtered(&self) -> bool {
        !self.mod_revisions.is_open() || !self.create_revisions.is_open()
    }
}

/// The order of the keys that a [`Range`] returns; keys that are equal in it are in key order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// What is compared.
    pub by: OrderBy,
    /// Whether the greatest comes first.
    pub descending: bool,
}

/// What a [`Range`] is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// The key, as bytes.
    #[default]
    Key,
    /// How often it was written since it was created.
    Version,
    /// The revision that created it.
    CreateRevision,
    /// The revision that wrote it last.
    ModRevision,
    /// What it holds, as bytes.
    Value,
}

/// How much of each key a [`Range`] returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// Key, metadata and value.
    #[default]
    Whole,
    /// Key and metadata; the value is empty.
    KeysOnly,
    /// Only how many there are.
    CountOnly,
}

/// A closed interval of revisions; `None` is open. From the wire by [`Bounds::from_wire`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The least revision.
    pub min: Option<i64>,
    /// The greatest revision.
    pub max: Option<i64>,
}

impl Bounds {
    /// Reads the wire's form, where 0 is open.
    pub fn from_wire(min: i64, max: i64) -> Self {
        let given = |bound: i64| (bound != 0).then_some(bound);
        Self { min: given(min), max: given(max) }
    }

    /// Whether a revision lies in it.
    pub fn contains(&self, revision: Revision) -> bool {
        self.min.is_none_or(|min| min <= revision.get()) && self.max.is_none_or(|max| revision.get() <= max)
    }

    /// Whether every revision lies in it.
    pub fn is_open(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}

/// A transaction that only compares and reads, and so needs no log: made by [`Txn::read_only`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlyTxn {
    /// All must hold for `success` to run.
    pub compares: Vec<Compare>,
    /// Runs if all compares hold.
    pub success: Vec<Range>,
    /// Runs if one does not.
    pub failure: Vec<Range>,
}

impl Txn {
    /// This transaction as one that only reads; `None` if a branch writes or nests.
    pub fn read_only(&self) -> Option<ReadOnlyTxn> {
        let ranges = |ops: &[Op]| -> Option<Vec<Range>> {
            ops.iter().map(|op| if let Op::Range(range) = op { Some(range.clone()) } else { None }).collect()
        };
        Some(ReadOnlyTxn {
            success: ranges(&self.success)?,
            failure: ranges(&self.failure)?,
            compares: self.compares.clone(),
        })
    }
}
