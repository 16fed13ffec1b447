//! Snapshots that nobody has saved.

use std::{collections::BTreeMap, fs::File, path::Path};

use bbolt::Writer;
use bytes::{Buf, Bytes};
use ca::Ledger;
use engine::Engine;
use store::{Export, Limits, Range, Store};
use types::KeyRange;

use crate::snapshot::{
    fill,
    schema::{self, ALARM, KEY, LEASE, MEMBERS, META},
    snapshot_status,
    source::Source,
};

/// The buckets that an entry may be put into, by its first byte.
const BUCKETS: [&str; 9] = [KEY, LEASE, META, ALARM, MEMBERS, "auth", "authUsers", "authRoles", "cluster"];

type Buckets = BTreeMap<String, BTreeMap<Bytes, Bytes>>;

/// Restores a snapshot whose entries `bytes` are: one after another a byte for the bucket, two for the lengths of key and
/// value, and these. A store that is made of it opens, and all of it can be read.
///
/// # Panics
/// If not.
pub fn snapshot(bytes: &[u8]) {
    let mut buckets = Buckets::new();
    let mut rest = Bytes::copy_from_slice(bytes);
    while rest.remaining() >= 3 {
        let (bucket, key, value) = (rest.get_u8(), usize::from(rest.get_u8()), usize::from(rest.get_u8()));
        let name = match BUCKETS.get(usize::from(bucket) % (BUCKETS.len() + 1)) {
            Some(&name) => name.to_owned(),
            None => schema::ours(Ledger::SPACES[0]),
        };
        let (key, value) = (rest.split_to(key.min(rest.len())), rest.split_to(value.min(rest.len())));
        if !key.is_empty() {
            buckets.entry(name).or_default().insert(key, value);
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("snapshot");
    write(&buckets, &path);
    restored(&path);
}

fn write(buckets: &Buckets, path: &Path) {
    let mut writer = Writer::new(File::create_new(path).expect("a new file")).expect("a file");
    for (name, entries) in buckets {
        let mut bucket = writer.bucket(name.as_bytes()).expect("a bucket");
        for (key, value) in entries {
            bucket.put(key, value).expect("in order");
        }
        bucket.finish().expect("a bucket");
    }
    writer.finish().expect("a file");
}

fn restored(path: &Path) {
    // What is said of a file that is refused is of no interest here.
    let _status = snapshot_status(path);
    let source = Source::open(path, false, |_| {}).expect("it was just written");
    for bump in [None, Some(1_000)] {
        let engine = Engine::in_memory(&[Store::SPACES, Ledger::SPACES].concat());
        let Ok(loaded) = fill(&source, &engine, bump, |_| {}) else { continue };
        let (_store, view) = Store::open(engine.clone(), Limits::default()).expect("what was loaded opens");
        assert_eq!(view.revision(), loaded.revision);
        view.range(&Range::new(KeyRange::all())).expect("the present is read");
        view.hash_keys(None).expect("history is read");
        let pinned = engine.pin();
        let export = Export::new(&pinned).expect("it is saved again");
        assert_eq!(export.steps().expect("history is read").filter(Result::is_err).count(), 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};
    use store::{Change, KeyValue, Step};
    use types::{LeaseId, Revision};

    use super::*;

    fn entry(bucket: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
        let lengths = [key.len(), value.len()].map(|length| u8::try_from(length).expect("short"));
        [&[bucket], &lengths[..], key, value].concat()
    }

    /// A put, a put to the same key, a delete, a lease, a compaction, an alarm and what only etcd reads.
    fn sample() -> Vec<Vec<u8>> {
        let revision = |number| Revision::new(number).expect("positive");
        let put = |at, version| {
            let (key, value, lease) = ("k".into(), "v".into(), LeaseId::new(7));
            Change::Put(KeyValue {
                key,
                value,
                create_revision: revision(2),
                mod_revision: revision(at),
                version,
                lease,
            })
        };
        let changes = [put(2, 1), put(3, 2), Change::Delete { key: "k".into(), revision: revision(4) }];
        let steps = changes.map(|change| schema::entry(Step { place: 0, change }));
        let keys = steps.map(|(key, value)| entry(0, &key, &value));
        let ttl = std::time::Duration::from_mins(1);
        let lease = store::Lease { id: LeaseId::new(7).expect("not 0"), ttl, remaining: None };
        let (id, lease) = schema::lease_entry(lease);
        let compacted = schema::revision_key(2, 0);
        let others = [
            entry(1, &id, &lease),
            entry(2, b"scheduledCompactRev", &compacted),
            entry(2, b"finishedCompactRev", &compacted),
            entry(3, &schema::alarm_key(store::Alarm { kind: store::AlarmKind::NoSpace, member: 1 }), b""),
            entry(5, b"authEnabled", &[1]),
            entry(5, b"authRevision", &1_u64.to_be_bytes()),
            entry(6, b"root", b"\x0a\x04root\x12\x01p\x1a\x04root"),
            entry(7, b"root", b"\x0a\x04root"),
        ];
        keys.into_iter().chain(others).collect()
    }

    #[test]
    fn the_sample_is_restored() {
        snapshot(&sample().concat());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_entries_are_restored_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            snapshot(&bytes);
        }

        #[test]
        fn damaged_entries_are_restored_or_refused(
            damage in vec((any::<Index>(), prop_oneof![Just(0_u8), Just(1), Just(255), any::<u8>()]), 0..6),
        ) {
            let mut bytes = sample().concat();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            snapshot(&bytes);
        }
    }
}
