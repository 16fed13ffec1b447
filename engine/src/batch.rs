//! What is to be written at once.

use bytes::Bytes;

use crate::Space;

/// Writes in order; a later one of the same key wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) writes: Vec<Write>,
    bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(Space, Bytes, Bytes),
    Delete(Space, Bytes),
    DeleteRange(Space, Bytes, Bytes),
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a key.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.writes.push(Write::Put(space, key, value));
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.writes.push(Write::Delete(space, key));
    }

    /// Removes the keys from `from` up to, and without, `to`; nothing when they are not in order.
    pub fn delete_range(&mut self, space: Space, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        let (from, to) = (from.into(), to.into());
        if from < to {
            self.bytes += from.len() + to.len();
            self.writes.push(Write::DeleteRange(space, from, to));
        }
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of the keys and values in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
