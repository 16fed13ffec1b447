//! How the store lies on the engine.
//!
//! Owns: the store's spaces, the order of their keys, and how each is read back.
//!
//! | space | key | value |
//! |---|---|---|
//! | keys | user key, escaped; revision, descending | metadata and value: see [`Row`] |
//! | history | revision; place in it | what was written, and which version that superseded: see [`Written`] |
//! | leases | lease | TTL, seconds; what was left of it at the last checkpoint, if less |
//! | attached | lease; user key | – |
//! | alarms | kind; member | – |
//! | endings | revision; lease | how far the keys of a lease that has ended are deleted: see [`Ending`] |
//! | members | member | name and addresses: see [`Member`](crate::Member) |
//! | meta | a name | the compaction that was applied; the one that is swept |
//!
//! Users and roles have a space of their own: see [`crate::auth`].
//!
//! - All versions of a key lie together, newest first: a read at any revision is one seek.
//! - A key has at most one version per revision.
//! - The store's revision is that of the last row of history, which no sweep ever takes, or of the compaction.

mod key;
mod row;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use engine::{Engine, Read, Space};
use types::{LeaseId, Revision};

pub(crate) use key::{
    REVISION_BYTES, bounds, end_of_versions, split_version, unescape, version_key, version_key_at, versions_of,
    versions_within,
};
pub(crate) use row::{Meta, Point, Row, Written, history_key, history_point};

use crate::{
    KeyValue, Lease, StoreError,
    auth::{End, KeySet},
    ending::Ending,
    varint,
};

pub(crate) const KEYS: Space = Space::new("store-keys");
pub(crate) const HISTORY: Space = Space::new("store-history");
pub(crate) const LEASES: Space = Space::new("store-leases");
pub(crate) const ATTACHED: Space = Space::new("store-attached");
pub(crate) const ALARMS: Space = Space::new("store-alarms");
pub(crate) const ENDINGS: Space = Space::new("store-endings");
pub(crate) const META: Space = Space::new("store-meta");

pub(crate) const COMPACTED_KEY: &[u8] = b"compacted";
pub(crate) const SWEPT_KEY: &[u8] = b"swept";

/// A compaction, by the wire's number; -1 is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Compacted(pub(crate) i64);

impl Compacted {
    pub(crate) const NONE: Self = Self(-1);

    /// The wire's number; `None` before the first.
    pub(crate) fn number(self) -> Option<i64> {
        (self != Self::NONE).then_some(self.0)
    }

    /// Whether it forgot this revision.
    pub(crate) fn forgot(self, revision: Revision) -> bool {
        revision.get() < self.0
    }
}

/// Says what is wrong with a row.
pub(crate) fn corrupt(space: Space, what: &'static str) -> StoreError {
    StoreError::Corrupt { space: space.name(), what }
}

/// The store's revision. It is the last transaction's but in a store that was loaded from elsewhere: that may have been
/// compacted at a revision whose own writes the compaction took.
pub(crate) fn revision(engine: &impl Read) -> Result<Revision, StoreError> {
    let compacted = Revision::new(compacted(engine)?.0);
    let mut cursor = engine.cursor(HISTORY)?;
    cursor.seek_back(&[u8::MAX; row::HISTORY_KEY_BYTES]);
    let last = cursor.entry().map(|(key, _)| history_point(key)).transpose()?;
    cursor.status()?;
    let ending = endings(engine)?.pop().map(|ending| ending.revision);
    Ok(last.map(|point| point.revision).max(compacted).max(ending).unwrap_or(Revision::FIRST))
}

/// The compaction that was applied last.
pub(crate) fn compacted(engine: &impl Read) -> Result<Compacted, StoreError> {
    meta(engine, COMPACTED_KEY)
}

/// The compaction whose dead rows are gone.
pub(crate) fn swept(engine: &impl Read) -> Result<Compacted, StoreError> {
    meta(engine, SWEPT_KEY)
}

fn meta(engine: &impl Read, name: &[u8]) -> Result<Compacted, StoreError> {
    let Some(value) = engine.get(META, name)? else { return Ok(Compacted::NONE) };
    let value = value[..].try_into().map_err(|_| corrupt(META, "a revision is 8 bytes"))?;
    Ok(Compacted(i64::from_be_bytes(value)))
}

/// The leases that have ended and whose keys are not all deleted, by revision.
pub(crate) fn endings(engine: &impl Read) -> Result<Vec<Ending>, StoreError> {
    let mut endings = Vec::new();
    engine.walk(ENDINGS, |key, value| {
        let ending = ending(key, value);
        endings.push(ending.ok_or_else(|| corrupt(ENDINGS, "an ending has a revision, a lease and a place"))?);
        Ok::<_, StoreError>(())
    })?;
    Ok(endings)
}

fn ending(key: &[u8], mut value: &[u8]) -> Option<Ending> {
    let (revision, lease) = key.split_first_chunk()?;
    let place = varint::take(&mut value)?.try_into().ok()?;
    Some(Ending {
        revision: Revision::new(i64::from_be_bytes(*revision))?,
        lease: LeaseId::new(i64::from_be_bytes(lease.try_into().ok()?))?,
        place,
        from: Bytes::copy_from_slice(value),
    })
}

pub(crate) fn ending_key(ending: &Ending) -> Vec<u8> {
    [ending.revision.get().to_be_bytes(), ending.lease.get().to_be_bytes()].concat()
}

pub(crate) fn ending_value(ending: &Ending) -> Vec<u8> {
    let mut value = Vec::new();
    varint::put(&mut value, u64::from(ending.place));
    value.extend_from_slice(&ending.from);
    value
}

/// All leases on the engine.
pub(crate) fn leases(engine: &impl Read) -> Result<BTreeMap<LeaseId, Lease>, StoreError> {
    let mut leases = BTreeMap::new();
    engine.walk(LEASES, |key, mut value| {
        let id = key.try_into().ok().and_then(|id| LeaseId::new(i64::from_be_bytes(id)));
        let id = id.ok_or_else(|| corrupt(LEASES, "a lease is named by 8 bytes, not all 0"))?;
        let ttl =
            varint::take(&mut value).map(Duration::from_secs).ok_or_else(|| corrupt(LEASES, "a lease has a TTL"))?;
        let remaining = varint::take(&mut value).map(Duration::from_secs);
        leases.insert(id, Lease { id, ttl, remaining });
        Ok::<_, StoreError>(())
    })?;
    Ok(leases)
}

pub(crate) fn lease_key(id: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&id.get().to_be_bytes())
}

pub(crate) fn lease_value(lease: &Lease) -> Vec<u8> {
    let mut value = Vec::new();
    varint::put(&mut value, lease.ttl.as_secs());
    if let Some(remaining) = lease.remaining {
        varint::put(&mut value, remaining.as_secs());
    }
    value
}

pub(crate) fn attached_key(id: LeaseId, key: &[u8]) -> Vec<u8> {
    [&id.get().to_be_bytes(), key].concat()
}

/// The keys attached to a lease, in key order.
pub(crate) fn attached(engine: &impl Read, id: LeaseId) -> Result<Vec<Bytes>, StoreError> {
    attached_from(engine, id, &[], usize::MAX)
}

/// The first keys attached to a lease of those that are not before `from`, in key order.
pub(crate) fn attached_from(
    engine: &impl Read,
    id: LeaseId,
    from: &[u8],
    max: usize,
) -> Result<Vec<Bytes>, StoreError> {
    let prefix = id.get().to_be_bytes();
    let mut keys = Vec::new();
    let mut cursor = engine.cursor(ATTACHED)?;
    cursor.seek(&attached_key(id, from));
    while keys.len() < max
        && let Some(key) = cursor.entry().and_then(|(key, _)| key.strip_prefix(&prefix))
    {
        keys.push(Bytes::copy_from_slice(key));
        cursor.next();
    }
    cursor.status()?;
    Ok(keys)
}

/// The newest version of a key before a revision; `None` if there is none, it is swept, or was a delete.
pub(crate) fn version_before(engine: &Engine, key: &Bytes, before: Revision) -> Result<Option<KeyValue>, StoreError> {
    let Some(at) = before.previous() else { return Ok(None) };
    let versions = versions_of(key);
    let mut cursor = engine.cursor(KEYS)?;
    cursor.seek(&version_key(key, at));
    let newest = cursor.entry().filter(|(row_key, _)| row_key.starts_with(&versions));
    let Some((row_key, row)) = newest else { return Ok(cursor.status().map(|()| None)?) };
    let (_, modified) = split_version(row_key)?;
    let Row::Put(meta, value) = Row::decode(row)? else { return Ok(None) };
    Ok(Some(meta.key_value(key.clone(), Bytes::copy_from_slice(value), modified)))
}

/// Whether the keys attached to a lease are all in a set, but for those that are `detached`.
///
/// It costs a seek for each gap of the set, not a step for each key.
pub(crate) fn attached_within(
    engine: &Engine,
    id: LeaseId,
    set: &KeySet,
    detached: impl Fn(&[u8]) -> bool,
) -> Result<bool, StoreError> {
    let prefix = id.get().to_be_bytes();
    let mut cursor = engine.cursor(ATTACHED)?;
    cursor.seek(&prefix);
    while let Some(key) = cursor.entry().and_then(|(key, _)| key.strip_prefix(&prefix)) {
        match set.end_of(key) {
            Some(End::Open) => return Ok(true),
            Some(End::Before(end)) => cursor.seek(&attached_key(id, end)),
            None if detached(key) => cursor.next(),
            None => return Ok(false),
        }
    }
    cursor.status()?;
    Ok(true)
}

/// The version of a key that a revision wrote; `None` if it wrote none or that is swept, or was a delete.
pub(crate) fn version(engine: &Engine, key: &Bytes, revision: Revision) -> Result<Option<KeyValue>, StoreError> {
    let Some(row) = engine.get(KEYS, &version_key(key, revision))? else { return Ok(None) };
    let Row::Put(meta, value) = Row::decode(&row)? else { return Ok(None) };
    Ok(Some(meta.key_value(key.clone(), row.slice_ref(value), revision)))
}
