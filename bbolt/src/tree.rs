//! Sorted keys become pages.
//!
//! Owns: the page that is being filled on each level of one bucket's tree.
//!
//! - A page is full when the next element would not fit; what is longer than a page has one to itself, and overflows.
//! - A full page is written, and its first key goes up a level. What is left at the end is the root.

use std::io::Write;

use crate::{
    Error,
    format::{
        BRANCH, ELEMENT_BYTES, FIRST_PAGE, HEADER_BYTES, Header, KEY_BYTES_MAX, LEAF, PAGE_BYTES, VALUE_BYTES_MAX,
    },
};

/// A bucket whose only page is no longer lies in the element that names it. Source: bbolt `Bucket.maxInlineBucketSize`.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;

/// Pages in the order in which they are written.
pub(crate) struct Pages<W> {
    pub(crate) out: W,
    pub(crate) next: u64,
}

impl<W: Write> Pages<W> {
    /// What follows the two meta pages.
    pub(crate) fn new(out: W) -> Self {
        Self { out, next: FIRST_PAGE }
    }

    /// Writes one page, overflowing if it must, and gives its number.
    pub(crate) fn write(&mut self, kind: u16, count: usize, rest: &[&[u8]]) -> Result<u64, Error> {
        let number = self.next;
        let bytes = HEADER_BYTES + rest.iter().map(|part| part.len()).sum::<usize>();
        let run = bytes.div_ceil(PAGE_BYTES);
        self.out.write_all(&header(number, kind, count, run)?.encode())?;
        rest.iter().try_for_each(|part| self.out.write_all(part))?;
        self.out.write_all(&vec![0; run * PAGE_BYTES - bytes])?;
        self.next += run as u64;
        Ok(number)
    }
}

fn header(page: u64, kind: u16, count: usize, run: usize) -> Result<Header, Error> {
    let count = u16::try_from(count).map_err(|_| Error::Unwritable("a page has too many elements"))?;
    let overflow = u32::try_from(run - 1).map_err(|_| Error::Unwritable("a page is too long"))?;
    Ok(Header { page, kind, count, overflow })
}

/// What an element of a bucket's leaves is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    Value = 0,
    Bucket = 1,
}

/// The tree of one bucket in the making.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The leaves, the branches above them, and so on; never empty.
    levels: Vec<Level>,
    last: Vec<u8>,
}

/// Where a bucket is.
pub(crate) enum Root {
    Page(u64),
    /// A page of its own bytes, to be put where the bucket is named.
    Inline(Vec<u8>),
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { levels: vec![Level::new(LEAF)], last: Vec::new() }
    }

    /// Adds a key, greater than the last one.
    pub(crate) fn put<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        flags: Flags,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Error> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(Error::Unwritable("a key or value is empty or too long"));
        }
        if *key <= self.last[..] {
            return Err(Error::Unwritable("keys are not in order"));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.add(pages, 0, Element::Leaf { flags, value_bytes: value.len() }, key, value)
    }

    fn add<W: Write>(
        &mut self,
        pages: &mut Pages<W>,
        level: usize,
        element: Element,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Error> {
        if level == self.levels.len() {
            self.levels.push(Level::new(BRANCH));
        }
        if !self.levels[level].has_room(key.len() + value.len()) {
            self.flush(pages, level)?;
        }
        self.levels[level].push(element, key, value);
        Ok(())
    }

    /// Writes what a level has, and tells the one above.
    fn flush<W: Write>(&mut self, pages: &mut Pages<W>, level: usize) -> Result<(), Error> {
        let (first, page) = self.levels[level].write(pages)?;
        self.add(pages, level + 1, Element::Branch { page }, &first, &[])
    }

    /// Writes what is left. `inline`: whether a small bucket may lie where it is named.
    pub(crate) fn finish<W: Write>(mut self, pages: &mut Pages<W>, inline: bool) -> Result<Root, Error> {
        let only = &self.levels[0];
        if inline && self.levels.len() == 1 && only.bytes() <= INLINE_BYTES_MAX {
            let header = header(0, LEAF, only.elements.len(), 1)?;
            return Ok(Root::Inline([&header.encode()[..], &only.table(), &only.data].concat()));
        }
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.flush(pages, level)?;
            level += 1;
        }
        let (_, page) = self.levels[level].write(pages)?;
        Ok(Root::Page(page))
    }
}

/// The page that is being filled on one level.
#[derive(Debug)]
struct Level {
    kind: u16,
    elements: Vec<(Element, usize)>,
    /// Keys and values, one after the other.
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Element {
    Leaf { flags: Flags, value_bytes: usize },
    Branch { page: u64 },
}

impl Level {
    fn new(kind: u16) -> Self {
        Self { kind, elements: Vec::new(), data: Vec::new() }
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    /// A branch takes two whatever their size: a tree whose branches held one would never come to a root.
    fn has_room(&self, bytes: usize) -> bool {
        let least = if self.kind == BRANCH { 2 } else { 1 };
        self.elements.len() < least || self.bytes() + ELEMENT_BYTES + bytes <= PAGE_BYTES
    }

    fn push(&mut self, element: Element, key: &[u8], value: &[u8]) {
        self.elements.push((element, key.len()));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    /// Writes the page, and starts the next; gives its first key and its number.
    fn write<W: Write>(&mut self, pages: &mut Pages<W>) -> Result<(Vec<u8>, u64), Error> {
        let page = pages.write(self.kind, self.elements.len(), &[&self.table(), &self.data])?;
        let first = self.elements.first().map_or(0, |(_, key_bytes)| *key_bytes);
        let first = self.data[..first].to_vec();
        self.elements.clear();
        self.data.clear();
        Ok((first, page))
    }

    /// What stands between the header and the data.
    fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(self.elements.len() * ELEMENT_BYTES);
        let mut data = 0;
        for (index, (element, key_bytes)) in self.elements.iter().enumerate() {
            let position = (self.elements.len() - index) * ELEMENT_BYTES + data;
            let (position, key) = (u32_of(position), u32_of(*key_bytes));
            data += key_bytes;
            match *element {
                Element::Leaf { flags, value_bytes } => {
                    data += value_bytes;
                    for number in [flags as u32, position, key, u32_of(value_bytes)] {
                        table.extend(number.to_le_bytes());
                    }
                }
                Element::Branch { page } => {
                    table.extend(position.to_le_bytes());
                    table.extend(key.to_le_bytes());
                    table.extend(page.to_le_bytes());
                }
            }
        }
        table
    }
}

fn u32_of(length: usize) -> u32 {
    u32::try_from(length).expect("a page holds one element that is too long for it, and no value is 2^31 bytes")
}
