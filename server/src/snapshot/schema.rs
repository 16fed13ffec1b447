//! What is where in etcd's file.
//!
//! Source: etcd `server/storage/schema`, `server/storage/mvcc/revision.go`, `server/lease/leasepb`.

use std::time::Duration;

use bytes::Bytes;
use engine::Space;
use prost::Message;
use proto::{
    etcdserverpb::{AlarmMember, AlarmType},
    mvccpb,
};
use store::{Alarm, AlarmKind, Change, KeyValue, Lease, Step};
use types::{LeaseId, Release, Revision};

use crate::wire;

/// Keys with their history, by revision.
pub(crate) const KEY: &str = "key";
/// Leases, by their id.
pub(crate) const LEASE: &str = "lease";
/// How far the file is: see [`meta`].
pub(crate) const META: &str = "meta";
/// Members, by their id, in JSON.
pub(crate) const MEMBERS: &str = "members";
/// Alarms that are raised; each is a key without a value.
pub(crate) const ALARM: &str = "alarm";
/// What etcd makes sure to find, and what it finds in it of ours: nothing yet.
pub(crate) const EMPTY: [&str; 2] = ["cluster", "members_removed"];

/// Keys of [`META`].
pub(crate) mod meta {
    /// The index of the last log entry in the file, 8 bytes.
    pub(in super::super) const INDEX: &str = "consistent_index";
    /// Its term, 8 bytes.
    pub(in super::super) const TERM: &str = "term";
    /// Who voted, in JSON.
    pub(in super::super) const VOTERS: &str = "confState";
    /// The oldest release of etcd that understands the file.
    pub(in super::super) const STORAGE_VERSION: &str = "storageVersion";
    /// The cluster's version: the release of meshstore that understands the file, as a number of 4 bytes. Etcd passes it over.
    pub(in super::super) const MESHSTORE: &str = "meshstoreVersion";
    /// The last compaction, as a revision's key.
    pub(in super::super) const SCHEDULED: &str = "scheduledCompactRev";
    /// The last compaction that has left no dead key behind, as a revision's key.
    pub(in super::super) const FINISHED: &str = "finishedCompactRev";
}

/// What every bucket of ours is called, before the name of the space that it holds row by row.
const OURS: &str = "meshstore.";

/// The bucket of a space that etcd knows nothing of.
pub(crate) fn ours(space: Space) -> String {
    format!("{OURS}{}", space.name())
}

pub(crate) fn is_ours(bucket: &[u8]) -> bool {
    bucket.starts_with(OURS.as_bytes())
}

const REVISION_BYTES: usize = 17;
const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';

/// The key of a revision's write.
pub(crate) fn revision_key(revision: i64, place: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(REVISION_BYTES + 1);
    key.extend(revision.to_be_bytes());
    key.push(SEPARATOR);
    key.extend(u64::from(place).to_be_bytes());
    key
}

/// What a revision's key says: the revision, the place in it, and whether it deleted.
pub(crate) fn read_revision_key(key: &[u8]) -> Option<(i64, u64, bool)> {
    let (revision, rest) = key.split_first_chunk()?;
    let (&separator, rest) = rest.split_first()?;
    let (place, mark) = rest.split_first_chunk()?;
    let (revision, place) = (i64::from_be_bytes(*revision), u64::from_be_bytes(*place));
    let is_form = separator == SEPARATOR && mark.len() <= 1 && revision >= 0;
    is_form.then_some((revision, place, mark == [TOMBSTONE]))
}

/// A write as an entry of [`KEY`].
pub(crate) fn entry(step: Step) -> (Vec<u8>, Vec<u8>) {
    let mut key = revision_key(step.revision().get(), step.place);
    let value = match step.change {
        Change::Put(kv) => wire::key_value(kv),
        Change::Delete { key: deleted, .. } => {
            key.push(TOMBSTONE);
            mvccpb::KeyValue { key: deleted, ..Default::default() }
        }
    };
    (key, value.encode_to_vec())
}

/// What an entry of [`KEY`] says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A write.
    Step(Step),
    /// Only that there was such a revision: `etcdutl snapshot restore --bump-revision` leaves one.
    Filler,
}

/// Reads an entry of [`KEY`]; says what is wrong with it.
pub(crate) fn read_entry(key: &[u8], value: &[u8]) -> Result<Entry, &'static str> {
    let (revision, place, deleted) = read_revision_key(key).ok_or("a key is no revision")?;
    let kv = mvccpb::KeyValue::decode(value).map_err(|_| "a value is no key-value pair")?;
    if kv.key.is_empty() {
        return Ok(Entry::Filler);
    }
    let revision = Revision::new(revision).ok_or("a key is written before the first revision")?;
    let place = u32::try_from(place).map_err(|_| "a revision writes more keys than fit into one")?;
    let change = if deleted { Change::Delete { key: kv.key, revision } } else { put(kv, revision)? };
    Ok(Entry::Step(Step { place, change }))
}

fn put(kv: mvccpb::KeyValue, revision: Revision) -> Result<Change, &'static str> {
    if kv.mod_revision != revision.get() {
        return Err("a key says to be written by another revision");
    }
    Ok(Change::Put(KeyValue {
        create_revision: Revision::new(kv.create_revision).ok_or("a key is created before the first revision")?,
        key: kv.key,
        value: kv.value,
        mod_revision: revision,
        version: kv.version,
        lease: LeaseId::new(kv.lease),
    }))
}

/// A lease, as etcd keeps it.
#[derive(Clone, PartialEq, Eq, Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    /// Seconds.
    #[prost(int64, tag = "2")]
    ttl: i64,
    /// Seconds that were left at the last checkpoint; 0 is all of them.
    #[prost(int64, tag = "3")]
    remaining: i64,
}

/// A lease as an entry of [`LEASE`].
pub(crate) fn lease_entry(lease: Lease) -> ([u8; 8], Vec<u8>) {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let (id, ttl, remaining) = (lease.id.get(), seconds(lease.ttl), lease.remaining.map_or(0, seconds));
    (id.to_be_bytes(), LeaseRecord { id, ttl, remaining }.encode_to_vec())
}

/// Reads an entry of [`LEASE`].
pub(crate) fn read_lease(key: &[u8], value: &[u8]) -> Option<Lease> {
    let record = LeaseRecord::decode(value).ok()?;
    if record.id.to_be_bytes() != key {
        return None;
    }
    let span = |seconds: i64| Some(Duration::from_secs(u64::try_from(seconds).ok()?));
    let (id, ttl, remaining) = (LeaseId::new(record.id)?, span(record.ttl)?, span(record.remaining)?);
    Some(Lease { id, ttl, remaining: Some(remaining).filter(|left| !left.is_zero() && *left < ttl) })
}

/// An alarm as a key of [`ALARM`].
pub(crate) fn alarm_key(alarm: Alarm) -> Vec<u8> {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    };
    AlarmMember { member_id: alarm.member, alarm: kind.into() }.encode_to_vec()
}

/// Reads a key of [`ALARM`].
pub(crate) fn read_alarm(key: &[u8]) -> Option<Alarm> {
    let alarm = AlarmMember::decode(key).ok()?;
    let kind = match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::Nospace) => AlarmKind::NoSpace,
        Ok(AlarmType::Corrupt) => AlarmKind::Corrupt,
        Ok(AlarmType::None) | Err(_) => return None,
    };
    Some(Alarm { kind, member: alarm.member_id })
}

/// What the bucket [`META`] says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) scheduled: Option<i64>,
    pub(crate) finished: Option<i64>,
    pub(crate) storage_version: String,
    /// The cluster's version; the first release's files and etcd's have none.
    pub(crate) release: Option<Release>,
}

impl Meta {
    /// Takes in an entry; others than these are for etcd alone.
    pub(crate) fn read(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let compaction =
            || read_revision_key(value).map(|(revision, ..)| Some(revision)).ok_or("a compaction is no revision");
        match std::str::from_utf8(key) {
            Ok(meta::SCHEDULED) => self.scheduled = compaction()?,
            Ok(meta::FINISHED) => self.finished = compaction()?,
            Ok(meta::MESHSTORE) => {
                let number = value.try_into().map_err(|_| "the cluster's version is 4 bytes")?;
                self.release = Some(Release::from_number(u32::from_be_bytes(number)));
            }
            Ok(meta::STORAGE_VERSION) => self.storage_version = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
        Ok(())
    }

    /// The last compaction: one that is not finished counts from when it was asked for.
    pub(crate) fn compacted(&self) -> Option<i64> {
        self.scheduled.max(self.finished)
    }
}

/// A key for what is copied from a file.
pub(crate) fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
