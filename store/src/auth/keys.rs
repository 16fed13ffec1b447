//! Sets of keys.
//!
//! Owns: the union of ranges, and the question whether it contains a range.
//!
//! - Intervals are sorted, not empty, and neither overlap nor touch: what lies in the union lies in one of them.

use std::cmp::Ordering;

use bytes::Bytes;
use types::KeyRange;

/// A union of key ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySet(Vec<Interval>);

/// The keys from `start` on, up to and without `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    end: End,
}

/// Where an interval ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Before this key.
    Before(Bytes),
    /// Nowhere.
    Open,
}

impl End {
    fn cmp_to(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Before(one), Self::Before(other)) => one.cmp(other),
            (Self::Before(_), Self::Open) => Ordering::Less,
            (Self::Open, Self::Before(_)) => Ordering::Greater,
            (Self::Open, Self::Open) => Ordering::Equal,
        }
    }

    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Open => true,
        }
    }

    /// Whether an interval that starts at `start` joins one that ends here.
    fn reaches(&self, start: &[u8]) -> bool {
        match self {
            Self::Before(end) => start <= &end[..],
            Self::Open => true,
        }
    }
}

impl KeySet {
    /// The union of ranges; empty ones add nothing.
    pub(crate) fn union<'a>(ranges: impl IntoIterator<Item = &'a KeyRange>) -> Self {
        let mut intervals: Vec<Interval> = ranges.into_iter().filter(|keys| !keys.is_empty()).map(interval).collect();
        intervals.sort_by(|one, other| one.start.cmp(&other.start));
        let mut union: Vec<Interval> = Vec::new();
        for next in intervals {
            match union.last_mut() {
                Some(last) if last.end.reaches(&next.start) => {
                    if last.end.cmp_to(&next.end).is_lt() {
                        last.end = next.end;
                    }
                }
                _ => union.push(next),
            }
        }
        Self(union)
    }

    /// Whether all keys of a range are in it; of an empty range, whether its start is.
    pub(crate) fn contains(&self, keys: &KeyRange) -> bool {
        let Some(end) = self.end_of(keys.start()) else { return false };
        match keys {
            KeyRange::One(_) => true,
            KeyRange::Between(_, last) => end.reaches(last),
            KeyRange::AtLeast(_) => *end == End::Open,
        }
    }

    /// Where the interval that holds a key ends; `None` if the key is not in the set.
    pub(crate) fn end_of(&self, key: &[u8]) -> Option<&End> {
        let after = self.0.partition_point(|interval| &interval.start[..] <= key);
        let interval = &self.0[after.checked_sub(1)?];
        interval.end.is_after(key).then_some(&interval.end)
    }
}

fn interval(keys: &KeyRange) -> Interval {
    let end = match keys {
        KeyRange::One(key) => End::Before([&key[..], &[0]].concat().into()),
        KeyRange::Between(_, end) => End::Before(end.clone()),
        KeyRange::AtLeast(_) => End::Open,
    };
    Interval { start: keys.start().clone(), end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn range(key: &str, end: &str) -> KeyRange {
        KeyRange::from_wire(Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(end.as_bytes()))
    }

    #[test]
    fn a_range_is_contained_in_a_union_that_covers_it() {
        let set =
            KeySet::union(&[range("a", "c"), range("c", "e"), range("g", ""), range("g\0", "h"), range("x", "\0")]);
        let cases = [
            ("a", "e", true),
            ("a", "", true),
            ("b", "d", true),
            ("e", "", false),
            ("a", "f", false),
            ("0", "b", false),
            ("d", "h", false),
            ("g", "h", true),
            ("g", "h\0", false),
            ("x", "\0", true),
            ("y", "zz", true),
            ("w", "\0", false),
            ("a", "\0", false),
            ("b", "a", true),
            ("f", "a", false),
        ];
        for (key, end, contained) in cases {
            assert_eq!(set.contains(&range(key, end)), contained, "{key:?} {end:?}");
        }
        assert!(!KeySet::default().contains(&range("a", "")));
    }

    /// All keys of up to three bytes of 0..=2: more than enough to tell apart what ends of up to two bytes can.
    fn keys() -> Vec<Vec<u8>> {
        let digits = |len: u32| {
            (0..3_usize.pow(len)).map(move |n| {
                (0..len).map(|at| u8::try_from(n / 3_usize.pow(at) % 3).expect("below 3")).collect::<Vec<_>>()
            })
        };
        (1..4).flat_map(digits).collect()
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        (vec(0_u8..3, 1..3), vec(0_u8..3, 0..3)).prop_map(|(key, end)| KeyRange::from_wire(key.into(), end.into()))
    }

    proptest! {
        #[test]
        fn it_agrees_with_asking_for_each_key(ranges in vec(any_range(), 0..6), asked in any_range()) {
            let set = KeySet::union(&ranges);
            let within = |key: &[u8]| ranges.iter().any(|range| range.contains(key));
            for key in keys() {
                prop_assert_eq!(set.end_of(&key).is_some(), within(&key), "{:?}", key);
            }
            if !asked.is_empty() {
                // Beyond every end that was drawn, a range without an end goes on.
                let far: &[u8] = &[9];
                let open = !matches!(asked, KeyRange::AtLeast(_)) || within(far);
                let all = open && keys().iter().filter(|key| asked.contains(key)).all(|key| within(key));
                prop_assert_eq!(set.contains(&asked), all, "{:?} in {:?}", asked, ranges);
            }
        }
    }
}
