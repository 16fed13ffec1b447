//! Keys of the key space: a user key and a revision, ordered as both.
//!
//! Owns: the escape that keeps the order of user keys whatever bytes they hold.
//!
//! - A zero byte of the key becomes `00 FF`, and the key ends with `00 01`: no key's form is a prefix of another's,
//!   and they order as the keys do.
//! - The revision follows inverted, so that the newest version comes first.

use bytes::Bytes;
use types::{KeyRange, Revision};

use super::{KEYS, corrupt};
use crate::StoreError;

const ESCAPE: u8 = 0;
const ESCAPED_ZERO: u8 = 0xFF;
const END: u8 = 1;
pub(crate) const REVISION_BYTES: usize = 8;

/// What all versions of a key start with, and nothing else does.
pub(crate) fn versions_of(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 2 + REVISION_BYTES);
    let mut parts = key.split(|byte| *byte == ESCAPE);
    out.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        out.extend([ESCAPE, ESCAPED_ZERO]);
        out.extend_from_slice(part);
    }
    out.extend([ESCAPE, END]);
    out
}

/// One version of a key.
pub(crate) fn version_key(key: &[u8], revision: Revision) -> Vec<u8> {
    let mut out = versions_of(key);
    out.extend(descending(revision));
    out
}

/// What all versions of a key start with, of the key of one of them.
pub(crate) fn versions_within(version_key: &[u8]) -> &[u8] {
    &version_key[..version_key.len() - REVISION_BYTES]
}

/// Rewrites `out` to where the versions of a key that are no newer than a revision start.
pub(crate) fn version_key_at(out: &mut Vec<u8>, versions: &[u8], revision: Revision) {
    out.clear();
    out.extend_from_slice(versions);
    out.extend(descending(revision));
}

/// Rewrites `out` to where the versions of a key have ended.
pub(crate) fn end_of_versions(out: &mut Vec<u8>, versions: &[u8]) {
    out.clear();
    out.extend_from_slice(versions);
    out.extend([u8::MAX; REVISION_BYTES]);
}

/// Where the versions of a range's keys start, and what all of them are below; `None` is open.
pub(crate) fn bounds(keys: &KeyRange) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = match keys {
        KeyRange::One(key) => {
            let mut end = Vec::new();
            end_of_versions(&mut end, &versions_of(key));
            Some(end)
        }
        KeyRange::Between(_, end) => Some(versions_of(end)),
        KeyRange::AtLeast(_) => None,
    };
    (versions_of(keys.start()), end)
}

/// Takes a version's key apart: what all versions of its key start with, and the revision.
pub(crate) fn split_version(row: &[u8]) -> Result<(&[u8], Revision), StoreError> {
    let malformed = || corrupt(KEYS, "a key ends with its revision");
    let (versions, revision) = row.split_last_chunk::<REVISION_BYTES>().ok_or_else(malformed)?;
    let revision = Revision::new(!i64::from_be_bytes(*revision)).ok_or_else(malformed)?;
    Ok((versions, revision))
}

/// The user key whose versions start with this.
pub(crate) fn unescape(versions: &[u8]) -> Result<Bytes, StoreError> {
    let malformed = || corrupt(KEYS, "a key is escaped");
    let escaped = versions.strip_suffix(&[ESCAPE, END]).ok_or_else(malformed)?;
    if !escaped.contains(&ESCAPE) {
        return Ok(Bytes::copy_from_slice(escaped));
    }
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte == ESCAPE && bytes.next() != Some(&ESCAPED_ZERO) {
            return Err(malformed());
        }
        key.push(byte);
    }
    Ok(key.into())
}

fn descending(revision: Revision) -> [u8; REVISION_BYTES] {
    (!revision.get()).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0), Just(1), Just(0xFE), Just(0xFF), any::<u8>()], 0..6)
    }

    fn revision() -> impl Strategy<Value = Revision> {
        prop_oneof![1..5_i64, i64::MAX - 3..=i64::MAX].prop_map(|value| Revision::new(value).expect("positive"))
    }

    proptest! {
        #[test]
        fn versions_order_by_key_and_then_newest_first(a in key(), b in key(), x in revision(), y in revision()) {
            let expected = a.cmp(&b).then(y.cmp(&x));
            prop_assert_eq!(version_key(&a, x).cmp(&version_key(&b, y)), expected);
        }

        #[test]
        fn a_version_is_read_as_it_was_written(key in key(), revision in revision()) {
            let row = version_key(&key, revision);
            let (versions, read) = split_version(&row).expect("well formed");
            prop_assert_eq!(read, revision);
            prop_assert_eq!(unescape(versions).expect("well formed"), key);
        }

        #[test]
        fn bounds_hold_the_versions_of_the_range_and_no_others(
            start in key(), end in key(), key in key(), revision in revision(), kind in 0..3,
        ) {
            let (start, end) = (Bytes::from(start), Bytes::from(end));
            let keys = match kind {
                0 => KeyRange::One(start),
                1 => KeyRange::Between(start, end),
                _ => KeyRange::AtLeast(start),
            };
            let (from, below) = bounds(&keys);
            let row = version_key(&key, revision);
            prop_assert_eq!(row >= from && below.is_none_or(|below| row < below), keys.contains(&key));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            if let Ok((versions, _)) = split_version(&bytes) {
                let _ = unescape(versions);
            }
        }
    }
}
