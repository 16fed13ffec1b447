//! What is asked of both servers.
//!
//! - An operation is a number: what it asks follows from that and from where the store stands. So a sequence can be cut
//!   short, and still asks for revisions around the current one.
//! - Few keys, few leases and few watches, so that operations meet.

use bytes::Bytes;
use proto::etcdserverpb::{self as pb, compare::TargetUnion, request_op};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};

use super::{
    difference::has_unknown_sort,
    users::{About, Caller, Draw},
};

/// Where the store stands when an operation is made.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) revision: i64,
    /// -1 before the first compaction.
    pub(crate) compacted: i64,
    /// The ids of the watches that are alive.
    pub(crate) watches: Vec<i64>,
    /// The kind of the alarm that is raised: never more than one, see `docs/etcd-differences.md`.
    pub(crate) alarm: Option<i32>,
    /// There are users and roles, and requests are made as one of them.
    pub(crate) users: bool,
}

/// One call, one message on a stream, or a wait.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Put(pb::PutRequest),
    Range(pb::RangeRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    LeaseLeases(pb::LeaseLeasesRequest),
    LeaseKeepAlive(pb::LeaseKeepAliveRequest),
    WatchCreate(pb::WatchCreateRequest),
    WatchCancel(pb::WatchCancelRequest),
    /// Until every watch was told everything.
    WatchProgress,
    HashKv(pb::HashKvRequest),
    Alarm(pb::AlarmRequest),
    /// Of users and roles.
    About(About),
}

/// Zero bytes, prefixes of one another, both ends of the order: where escapes and bounds go wrong.
const KEYS: [&[u8]; 16] = [
    b"\0",
    b"a",
    b"a\0",
    b"a\0b",
    b"a/",
    b"a/1",
    b"a/2",
    b"ab",
    b"b",
    b"b\x01",
    b"c",
    b"c/1",
    b"c/2",
    b"d",
    b"\xff",
    b"\xff\xff",
];
/// Beside them, so that not every transaction writes a key twice.
const NUMBERED_KEYS: u32 = 60;
const VALUES: [&[u8]; 5] = [b"", b"x", b"y", b"zz", b"\0\xff"];
const LEASES: i64 = 12;
/// Seconds between the deadlines of two leases: far more than a sequence takes, so that their order is certain.
const LEASE_STEP: i64 = 1_000;
const WATCHES_MAX: usize = 20;
/// One in so many fields holds what is refused.
const FLAW: u32 = 120;
/// What a transaction may hold at most. Source: etcd `--max-txn-ops`.
const TXN_OPS_MAX: usize = 128;

impl Operation {
    /// What `number` asks for at `standing`, and as whom.
    pub(crate) fn new(number: u64, standing: &Standing) -> (Self, Caller) {
        let mut dice = Dice { rng: Xoshiro256PlusPlus::seed_from_u64(number), standing };
        let caller = dice.caller();
        (dice.operation(), caller)
    }

    /// Whether what watches are told depends on how far they are when it happens.
    pub(crate) fn needs_quiet_watches(&self) -> bool {
        matches!(self, Self::Compact(_) | Self::WatchCancel(_) | Self::WatchProgress)
    }

    /// Whether it may be of those that etcd takes or dies of, where it should refuse.
    pub(crate) fn may_harm_etcd(&self) -> bool {
        match self {
            Self::Txn(_) => true,
            Self::Range(range) => has_unknown_sort(range),
            _ => false,
        }
    }
}

struct Dice<'a> {
    rng: Xoshiro256PlusPlus,
    standing: &'a Standing,
}

impl Draw for Dice<'_> {
    fn below(&mut self, end: u32) -> u32 {
        self.rng.random_range(0..end)
    }

    fn key(&mut self) -> Bytes {
        match self.below(3) {
            _ if self.flaw() => Bytes::new(),
            0 => format!("n{:02}", self.below(NUMBERED_KEYS)).into(),
            _ => Bytes::from_static(KEYS.choose(&mut self.rng).unwrap()),
        }
    }

    /// Single keys, intervals and open ends; inverted intervals too, but where users have rights: etcd gives a right to one or
    /// not by how the tree of the other rights happens to lie.
    fn range_end(&mut self, key: &[u8]) -> Bytes {
        match self.below(20) {
            0..9 => Bytes::new(),
            9..15 => Some(self.key()).filter(|end| !self.standing.users || end[..] > *key).unwrap_or_default(),
            15..18 => Bytes::from_static(b"\0"),
            _ => types::KeyRange::prefix(key.to_vec()).to_wire().1,
        }
    }
}

impl Dice<'_> {
    /// Mostly root, without whom a lost right would never be given back.
    fn caller(&mut self) -> Caller {
        match self.below(8) {
            _ if !self.standing.users => Caller::Nobody,
            0 => Caller::Nobody,
            1..3 => Caller::One,
            3..5 => Caller::Two,
            _ => Caller::Root,
        }
    }

    fn operation(&mut self) -> Operation {
        if self.standing.users && self.one_in(8) {
            return Operation::About(self.about());
        }
        // Not with users: while an alarm is raised, etcd lets them do what they may not.
        if !self.standing.users && self.one_in(if self.standing.alarm.is_some() { 8 } else { 800 }) {
            return Operation::Alarm(self.alarm());
        }
        match self.below(200) {
            0..45 => Operation::Put(self.put()),
            45..105 => {
                let revision = self.revision();
                Operation::Range(pb::RangeRequest { revision, ..self.range() })
            }
            105..120 => Operation::DeleteRange(self.delete_range()),
            120..162 => Operation::Txn(self.txn(0)),
            162 => Operation::Compact(self.compact()),
            163..170 => Operation::LeaseGrant(self.lease_grant()),
            170..174 => Operation::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease() }),
            174..179 => Operation::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: self.lease(), keys: self.even() }),
            179..181 => Operation::LeaseLeases(pb::LeaseLeasesRequest {}),
            181..185 => Operation::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id: self.lease() }),
            185..193 if self.standing.watches.len() < WATCHES_MAX => Operation::WatchCreate(self.watch()),
            185..199 => Operation::WatchCancel(pb::WatchCancelRequest { watch_id: self.watch_id() }),
            _ if self.even() => Operation::WatchProgress,
            _ => Operation::HashKv(pb::HashKvRequest { revision: self.revision().max(0) }),
        }
    }

    fn one_in(&mut self, of: u32) -> bool {
        self.below(of) == 0
    }

    fn even(&mut self) -> bool {
        self.one_in(2)
    }

    fn flaw(&mut self) -> bool {
        self.one_in(FLAW)
    }

    fn value(&mut self) -> Bytes {
        match self.below(4) {
            0 => vec![b'v'; usize::try_from(self.below(40)).unwrap()].into(),
            _ => Bytes::from_static(VALUES.choose(&mut self.rng).unwrap()),
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        let (ignore_value, ignore_lease) = (self.one_in(12), self.one_in(12));
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && !self.flaw() { Bytes::new() } else { self.value() },
            lease: if (ignore_lease && !self.flaw()) || self.even() { 0 } else { self.lease() },
            prev_kv: self.even(),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete_range(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        pb::DeleteRangeRequest { range_end: self.range_end(&key), key, prev_kv: self.even() }
    }

    /// Now, past, compacted, future, and both ends of what can be read.
    fn revision(&mut self) -> i64 {
        let Standing { revision, compacted, .. } = *self.standing;
        match self.below(20) {
            0..9 => 0,
            9..14 => self.rng.random_range(compacted.max(1)..=revision),
            14 => revision,
            15 => revision + 1 + i64::from(self.below(4)),
            16 => compacted,
            17 => compacted - 1,
            18 => self.rng.random_range(1..=compacted.max(1)),
            _ => -1,
        }
    }

    /// A revision of a filter: within what has happened, or just beyond.
    fn filter(&mut self) -> i64 {
        if self.below(5) < 4 { 0 } else { self.rng.random_range(-1..=self.standing.revision + 2) }
    }

    /// At the current revision.
    fn range(&mut self) -> pb::RangeRequest {
        let key = self.key();
        pb::RangeRequest {
            range_end: self.range_end(&key),
            key,
            limit: if self.even() { 0 } else { self.rng.random_range(-1..8) },
            sort_order: if self.flaw() { 7 } else { self.rng.random_range(0..3) },
            sort_target: if self.flaw() { 9 } else { self.rng.random_range(0..5) },
            serializable: self.one_in(4),
            keys_only: self.one_in(6),
            count_only: self.one_in(8),
            min_mod_revision: self.filter(),
            max_mod_revision: self.filter(),
            min_create_revision: self.filter(),
            max_create_revision: self.filter(),
            revision: 0,
        }
    }

    fn txn(&mut self, depth: usize) -> pb::TxnRequest {
        let compares = if self.flaw() && self.flaw() { TXN_OPS_MAX + 1 } else { self.below(3).try_into().unwrap() };
        pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.branch(depth),
            failure: self.branch(depth),
        }
    }

    fn branch(&mut self, depth: usize) -> Vec<pb::RequestOp> {
        let count = if self.flaw() && self.flaw() { TXN_OPS_MAX } else { self.below(4).try_into().unwrap() };
        (0..count).map(|_| pb::RequestOp { request: self.request_op(depth) }).collect()
    }

    fn request_op(&mut self, depth: usize) -> Option<request_op::Request> {
        Some(match self.below(12) {
            _ if self.flaw() => return None,
            0..3 => {
                let revision = if self.one_in(10) { self.revision() } else { 0 };
                request_op::Request::RequestRange(pb::RangeRequest { revision, ..self.range() })
            }
            3..8 => request_op::Request::RequestPut(self.put()),
            8..10 => request_op::Request::RequestDeleteRange(self.delete_range()),
            _ if depth < 3 => request_op::Request::RequestTxn(self.txn(depth + 1)),
            _ => request_op::Request::RequestPut(self.put()),
        })
    }

    fn compare(&mut self) -> pb::Compare {
        let key = self.key();
        let target = self.rng.random_range(0..5);
        // Now and then the field that is compared is not the one that is given.
        let given = if self.one_in(12) { self.rng.random_range(0..6) } else { target };
        pb::Compare {
            range_end: if self.one_in(3) { self.range_end(&key) } else { Bytes::new() },
            key,
            result: if self.flaw() { 9 } else { self.rng.random_range(0..4) },
            target: if self.flaw() { 9 } else { target },
            target_union: match given {
                0 => Some(TargetUnion::Version(self.rng.random_range(-1..4))),
                1 => Some(TargetUnion::CreateRevision(self.filter())),
                2 => Some(TargetUnion::ModRevision(self.filter())),
                3 => Some(TargetUnion::Value(self.value())),
                4 => Some(TargetUnion::Lease(self.rng.random_range(0..=LEASES))),
                _ => None,
            },
        }
    }

    fn compact(&mut self) -> pb::CompactionRequest {
        let Standing { revision, compacted, .. } = *self.standing;
        let at = match self.below(8) {
            0 => revision,
            1 => revision + 1,
            2 => self.rng.random_range(-1..=compacted.max(0)),
            _ => self.rng.random_range(compacted.max(0)..=revision),
        };
        pb::CompactionRequest { revision: at, physical: self.even() }
    }

    fn lease(&mut self) -> i64 {
        match self.below(40) {
            0 => 0,
            1 => -5,
            2 => 777,
            _ => self.rng.random_range(1..=LEASES),
        }
    }

    fn lease_grant(&mut self) -> pb::LeaseGrantRequest {
        let id = self.lease();
        let ttl = if self.flaw() { 9_000_000_001 } else { LEASE_STEP * (20 + id % 100) };
        pb::LeaseGrantRequest { ttl, id }
    }

    fn alarm(&mut self) -> pb::AlarmRequest {
        use pb::alarm_request::AlarmAction;
        let action = match self.below(6) {
            0 => AlarmAction::Get,
            1..5 if self.standing.alarm.is_some() => AlarmAction::Deactivate,
            _ => AlarmAction::Activate,
        };
        let any = self.rng.random_range(0..3);
        let alarm = self.standing.alarm.filter(|_| action == AlarmAction::Activate).unwrap_or(any);
        // Of one member, whatever its id.
        pb::AlarmRequest { action: action.into(), member_id: 1, alarm }
    }

    fn watch_id(&mut self) -> i64 {
        match self.standing.watches.choose(&mut self.rng) {
            Some(&id) if !self.flaw() => id,
            _ => self.rng.random_range(-2..50),
        }
    }

    fn watch(&mut self) -> pb::WatchCreateRequest {
        let Standing { revision, compacted, .. } = *self.standing;
        let key = self.key();
        pb::WatchCreateRequest {
            range_end: self.range_end(&key),
            key,
            start_revision: match self.below(16) {
                0..6 => 0,
                6..12 => self.rng.random_range(compacted.max(0) + 1..=revision + 1),
                12 => revision + i64::from(self.below(6)),
                13 => compacted,
                14 => compacted - 1,
                _ => -1,
            },
            progress_notify: self.one_in(3),
            filters: (0..2).filter(|_| self.one_in(4)).collect(),
            prev_kv: self.even(),
            watch_id: if self.even() { 0 } else { self.rng.random_range(0..30) },
            fragment: self.one_in(3),
        }
    }
}
