//! What a version and a step of history are on disk.
//!
//! Owns: the bytes of the values in the key space and in history.
//!
//! - A version holds all that `HashKV` and a watch need but its key and revision, which are in its row's key.
//! - A step of history names the version that it superseded, so that a sweep need look nowhere else.

use bytes::Bytes;
use types::{LeaseId, Revision};

use super::{HISTORY, KEYS, corrupt};
use crate::{KeyValue, StoreError, varint};

pub(crate) const HISTORY_KEY_BYTES: usize = 12;

const TOMBSTONE: u8 = 0;
const PUT: u8 = 1;
const PUT_WITH_LEASE: u8 = 2;

const DELETED: u8 = 1;
const SUPERSEDES: u8 = 2;

/// A place in history: the `place`-th write of a revision, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Point {
    pub(crate) revision: Revision,
    pub(crate) place: u32,
}

/// What a put knows beside key, value and revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) place: u32,
    pub(crate) created: Revision,
    pub(crate) version: i64,
    pub(crate) lease: Option<LeaseId>,
}

impl Meta {
    pub(crate) fn key_value(self, key: Bytes, value: Bytes, modified: Revision) -> KeyValue {
        let Self { created, version, lease, .. } = self;
        KeyValue { key, value, create_revision: created, mod_revision: modified, version, lease }
    }
}

/// One version of a key, in the key space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    Put(Meta, &'a [u8]),
    Tombstone,
}

impl<'a> Row<'a> {
    pub(crate) fn encode(self) -> Vec<u8> {
        let Self::Put(meta, value) = self else { return vec![TOMBSTONE] };
        let mut out = Vec::with_capacity(value.len() + 24);
        out.push(if meta.lease.is_some() { PUT_WITH_LEASE } else { PUT });
        varint::put(&mut out, u64::from(meta.place));
        varint::put(&mut out, meta.created.get().cast_unsigned());
        varint::put(&mut out, meta.version.cast_unsigned());
        if let Some(lease) = meta.lease {
            out.extend(lease.get().to_be_bytes());
        }
        out.extend_from_slice(value);
        out
    }

    pub(crate) fn decode(row: &'a [u8]) -> Result<Self, StoreError> {
        Self::read(row).ok_or_else(|| corrupt(KEYS, "a version starts with its metadata"))
    }

    fn read(row: &'a [u8]) -> Option<Self> {
        let (&kind, mut rest) = row.split_first()?;
        if kind == TOMBSTONE {
            return rest.is_empty().then_some(Self::Tombstone);
        }
        let place = varint::take(&mut rest)?.try_into().ok()?;
        let created = Revision::new(varint::take(&mut rest)?.cast_signed())?;
        let version = varint::take(&mut rest)?.cast_signed();
        let lease = match kind {
            PUT => None,
            PUT_WITH_LEASE => {
                let (lease, value) = rest.split_first_chunk()?;
                rest = value;
                Some(LeaseId::new(i64::from_be_bytes(*lease))?)
            }
            _ => return None,
        };
        Some(Self::Put(Meta { place, created, version, lease }, rest))
    }
}

/// One step of history: a key was put or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) deleted: bool,
    /// The put that it replaced; none if the key did not exist.
    pub(crate) superseded: Option<Point>,
}

impl<'a> Written<'a> {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.key.len() + 12);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(flag(self.deleted, DELETED) | flag(self.superseded.is_some(), SUPERSEDES));
        if let Some(point) = self.superseded {
            varint::put(&mut out, point.revision.get().cast_unsigned());
            varint::put(&mut out, u64::from(point.place));
        }
        out.extend_from_slice(self.key);
        out
    }

    pub(crate) fn decode(row: &'a [u8]) -> Result<Self, StoreError> {
        Self::read(row).ok_or_else(|| corrupt(HISTORY, "a step names its key"))
    }

    fn read(row: &'a [u8]) -> Option<Self> {
        let (&flags, mut key) = row.split_first()?;
        if flags & !(DELETED | SUPERSEDES) != 0 {
            return None;
        }
        let superseded = if flags & SUPERSEDES == 0 {
            None
        } else {
            let revision = Revision::new(varint::take(&mut key)?.cast_signed())?;
            Some(Point { revision, place: varint::take(&mut key)?.try_into().ok()? })
        };
        Some(Self { key, deleted: flags & DELETED != 0, superseded })
    }
}

pub(crate) fn history_key(point: Point) -> [u8; HISTORY_KEY_BYTES] {
    let mut key = [0; HISTORY_KEY_BYTES];
    key[..8].copy_from_slice(&point.revision.get().to_be_bytes());
    key[8..].copy_from_slice(&point.place.to_be_bytes());
    key
}

pub(crate) fn history_point(key: &[u8]) -> Result<Point, StoreError> {
    let read = || {
        let (revision, place) = key.split_first_chunk()?;
        let revision = Revision::new(i64::from_be_bytes(*revision))?;
        Some(Point { revision, place: u32::from_be_bytes(place.try_into().ok()?) })
    };
    read().ok_or_else(|| corrupt(HISTORY, "a step is named by its revision and place"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn revision() -> impl Strategy<Value = Revision> {
        (1..=i64::MAX).prop_map(|value| Revision::new(value).expect("positive"))
    }

    fn point() -> impl Strategy<Value = Point> {
        (revision(), any::<u32>()).prop_map(|(revision, place)| Point { revision, place })
    }

    proptest! {
        #[test]
        fn a_version_is_read_as_it_was_written(
            place: u32, created in revision(), version in 1..=i64::MAX, lease: i64, value: Vec<u8>,
        ) {
            let row = Row::Put(Meta { place, created, version, lease: LeaseId::new(lease) }, &value);
            let bytes = row.encode();
            prop_assert_eq!(Row::decode(&bytes).expect("well formed"), row);
        }

        #[test]
        fn a_step_is_read_as_it_was_written(
            at in point(), key: Vec<u8>, deleted: bool, superseded in proptest::option::of(point()),
        ) {
            let written = Written { key: &key, deleted, superseded };
            let bytes = written.encode();
            prop_assert_eq!(Written::decode(&bytes).expect("well formed"), written);
            prop_assert_eq!(history_point(&history_key(at)).expect("well formed"), at);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (Row::decode(&bytes).is_ok(), Written::decode(&bytes).is_ok(), history_point(&bytes).is_ok());
        }
    }

    #[test]
    fn a_tombstone_is_one_byte() {
        assert_eq!(Row::Tombstone.encode(), [TOMBSTONE]);
        assert_eq!(Row::decode(&[TOMBSTONE]).expect("well formed"), Row::Tombstone);
    }
}
