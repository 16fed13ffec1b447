//! Keys in order.
//!
//! Owns: one sorted run of keys, and how a key is found in it.
//!
//! - The first eight bytes of each key behind what all keys of the run start with lie side by side: a search goes through
//!   these, and hardly ever from key to key.

use std::{cmp::Ordering, sync::Arc};

/// A run that is full makes room for so many keys, and one that lost so many twice over gives their room back.
pub(super) const SPARE_KEYS: usize = 32;

/// Sorted keys, each with what belongs to it.
#[derive(Debug)]
pub(super) struct Run<T> {
    /// How many bytes all keys start with alike.
    shared: usize,
    /// See [`head`]; one of each entry.
    heads: Vec<u64>,
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) key: Arc<[u8]>,
    pub(super) value: T,
}

impl<T> Default for Run<T> {
    fn default() -> Self {
        Self { shared: 0, heads: Vec::new(), entries: Vec::new() }
    }
}

impl<T> Run<T> {
    pub(super) fn entries(&self) -> &[Entry<T>] {
        &self.entries
    }

    pub(super) fn value_mut(&mut self, at: usize) -> &mut T {
        &mut self.entries[at].value
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where a key is, or where it belongs.
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(first) = self.entries.first() else { return Err(0) };
        let start = &key[..key.len().min(self.shared)];
        match start.cmp(&first.key[..self.shared]) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal => {}
        }
        let head = head(key, self.shared);
        let from = self.heads.partition_point(|other| *other < head);
        let alike = self.heads[from..].partition_point(|other| *other == head);
        let found = self.entries[from..from + alike]
            .binary_search_by(|entry| entry.key[self.shared..].cmp(&key[self.shared..]));
        found.map(|at| from + at).map_err(|at| from + at)
    }

    /// Adds a key where it belongs, as [`Run::search`] says.
    pub(super) fn insert(&mut self, at: usize, key: Arc<[u8]>, value: T) {
        let shared = self.entries.first().map_or(key.len(), |first| self.shared.min(alike(&first.key, &key)));
        if shared != self.shared {
            self.share(shared);
        }
        if self.entries.len() == self.entries.capacity() {
            self.heads.reserve_exact(SPARE_KEYS);
            self.entries.reserve_exact(SPARE_KEYS);
        }
        self.heads.insert(at, head(&key, shared));
        self.entries.insert(at, Entry { key, value });
    }

    /// Gives what the first key has to one before it.
    pub(super) fn rename_first(&mut self, key: Arc<[u8]>) {
        self.entries[0].key = key;
        self.share_all();
    }

    pub(super) fn remove(&mut self, at: usize) {
        self.heads.remove(at);
        self.entries.remove(at);
        if self.entries.capacity() > self.len() + 2 * SPARE_KEYS {
            self.heads.shrink_to(self.len() + SPARE_KEYS);
            self.entries.shrink_to(self.len() + SPARE_KEYS);
        }
    }

    /// Cuts off the keys from a place on.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut tail =
            Self { shared: self.shared, heads: self.heads.split_off(at), entries: self.entries.split_off(at) };
        self.heads.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.share_all();
        tail.share_all();
        tail
    }

    /// Adds keys that are all after those that are here.
    pub(super) fn append(&mut self, mut tail: Self) {
        self.heads.append(&mut tail.heads);
        self.entries.append(&mut tail.entries);
        self.share_all();
    }

    /// What the first and the last key start with alike, all others do.
    fn share_all(&mut self) {
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            self.share(alike(&first.key, &last.key));
        }
    }

    fn share(&mut self, bytes: usize) {
        self.shared = bytes;
        for (kept, entry) in self.heads.iter_mut().zip(&self.entries) {
            *kept = head(&entry.key, bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity().max(self.heads.capacity())
    }
}

/// The eight bytes of a key from `from` on, as a number: two keys that are alike up to there are in the order of their heads,
/// unless those are equal. What a short key lacks counts as zeros.
fn head(key: &[u8], from: usize) -> u64 {
    let rest = &key[from..];
    if let Some(head) = rest.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    head[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(head)
}

/// How many bytes two keys start with alike.
fn alike(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
