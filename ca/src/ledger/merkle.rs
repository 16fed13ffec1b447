//! The Merkle tree over all entries, of which only the frontier is kept.
//!
//! - The root is the one of RFC 6962, section 2.1, over the entries in order.
//! - The frontier holds the roots of the perfect subtrees, largest first: one for each bit set in the size.

use sha2::{Digest, Sha256};

use crate::codec::{DecodeError, Reader, Writer};

type Hash = [u8; 32];

/// How many entries the ledger has, and the hash that commits to all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Entries.
    pub size: u64,
    /// The root hash of the tree over them. Source: RFC 6962, section 2.1.
    pub root: [u8; 32],
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    size: u64,
    frontier: Vec<Hash>,
}

impl Tree {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn append(&mut self, entry: &[u8]) {
        let mut hash: Hash = Sha256::new().chain_update([0]).chain_update(entry).finalize().into();
        // Each perfect subtree as large as the new one joins it, as a carry goes through the bits of the size.
        for _ in 0..self.size.trailing_ones() {
            let left = self.frontier.pop().expect("one hash for each bit of the size");
            hash = node(&left, &hash);
        }
        self.frontier.push(hash);
        self.size += 1;
    }

    pub(super) fn head(&self) -> TreeHead {
        let joined = self.frontier.iter().rev().copied().reduce(|right, left| node(&left, &right));
        TreeHead { size: self.size, root: joined.unwrap_or_else(|| Sha256::digest([]).into()) }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u64(self.size);
        for hash in &self.frontier {
            out.array(hash);
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let size = input.u64()?;
        let frontier = (0..size.count_ones()).map(|_| input.array()).collect::<Result<_, _>>()?;
        Ok(Self { size, frontier })
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962's own definition, word for word.
    fn by_definition(entries: &[Vec<u8>]) -> Hash {
        match entries {
            [] => Sha256::digest([]).into(),
            [entry] => Sha256::new().chain_update([0]).chain_update(entry).finalize().into(),
            _ => {
                let split = entries.len().next_power_of_two() / 2;
                node(&by_definition(&entries[..split]), &by_definition(&entries[split..]))
            }
        }
    }

    #[test]
    fn the_frontier_gives_the_root_of_the_rfc() {
        let (mut tree, mut entries) = (Tree::default(), Vec::new());
        for number in 0..130_u32 {
            assert_eq!(tree.head(), TreeHead { size: number.into(), root: by_definition(&entries) });
            let entry = number.to_be_bytes().to_vec();
            tree.append(&entry);
            entries.push(entry);
        }
    }

    #[test]
    fn a_tree_is_read_as_it_was_written() {
        let mut tree = Tree::default();
        for entry in 0..100_u8 {
            tree.append(&[entry]);
            let mut out = Writer::default();
            tree.write(&mut out);
            let bytes = out.finish();
            let mut input = Reader::new(&bytes, "tree");
            assert_eq!(Tree::read(&mut input), Ok(tree.clone()));
            assert_eq!(input.finish(), Ok(()));
        }
    }
}
