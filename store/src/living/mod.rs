//! The keys that live now, in memory.
//!
//! Owns: for each of them, which version is its newest and what that says beside its value; their order and number.
//! In:   each published write, from the writer; at the start, what the rows say.
//! Out:  where a read of the present goes straight to its rows, and how many keys a range has without visiting them.
//!
//! - It holds nothing that the rows do not say, and is made of them at each start.
//! - Keys lie in order in blocks of bounded length: one is found by two searches, and a count visits blocks only.

mod read;

use std::sync::Arc;

use types::Revision;

use crate::layout::{Meta, Point};

pub(crate) use read::{latest, remembered};

/// A block is cut in two before it holds more keys.
const BLOCK_KEYS_MAX: usize = 256;
/// A block that is full makes room for so many keys, and one that lost so many twice over gives their room back.
const BLOCK_KEYS_SPARE: usize = 32;

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
    /// None is empty.
    blocks: Vec<Vec<Entry>>,
}

/// Before which key, of which block. A place after a block's last key is the next block's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    block: usize,
    key: usize,
}

impl Living {
    pub(crate) fn get(&self, versions: &[u8]) -> Option<Newest> {
        let block = self.blocks.get(self.block_of(versions))?;
        let at = block.binary_search_by(|entry| (*entry.versions).cmp(versions)).ok()?;
        Some(block[at].newest)
    }

    /// A key was written.
    pub(crate) fn insert(&mut self, versions: &[u8], newest: Newest) {
        let mut number = self.block_of(versions);
        let Some(block) = self.blocks.get_mut(number) else {
            return self.blocks.push(vec![Entry { versions: versions.into(), newest }]);
        };
        let mut at = match block.binary_search_by(|entry| (*entry.versions).cmp(versions)) {
            Ok(at) => return block[at].newest = newest,
            Err(at) => at,
        };
        if block.len() == BLOCK_KEYS_MAX {
            // Keys that come in order fill their blocks.
            let cut = if at == BLOCK_KEYS_MAX { BLOCK_KEYS_MAX } else { BLOCK_KEYS_MAX / 2 };
            let tail = block.split_off(cut);
            block.shrink_to_fit();
            self.blocks.insert(number + 1, tail);
            if at >= cut {
                (number, at) = (number + 1, at - cut);
            }
        }
        let block = &mut self.blocks[number];
        if block.len() == block.capacity() {
            block.reserve_exact(BLOCK_KEYS_SPARE.min(BLOCK_KEYS_MAX - block.len()));
        }
        block.insert(at, Entry { versions: versions.into(), newest });
    }

    /// A key was deleted.
    pub(crate) fn remove(&mut self, versions: &[u8]) {
        let number = self.block_of(versions);
        let Some(block) = self.blocks.get_mut(number) else { return };
        let Ok(at) = block.binary_search_by(|entry| (*entry.versions).cmp(versions)) else { return };
        block.remove(at);
        let left = block.len();
        if left == 0 {
            self.blocks.remove(number);
            return;
        }
        if self.blocks.get(number + 1).is_some_and(|next| left + next.len() <= BLOCK_KEYS_MAX / 2) {
            let mut next = self.blocks.remove(number + 1);
            self.blocks[number].append(&mut next);
        }
        let block = &mut self.blocks[number];
        if block.capacity() > block.len() + 2 * BLOCK_KEYS_SPARE {
            block.shrink_to(block.len() + BLOCK_KEYS_SPARE);
        }
    }

    /// How many keys lie from `start` up to, and without, `end`; `None` is open.
    pub(crate) fn count(&self, start: &[u8], end: Option<&[u8]>) -> usize {
        let (from, to) = (self.place_of(start), self.end_of(end));
        match self.blocks.get(from.block..=to.block) {
            _ if from >= to => 0,
            Some([_]) => to.key - from.key,
            Some([first, between @ .., _]) => {
                first.len() - from.key + between.iter().map(Vec::len).sum::<usize>() + to.key
            }
            // Up to the end of the last block.
            Some([]) | None => self.blocks[from.block..].iter().map(Vec::len).sum::<usize>() - from.key,
        }
    }

    /// The keys from `start` on.
    fn from(&self, start: &[u8]) -> impl Iterator<Item = &Entry> {
        let Place { block, key } = self.place_of(start);
        self.blocks.get(block..).into_iter().flatten().flatten().skip(key)
    }

    /// The block where a key is, or belongs; 0 if there is none.
    fn block_of(&self, versions: &[u8]) -> usize {
        self.blocks.partition_point(|block| *block[0].versions <= *versions).saturating_sub(1)
    }

    /// The first key that is at least `versions`.
    fn place_of(&self, versions: &[u8]) -> Place {
        let block = self.block_of(versions);
        let Some(keys) = self.blocks.get(block) else { return Place { block, key: 0 } };
        match keys.partition_point(|entry| *entry.versions < *versions) {
            past if past == keys.len() => Place { block: block + 1, key: 0 },
            key => Place { block, key },
        }
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

    fn check(living: &Living, model: &BTreeMap<Vec<u8>, Newest>) {
        for block in &living.blocks {
            assert!((1..=BLOCK_KEYS_MAX).contains(&block.len()));
            assert!(block.capacity() <= BLOCK_KEYS_MAX.min(block.len() + 2 * BLOCK_KEYS_SPARE), "room lies idle");
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
        assert_eq!(living.blocks.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 256, 232]);
        assert_eq!(living.count(&[], None), 1000);
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_that_counts(
            writes in prop::collection::vec((any::<bool>(), 0u16..2000), 0..4000),
            asked in prop::collection::vec((0u16..2000, prop::option::of(0u16..2000)), 1..20),
        ) {
            let (mut living, mut model) = (Living::default(), BTreeMap::new());
            for (number, &(insert, key)) in writes.iter().enumerate() {
                let key = key.to_be_bytes().to_vec();
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
                let start = start.to_be_bytes();
                let end = end.map(u16::to_be_bytes);
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| key[..] >= start[..] && end.is_none_or(|end| key[..] < end[..]))
                    .collect();
                prop_assert_eq!(living.count(&start, end.as_ref().map(|end| &end[..])), expected.len());
                prop_assert_eq!(living.get(&start), model.get(&start[..]).copied());
                let first = living.from(&start).next().map(|entry| entry.versions.to_vec());
                prop_assert_eq!(first, model.range(start.to_vec()..).next().map(|(key, _)| key.clone()));
            }
        }
    }
}
