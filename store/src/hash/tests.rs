//! The hash against etcd's own rules, followed step by step over all that ever happened.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    Command, Limits,
    tests::{Rig, bytes, compact, delete, grant, one, put, put_with_lease, revision, strategy::command},
};

/// Everything that ever happened: a key's put with its bytes in the bucket, or its delete.
type Log = BTreeMap<Point, (Vec<u8>, bool, Vec<u8>)>;

/// What a store that sweeps nothing has kept.
fn log(rig: &mut Rig) -> Log {
    let versions: BTreeMap<_, _> = rig.rows(KEYS).into_iter().collect();
    let change = |(key, row): (Vec<u8>, Vec<u8>)| {
        let point = layout::history_point(&key).expect("well formed");
        let Written { key, deleted, .. } = Written::decode(&row).expect("well formed");
        let bucket = match Row::decode(&versions[&layout::version_key(key, point.revision)]).expect("well formed") {
            Row::Put(meta, value) => etcd::put(point, key, meta, value),
            Row::Tombstone => etcd::deleted(point, key),
        };
        (point, (key.to_vec(), deleted, bucket))
    };
    rig.rows(layout::HISTORY).into_iter().map(change).collect()
}

/// For each key its last change up to a revision.
fn last_changes(log: &Log, at: i64) -> BTreeSet<Point> {
    let mut last = BTreeMap::new();
    for (point, (key, ..)) in log.iter().filter(|(point, _)| point.revision.get() <= at) {
        last.insert(key, *point);
    }
    last.into_values().collect()
}

fn as_etcd_does(log: &Log, at: i64, compacted: i64) -> u32 {
    let deleted = |point: &Point| log[point].1;
    let left_by_compaction: BTreeSet<Point> = last_changes(log, compacted)
        .into_iter()
        .filter(|point| !deleted(point) || point.revision.get() == compacted)
        .collect();
    let keep: BTreeSet<Point> = last_changes(log, at).into_iter().filter(|point| !deleted(point)).collect();
    let mut hash = crc32c::crc32c(b"key");
    for (point, (_, deleted, bucket)) in log {
        let main = point.revision.get();
        let is_there = main > compacted || left_by_compaction.contains(point);
        let is_skipped =
            (main <= compacted && !keep.is_empty() && !keep.contains(point)) || (main == compacted && *deleted);
        if is_there && main <= at && !is_skipped {
            hash = crc32c::crc32c_append(hash, bucket);
        }
    }
    hash
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn it_is_etcds_whatever_was_compacted_and_swept(commands in vec(command(), 1..60), swept in vec(any::<bool>(), 60)) {
        let limits = Limits { sweep_rows: 3, ..Limits::default() };
        let (mut rig, mut unswept) = (Rig::with_limits(limits), Rig::in_memory());
        for (command, sweep) in commands.into_iter().zip(swept) {
            unswept.run(command.clone()).ok();
            rig.run(command).ok();
            if sweep {
                rig.sweep();
            }
        }
        let (view, log) = (rig.view(), log(&mut unswept));
        let compacted = view.compacted().map_or(-1, Revision::get);
        for at in compacted.max(1)..=view.revision().get() {
            let hash = view.hash_keys(Some(revision(at))).expect("readable");
            prop_assert_eq!(hash.hash, as_etcd_does(&log, at, compacted), "at {}, compacted {}", at, compacted);
        }
    }
}

/// What etcd 3.5.30 said after the same commands, and under which compaction.
#[test]
fn it_is_what_a_real_etcd_said() {
    let rig = Rig::in_memory();
    let empty = rig.view().hash_keys(None).expect("readable");
    assert_eq!((empty.hash, empty.compacted, empty.hashed), (1_084_519_789, -1, revision(1)));
    assert_eq!(crc32c::crc32c(b"key"), 1_084_519_789);
}

#[test]
fn a_long_value_hashes_as_a_short_one_does() {
    let value = "x".repeat(3 * PIECE_BYTES_MAX);
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("a", "1"), put("long", &value), put("b", "2")]);
    let log = log(&mut rig);
    assert_eq!(rig.view().hash_keys(None).expect("readable").hash, as_etcd_does(&log, 4, -1));
}

#[test]
fn more_changes_than_a_batch_holds_are_all_in_it() {
    let mut rig = Rig::in_memory();
    let puts = STEPS_PER_BATCH + 7;
    rig.apply((0..puts).map(|i| put(&format!("{:04}", (i * 7919) % 5000), "v")).collect());
    let log = log(&mut rig);
    let at = rig.view().revision();
    assert_eq!(rig.view().hash_keys(None).expect("readable").hash, as_etcd_does(&log, at.get(), -1));
}

#[test]
fn the_whole_hash_tells_leases_apart() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("a", "1")]);
    let before = rig.view().hash_all().expect("readable");
    rig.apply(vec![grant(7)]);
    let after = rig.view().hash_all().expect("readable");
    assert_eq!(before.revision, after.revision);
    assert_ne!(before.hash, after.hash);
}

#[test]
fn revisions_that_cannot_be_read_cannot_be_hashed() {
    let mut rig = Rig::in_memory();
    let commands: Vec<Command> = vec![put("a", "1"), grant(1), put_with_lease("b", 1), delete(one("a")), compact(3)];
    rig.apply(commands);
    let view = rig.view();
    assert!(matches!(view.hash_keys(Some(revision(2))), Err(Failure::Refused(crate::Refusal::Compacted { .. }))));
    assert!(matches!(view.hash_keys(Some(revision(5))), Err(Failure::Refused(crate::Refusal::FutureRevision { .. }))));
    assert_eq!(view.hash_keys(Some(revision(3))).expect("readable").compacted, 3);
    assert!(view.range(&crate::Range::new(KeyRange::One(bytes("b")))).is_ok());
}
