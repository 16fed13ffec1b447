//! One page and those that it overflows into, checked as they are read.

use std::ops::Range;

use crate::{
    Error,
    error::damaged,
    format::{BRANCH, ELEMENT_BYTES, HEADER_BYTES, Header, LEAF, u32_at, u64_at},
};

/// What a page of a tree holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keys, and the pages that start with them.
    Branch,
    /// Keys and values.
    Leaf,
}

/// A page of a tree.
#[derive(Debug)]
pub(crate) struct Page {
    number: u64,
    kind: Kind,
    count: usize,
    bytes: Vec<u8>,
}

/// A key and value.
pub(crate) struct LeafElement<'a> {
    pub(crate) flags: u32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Page {
    /// `number`: where the page is, for errors; an inline one is where its bucket is.
    pub(crate) fn parse(number: u64, bytes: Vec<u8>) -> Result<Self, Error> {
        let header = Header::decode(&bytes).ok_or_else(|| damaged(number, "it is cut short"))?;
        let kind = match header.kind {
            BRANCH => Kind::Branch,
            LEAF => Kind::Leaf,
            _ => return Err(damaged(number, "it is neither a branch nor a leaf")),
        };
        let count = usize::from(header.count);
        if HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(damaged(number, "it says to have more elements than it has room for"));
        }
        Ok(Self { number, kind, count, bytes })
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The key at `index`, and the page that starts with it.
    pub(crate) fn branch(&self, index: usize) -> Result<(&[u8], u64), Error> {
        let element = self.element(index);
        let read = || {
            let (position, key) = (u32_at(&self.bytes, element)?, u32_at(&self.bytes, element + 4)?);
            Some((self.slice(element, position, 0, key)?, u64_at(&self.bytes, element + 8)?))
        };
        let (key, child) = read().ok_or_else(|| self.outside())?;
        self.key(key).map(|key| (key, child))
    }

    /// The key and value at `index`.
    pub(crate) fn leaf(&self, index: usize) -> Result<LeafElement<'_>, Error> {
        let element = self.element(index);
        let number = |place: usize| u32_at(&self.bytes, element + 4 * place);
        let read = || {
            let (position, key, value) = (number(1)?, number(2)?, number(3)?);
            Some(LeafElement {
                flags: number(0)?,
                key: self.slice(element, position, 0, key)?,
                value: self.slice(element, position, key, value)?,
            })
        };
        let leaf = read().ok_or_else(|| self.outside())?;
        self.key(leaf.key)?;
        Ok(leaf)
    }

    fn element(&self, index: usize) -> usize {
        assert!(index < self.count, "callers stay below len");
        HEADER_BYTES + index * ELEMENT_BYTES
    }

    /// The `length` bytes that are `skipped` behind `position`, which is counted from the element.
    fn slice(&self, element: usize, position: u32, skipped: u32, length: u32) -> Option<&[u8]> {
        let start = element.checked_add(position as usize)?.checked_add(skipped as usize)?;
        self.bytes.get(Range { start, end: start.checked_add(length as usize)? })
    }

    fn outside(&self) -> Error {
        damaged(self.number, "an element lies outside of it")
    }

    fn key<'a>(&self, key: &'a [u8]) -> Result<&'a [u8], Error> {
        if key.is_empty() { Err(damaged(self.number, "a key is empty")) } else { Ok(key) }
    }
}
