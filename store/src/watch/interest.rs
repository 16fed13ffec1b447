//! Who wants to know of a key.
//!
//! Owns: an index from keys to those who watch them: single keys by hash, ranges by interval.
//!
//! - A look-up's cost follows those it finds, not those there are.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use types::KeyRange;

use super::intervals::{End, Interval, Intervals};

#[derive(Debug)]
pub(super) struct Interest<T> {
    keys: HashMap<Bytes, BTreeSet<T>>,
    ranges: Intervals<T>,
}

impl<T> Default for Interest<T> {
    fn default() -> Self {
        Self { keys: HashMap::new(), ranges: Intervals::default() }
    }
}

impl<T: Ord + Copy> Interest<T> {
    /// Adds one who watches a range; whether nobody watched exactly it before.
    pub(super) fn insert(&mut self, keys: &KeyRange, who: T) -> bool {
        if let Some(interval) = interval(keys) {
            return self.ranges.insert(interval, who);
        }
        let watching = self.keys.entry(keys.start().clone()).or_default();
        let first = watching.is_empty();
        watching.insert(who);
        first
    }

    /// Removes one who watched a range; whether nobody watches exactly it any more.
    pub(super) fn remove(&mut self, keys: &KeyRange, who: T) -> bool {
        if let Some(interval) = interval(keys) {
            return self.ranges.remove(&interval, who);
        }
        let Some(watching) = self.keys.get_mut(keys.start()) else { return false };
        let last = watching.remove(&who) && watching.is_empty();
        if last {
            self.keys.remove(keys.start());
        }
        last
    }

    /// Visits all who watch `key`; more than once who watches it by several ranges.
    pub(super) fn matches(&self, key: &[u8], mut visit: impl FnMut(T)) {
        if let Some(watching) = self.keys.get(key) {
            watching.iter().copied().for_each(&mut visit);
        }
        self.ranges.stab(key, &mut visit);
    }

    /// Whether anybody watches `key`.
    pub(super) fn has_match(&self, key: &[u8]) -> bool {
        let mut found = self.keys.contains_key(key);
        if !found {
            self.ranges.stab(key, &mut |_| found = true);
        }
        found
    }

    /// All ranges that somebody watches.
    pub(super) fn ranges(&self) -> Vec<KeyRange> {
        let keys = self.keys.keys().cloned().map(KeyRange::One);
        let ranges = self.ranges.all().into_iter().map(|(start, end)| match end {
            End::Before(end) => KeyRange::Between(start, end),
            End::Open => KeyRange::AtLeast(start),
        });
        keys.chain(ranges).collect()
    }
}

/// A range as an interval; `None` for a single key.
fn interval(keys: &KeyRange) -> Option<Interval> {
    match keys {
        KeyRange::One(_) => None,
        KeyRange::Between(start, end) => Some((start.clone(), End::Before(end.clone()))),
        KeyRange::AtLeast(start) => Some((start.clone(), End::Open)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn key() -> impl Strategy<Value = Bytes> {
        vec(0..4_u8, 0..4).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        (key(), key()).prop_map(|(start, end)| KeyRange::from_wire(start, end))
    }

    proptest! {
        #[test]
        fn it_finds_exactly_those_whose_range_holds_the_key(
            steps in vec((any::<bool>(), range(), 0..4_u8), 1..80), keys in vec(key(), 8),
        ) {
            let (mut interest, mut model) = (Interest::default(), BTreeSet::new());
            let watched = |model: &BTreeSet<(_, u8)>, range: &_| model.iter().any(|(other, _)| other == range);
            for (add, range, who) in steps {
                let wire = range.to_wire();
                let had = watched(&model, &wire);
                if add {
                    prop_assert_eq!(interest.insert(&range, who), !had);
                    model.insert((wire, who));
                } else {
                    let removed = model.remove(&(wire.clone(), who));
                    prop_assert_eq!(interest.remove(&range, who), removed && !watched(&model, &wire));
                }
            }
            let holds = |(start, end): &(Bytes, Bytes), key| KeyRange::from_wire(start.clone(), end.clone()).contains(key);
            for key in &keys {
                let mut found = Vec::new();
                interest.matches(key, |who| found.push(who));
                found.sort_unstable();
                let mut expected: Vec<_> =
                    model.iter().filter(|(range, _)| holds(range, key)).map(|&(_, who)| who).collect();
                expected.sort_unstable();
                prop_assert_eq!(interest.has_match(key), !expected.is_empty());
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(interest.ranges().len(), model.iter().map(|(range, _)| range).collect::<BTreeSet<_>>().len());
        }
    }
}
