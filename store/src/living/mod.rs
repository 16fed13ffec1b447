//! The keys that live now, in memory.
//!
//! Owns: for each of them, which version is its newest and what that says beside its value; their order and number.
//! In:   each published write, from the writer; at the start, what the rows say.
//! Out:  where a read of the present goes straight to its rows, and how many keys a range has without visiting them.
//!
//! - It holds nothing that the rows do not say, and is made of them at each start.
//! - Keys lie in order in blocks of bounded length: one is found by two searches, and a count visits blocks only.

mod read;
mod run;

use std::sync::Arc;

use types::Revision;

use crate::layout::{Meta, Point};

use self::run::Run;
pub(crate) use read::{latest, remembered};

/// A block is cut in two before it holds more keys.
const BLOCK_KEYS_MAX: usize = 256;

/// The newest version of a living key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) modified: Revision,
    pub(crate) meta: Meta,
}

impl Newest {
    /// Where in history it was written.
    pub(crate) fn point(self) -> Point {
        Point { revision: self.modified, place: self.meta.place }
    }
}

/// A living key, by what all its versions start with: see [`versions_of`](crate::layout::versions_of).
#[derive(Clone, Debug)]
struct Entry {
    versions: Arc<[u8]>,
    newest: Newest,
}

/// All living keys, in order.
#[derive(Debug, Default)]
pub(crate) struct Living {
    /// None is empty. Each is named by a key that is not after its first, and after all keys of the block before.
    blocks: Run<Run<Newest>>,
}

/// Before which key, of which block. A place after a block's last key is the next block's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    block: usize,
    key: usize,
}

impl Living {
    pub(crate) fn get(&self, versions: &[u8]) -> Option<Newest> {
        let block = self.block(self.block_of(versions))?;
        let at = block.search(versions).ok()?;
        Some(block.entries()[at].value)
    }

    /// A key was written.
    pub(crate) fn insert(&mut self, versions: &[u8], newest: Newest) {
        let number = self.block_of(versions);
        let Some(block) = self.block(number) else {
            let (key, mut block) = (Arc::<[u8]>::from(versions), Run::default());
            block.insert(0, Arc::clone(&key), newest);
            return self.blocks.insert(0, key, block);
        };
        let found = block.search(versions);
        let block = self.blocks.value_mut(number);
        let at = match found {
            Ok(at) => return *block.value_mut(at) = newest,
            Err(at) => at,
        };
        let key = Arc::<[u8]>::from(versions);
        if block.len() < BLOCK_KEYS_MAX {
            block.insert(at, Arc::clone(&key), newest);
            return self.name_first(key);
        }
        // Keys that come in order fill their blocks.
        let cut = if at == BLOCK_KEYS_MAX { BLOCK_KEYS_MAX } else { BLOCK_KEYS_MAX / 2 };
        let mut tail = block.split_off(cut);
        if at >= cut {
            tail.insert(at - cut, Arc::clone(&key), newest);
        } else {
            block.insert(at, Arc::clone(&key), newest);
        }
        self.blocks.insert(number + 1, Arc::clone(&tail.entries()[0].key), tail);
        self.name_first(key);
    }

    /// A key that comes before all others names their block from now on.
    fn name_first(&mut self, key: Arc<[u8]>) {
        if self.blocks.entries().first().is_some_and(|first| key < first.key) {
            self.blocks.rename_first(key);
        }
    }

    /// A key was deleted.
    pub(crate) fn remove(&mut self, versions: &[u8]) {
        let number = self.block_of(versions);
        let Some(Ok(at)) = self.block(number).map(|block| block.search(versions)) else { return };
        let block = self.blocks.value_mut(number);
        block.remove(at);
        let left = block.len();
        if left == 0 {
            return self.blocks.remove(number);
        }
        if self.block(number + 1).is_some_and(|next| left + next.len() <= BLOCK_KEYS_MAX / 2) {
            let next = std::mem::take(self.blocks.value_mut(number + 1));
            self.blocks.remove(number + 1);
            self.blocks.value_mut(number).append(next);
        }
    }

    /// How many keys lie from `start` up to, and without, `end`; `None` is open.
    pub(crate) fn count(&self, start: &[u8], end: Option<&[u8]>) -> usize {
        let (from, to) = (self.place_of(start), self.end_of(end));
        let blocks = self.blocks.entries();
        let keys = |blocks: &[run::Entry<Run<Newest>>]| blocks.iter().map(|block| block.value.len()).sum::<usize>();
        match blocks.get(from.block..=to.block) {
            _ if from >= to => 0,
            Some([_]) => to.key - from.key,
            Some([first, between @ .., _]) => first.value.len() - from.key + keys(between) + to.key,
            // Up to the end of the last block.
            Some([]) | None => keys(&blocks[from.block..]) - from.key,
        }
    }

    /// The keys from `start` on.
    fn from(&self, start: &[u8]) -> impl Iterator<Item = Entry> {
        let Place { block, key } = self.place_of(start);
        let blocks = self.blocks.entries().get(block..).into_iter().flatten();
        let keys = blocks.flat_map(|block| block.value.entries()).skip(key);
        keys.map(|entry| Entry { versions: Arc::clone(&entry.key), newest: entry.value })
    }

    fn block(&self, number: usize) -> Option<&Run<Newest>> {
        self.blocks.entries().get(number).map(|block| &block.value)
    }

    /// The block where a key is, or belongs; 0 if there is none.
    fn block_of(&self, versions: &[u8]) -> usize {
        self.blocks.search(versions).unwrap_or_else(|after| after.saturating_sub(1))
    }

    /// The first key that is at least `versions`.
    fn place_of(&self, versions: &[u8]) -> Place {
        let number = self.block_of(versions);
        let Some(block) = self.block(number) else { return Place { block: number, key: 0 } };
        let key = block.search(versions).unwrap_or_else(|belongs| belongs);
        if key == block.len() { Place { block: number + 1, key: 0 } } else { Place { block: number, key } }
    }

    fn end_of(&self, end: Option<&[u8]>) -> Place {
        end.map_or(Place { block: self.blocks.len(), key: 0 }, |end| self.place_of(end))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn newest(number: i64) -> Newest {
        let modified = Revision::new(number + 2).expect("positive");
        Newest { modified, meta: Meta { place: 0, created: modified, version: 1, lease: None } }
    }

    /// Short and long, alike at the start and not, with zeros at the end and without.
    fn key(number: u16) -> Vec<u8> {
        let bytes = number.to_be_bytes();
        match number % 4 {
            0 => bytes.to_vec(),
            1 => format!("/registry/pods/default/{number}").into_bytes(),
            2 => [&vec![0; usize::from(number / 4 % 12)][..], &bytes].concat(),
            _ => [&b"/registry/pods/default/"[..], &bytes].concat(),
        }
    }

    fn check(living: &Living, model: &BTreeMap<Vec<u8>, Newest>) {
        for block in living.blocks.entries() {
            let block = &block.value;
            assert!((1..=BLOCK_KEYS_MAX).contains(&block.len()));
            assert!(block.capacity() <= block.len() + 2 * run::SPARE_KEYS, "room lies idle");
        }
        let keys: Vec<_> = living.from(b"").map(|entry| (entry.versions.to_vec(), entry.newest)).collect();
        assert_eq!(keys, model.clone().into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn keys_in_order_fill_their_blocks() {
        let mut living = Living::default();
        for number in 0..1000u32 {
            living.insert(&number.to_be_bytes(), newest(number.into()));
        }
        assert_eq!(
            living.blocks.entries().iter().map(|block| block.value.len()).collect::<Vec<_>>(),
            [256, 256, 256, 232]
        );
        assert_eq!(living.count(&[], None), 1000);
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_that_counts(
            writes in prop::collection::vec((any::<bool>(), 0u16..2000), 0..4000),
            asked in prop::collection::vec((0u16..2000, prop::option::of(0u16..2000)), 1..20),
        ) {
            let (mut living, mut model) = (Living::default(), BTreeMap::new());
            for (number, &(insert, written)) in writes.iter().enumerate() {
                let key = key(written);
                if insert || number < 1000 {
                    let newest = newest(i64::try_from(number).expect("small"));
                    living.insert(&key, newest);
                    model.insert(key, newest);
                } else {
                    living.remove(&key);
                    model.remove(&key);
                }
            }
            check(&living, &model);
            for (start, end) in asked {
                let (start, end) = (key(start), end.map(key));
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| key[..] >= start[..] && end.as_ref().is_none_or(|end| key[..] < end[..]))
                    .collect();
                prop_assert_eq!(living.count(&start, end.as_ref().map(|end| &end[..])), expected.len());
                prop_assert_eq!(living.get(&start), model.get(&start[..]).copied());
                let first = living.from(&start).next().map(|entry| entry.versions.to_vec());
                prop_assert_eq!(first, model.range(start..).next().map(|(key, _)| key.clone()));
            }
        }
    }
}
