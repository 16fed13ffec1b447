//! Commands over few keys, few leases and small revisions, so that they meet.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select};
use types::{KeyRange, Revision};

use super::{bytes, lease};
use crate::*;

/// Zero bytes and prefixes of one another: where escapes and bounds go wrong.
const KEYS: [&str; 7] = ["a", "a\0", "a\0b", "ab", "b", "b\u{1}", "c"];

fn key() -> impl Strategy<Value = Bytes> {
    select(KEYS.as_slice()).prop_map(bytes)
}

pub(crate) fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::One),
        2 => (key(), key()).prop_map(|(start, end)| KeyRange::Between(start, end)),
        1 => key().prop_map(KeyRange::AtLeast),
        1 => Just(KeyRange::all()),
    ]
}

fn put() -> impl Strategy<Value = Put> {
    let value = prop_oneof![
        1 => Just(PutValue::Keep),
        6 => select(["", "x", "y", "zz"].as_slice()).prop_map(|value| PutValue::Set(bytes(value))),
    ];
    let lease = prop_oneof![
        1 => Just(PutLease::Keep),
        3 => Just(PutLease::Set(None)),
        3 => (1..4_i64).prop_map(|id| PutLease::Set(Some(lease(id)))),
    ];
    (key(), value, lease, any::<bool>()).prop_map(|(key, value, lease, prev_kv)| Put { key, value, lease, prev_kv })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let bound = || prop_oneof![3 => Just(None), 1 => (1..30_i64).prop_map(Some)];
    (bound(), bound()).prop_map(|(min, max)| Bounds { min, max })
}

pub(crate) fn range() -> impl Strategy<Value = Range> {
    let by = select(
        [OrderBy::Key, OrderBy::Version, OrderBy::CreateRevision, OrderBy::ModRevision, OrderBy::Value].as_slice(),
    );
    let order =
        prop_oneof![Just(Order::default()), (by, any::<bool>()).prop_map(|(by, descending)| Order { by, descending }),];
    let show = select([Show::Whole, Show::Whole, Show::KeysOnly, Show::CountOnly].as_slice());
    let revision = option::of((1..40_i64).prop_map(|value| Revision::new(value).expect("positive")));
    let limit = option::of(1..5_u64).prop_map(|limit| limit.and_then(NonZeroU64::new));
    (keys(), revision, limit, order, show, bounds(), bounds()).prop_map(
        |(keys, revision, limit, order, show, mod_revisions, create_revisions)| Range {
            keys,
            revision,
            limit,
            order,
            show,
            mod_revisions,
            create_revisions,
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let result =
        select([CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual].as_slice());
    let target = prop_oneof![
        (0..4_i64).prop_map(CompareTarget::Version),
        (0..20_i64).prop_map(CompareTarget::CreateRevision),
        (0..20_i64).prop_map(CompareTarget::ModRevision),
        select(["", "x", "y"].as_slice()).prop_map(|value| CompareTarget::Value(bytes(value))),
        (0..4_i64).prop_map(CompareTarget::Lease),
    ];
    (keys(), result, target).prop_map(|(keys, result, target)| Compare { keys, result, target })
}

fn txn() -> impl Strategy<Value = Txn> {
    let simple = prop_oneof![range().prop_map(Op::Range), put().prop_map(Op::Put), delete().prop_map(Op::DeleteRange),];
    let op = simple.prop_recursive(2, 6, 2, |op| branches(op).prop_map(Op::Txn));
    branches(op)
}

fn branches(op: impl Strategy<Value = Op> + Clone) -> impl Strategy<Value = Txn> {
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..3)).prop_map(|(compares, success, failure)| Txn {
        compares,
        success,
        failure,
    })
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => put().prop_map(Command::Put),
        3 => delete().prop_map(Command::DeleteRange),
        5 => txn().prop_map(Command::Txn),
        1 => (-1..40_i64).prop_map(|revision| Command::Compact(Compact { revision })),
        3 => (1..4_i64, 1..100_u64).prop_map(|(id, ttl)| {
            Command::LeaseGrant(LeaseGrant { id: lease(id), ttl: Duration::from_secs(ttl) })
        }),
        1 => vec(1..4_i64, 1..3).prop_map(|ids| {
            Command::LeaseRevoke(LeaseRevoke { ids: ids.into_iter().map(lease).collect() })
        }),
        1 => vec((1..5_i64, option::of(0..120_u64)), 0..4).prop_map(|remaining| {
            let seconds = |(id, left): (i64, Option<u64>)| (lease(id), left.map(Duration::from_secs));
            Command::LeaseCheckpoint(LeaseCheckpoint { remaining: remaining.into_iter().map(seconds).collect() })
        }),
    ]
}
