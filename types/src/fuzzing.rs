//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics unless a range means something else than `key` and `range_end` say.

use bytes::Bytes;

use crate::KeyRange;

/// A range's `key` and `range_end`, and the plainest reading of what they mean.
#[derive(Clone, Copy, Debug)]
pub struct Naive<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// The end, as on the wire.
    pub range_end: &'a [u8],
}

impl Naive<'_> {
    fn contains(&self, key: &[u8]) -> bool {
        match self.range_end {
            [] => key == self.key,
            [0] => key >= self.key,
            end => self.key <= key && key < end,
        }
    }

    fn range(&self) -> KeyRange {
        KeyRange::from_wire(Bytes::copy_from_slice(self.key), Bytes::copy_from_slice(self.range_end))
    }
}

/// Holds ranges against their plainest reading: alone, and two together; `key` may be in them or not.
///
/// # Panics
/// If they differ.
pub fn key_ranges(one: Naive<'_>, other: Naive<'_>, key: &[u8]) {
    let (first, second) = (one.range(), other.range());
    assert_eq!(first.contains(key), one.contains(key));
    assert_eq!(first.to_wire(), (Bytes::copy_from_slice(one.key), Bytes::copy_from_slice(one.range_end)));
    assert_eq!(first.is_empty(), !one.contains(one.key), "a range that holds anything holds its start");
    // Two ranges that overlap share the greater of their starts.
    let start = one.key.max(other.key);
    assert_eq!(first.overlaps(&second), one.contains(start) && other.contains(start));
    assert_eq!(first.overlaps(&second), second.overlaps(&first));
    if one.contains(key) && other.contains(key) {
        assert!(first.overlaps(&second));
    }
    assert_eq!(KeyRange::prefix(one.key.to_vec()).contains(key), key.starts_with(one.key));
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Few different bytes, the ends of the order among them.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0_u8), Just(1), Just(254), Just(255)], 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn ranges_mean_what_the_wire_says(parts in [bytes(), bytes(), bytes(), bytes(), bytes()]) {
            let [key, range_end, other, other_end, asked] = &parts;
            key_ranges(Naive { key, range_end }, Naive { key: other, range_end: other_end }, asked);
        }
    }
}
