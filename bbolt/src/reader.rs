//! Reading a file in order.
//!
//! Owns: how pages become buckets, and buckets their keys and values.
//!
//! - Pages are read when they are come to; a walk holds one page for each level of its tree.
//! - The freelist is not looked at: nothing that can be reached is free.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::{
    Error,
    error::damaged,
    format::{BUCKET, BUCKET_BYTES, FIRST_PAGE, HEADER_BYTES, Header, Meta, second_meta_offsets, u64_at},
    page::{Kind, Page},
};

/// A tree of pages that hold two keys or more is not deeper, however large the file.
const DEPTH_MAX: usize = 64;
/// Longest page with those that it overflows into: a value of etcd's is far shorter.
const RUN_BYTES_MAX: u64 = 1 << 30;

/// Where a file's bytes are read from.
pub trait Source {
    /// How many there are.
    ///
    /// # Errors
    /// The system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is none.
    ///
    /// # Errors
    /// The system's.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` with those at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] past the end; else the system's.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for &[u8] {
    fn len(&self) -> io::Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let bytes = from.and_then(|bytes| bytes.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// A file of buckets.
#[derive(Debug)]
pub struct Database<S> {
    source: S,
    page_bytes: u64,
    root: u64,
    pages: u64,
}

impl<S: Source> Database<S> {
    /// Reads the newer of the two meta pages that are whole. What follows the last page is not looked at.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] if neither is; [`Error::Damaged`] if the file ends before its pages do.
    pub fn open(source: S) -> Result<Self, Error> {
        let file_bytes = source.len()?;
        let meta = meta(&source, file_bytes)?;
        let page_bytes = u64::from(meta.page_bytes);
        if meta.pages.checked_mul(page_bytes).is_none_or(|bytes| bytes > file_bytes) {
            return Err(damaged(meta.transaction % 2, "the file is shorter than it says"));
        }
        Ok(Self { source, page_bytes, root: meta.root, pages: meta.pages })
    }

    /// Bytes that its pages take.
    pub fn bytes(&self) -> u64 {
        self.pages * self.page_bytes
    }

    /// The bucket that holds the file's buckets.
    pub fn root(&self) -> Bucket<'_, S> {
        Bucket { database: self, start: Start::Page(self.root) }
    }

    /// A bucket by its name.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_, S>>, Error> {
        let mut entries = self.root().entries()?;
        while let Some(entry) = entries.next()? {
            match entry.content {
                Content::Bucket(bucket) if entry.key == name => return Ok(Some(bucket)),
                Content::Bucket(_) | Content::Value(_) => {}
            }
        }
        Ok(None)
    }

    fn page(&self, number: u64) -> Result<Page, Error> {
        if !(FIRST_PAGE..self.pages).contains(&number) {
            return Err(damaged(number, "there is no such page"));
        }
        let mut bytes = self.read(number, self.page_bytes)?;
        let header = Header::decode(&bytes).ok_or_else(|| damaged(number, "it is cut short"))?;
        if header.page != number {
            return Err(damaged(number, "it says to be another page"));
        }
        let run = u64::from(header.overflow) + 1;
        if run > self.pages - number || run * self.page_bytes > RUN_BYTES_MAX {
            return Err(damaged(number, "it overflows into more pages than there are"));
        }
        if run > 1 {
            bytes = self.read(number, run * self.page_bytes)?;
        }
        Page::parse(number, bytes)
    }

    fn read(&self, number: u64, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged(number, "it is too long"))?];
        self.source.read_exact_at(&mut bytes, number * self.page_bytes)?;
        Ok(bytes)
    }
}

fn meta(source: &impl Source, file_bytes: u64) -> Result<Meta, Error> {
    let at = |offset: u64| -> Result<Option<Meta>, Error> {
        let mut bytes = [0; Meta::SEEN_BYTES];
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > file_bytes) {
            return Ok(None);
        }
        source.read_exact_at(&mut bytes, offset)?;
        Ok(Meta::decode(&bytes))
    };
    let first = at(0)?;
    if let Some(first) = first {
        let second = at(first.page_bytes.into())?.filter(|second| second.page_bytes == first.page_bytes);
        return Ok(second.filter(|second| second.transaction > first.transaction).unwrap_or(first));
    }
    for offset in second_meta_offsets() {
        if let Some(second) = at(offset)?.filter(|second| u64::from(second.page_bytes) == offset) {
            return Ok(second);
        }
    }
    Err(Error::NotADatabase)
}

/// Keys in order, each with a value or a bucket.
#[derive(Debug)]
pub struct Bucket<'db, S> {
    database: &'db Database<S>,
    start: Start,
}

#[derive(Debug)]
enum Start {
    Page(u64),
    /// On a page that lies inside of an element of the page of this number.
    Inline(u64, Vec<u8>),
}

impl<'db, S: Source> Bucket<'db, S> {
    /// All of it.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it starts with no page.
    pub fn entries(&self) -> Result<Entries<'db, S>, Error> {
        let page = match &self.start {
            Start::Page(number) => self.database.page(*number)?,
            Start::Inline(number, bytes) => Page::parse(*number, bytes.clone())?,
        };
        Ok(Entries { database: self.database, path: vec![Step { page, next: 0 }], last: Vec::new(), again: true })
    }

    /// The page that its tree starts with; `None` if it has none of its own.
    pub(crate) fn first_page(&self) -> Option<u64> {
        match self.start {
            Start::Page(number) => Some(number),
            Start::Inline(..) => None,
        }
    }

    /// Reads the value of a bucket's element.
    fn parse(database: &'db Database<S>, page: u64, value: &[u8]) -> Result<Self, Error> {
        let root = u64_at(value, 0).filter(|_| value.len() >= BUCKET_BYTES);
        let start = match root.ok_or_else(|| damaged(page, "a bucket is cut short"))? {
            0 => Start::Inline(page, value[BUCKET_BYTES..].to_vec()),
            root => Start::Page(root),
        };
        Ok(Self { database, start })
    }
}

/// A walk through a bucket.
#[derive(Debug)]
pub struct Entries<'db, S> {
    database: &'db Database<S>,
    path: Vec<Step>,
    /// The last key that was come by, of a branch or of a leaf.
    last: Vec<u8>,
    /// The last key was that of a branch: the leaf's first may be the same.
    again: bool,
}

#[derive(Debug)]
struct Step {
    page: Page,
    next: usize,
}

/// A key, and what is there.
#[derive(Debug)]
pub struct Entry<'a, 'db, S> {
    /// Never empty; greater than that of the entry before.
    pub key: &'a [u8],
    /// What is there.
    pub content: Content<'a, 'db, S>,
}

/// What a key holds.
#[derive(Debug)]
pub enum Content<'a, 'db, S> {
    /// Bytes.
    Value(&'a [u8]),
    /// More keys.
    Bucket(Bucket<'db, S>),
}

impl<'db, S: Source> Entries<'db, S> {
    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Damaged`]: the walk has then ended.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows from the walk, which no iterator allows")]
    pub fn next(&mut self) -> Result<Option<Entry<'_, 'db, S>>, Error> {
        let at = self.advance().inspect_err(|_| self.path.clear())?;
        let Some((step, index)) = self.path.last().zip(at) else { return Ok(None) };
        let element = step.page.leaf(index)?;
        let content = if element.flags & BUCKET == 0 {
            Content::Value(element.value)
        } else {
            Content::Bucket(Bucket::parse(self.database, step.page.number(), element.value)?)
        };
        Ok(Some(Entry { key: element.key, content }))
    }

    /// Goes to the next leaf element: its place on the last page of the path.
    fn advance(&mut self) -> Result<Option<usize>, Error> {
        while let Some(step) = self.path.last_mut() {
            if step.next == step.page.len() {
                self.path.pop();
                continue;
            }
            let index = step.next;
            step.next += 1;
            let child = match step.page.kind() {
                Kind::Branch => Some(step.page.branch(index)?),
                Kind::Leaf => None,
            };
            let key = match child {
                Some((key, _)) => key,
                None => step.page.leaf(index)?.key,
            };
            if *key < self.last[..] || (*key == self.last[..] && !self.again) {
                return Err(damaged(step.page.number(), "its keys are not in order"));
            }
            self.last.clear();
            self.last.extend_from_slice(key);
            self.again = child.is_some();
            match child {
                None => return Ok(Some(index)),
                Some((_, child)) => self.descend(child)?,
            }
        }
        Ok(None)
    }

    fn descend(&mut self, child: u64) -> Result<(), Error> {
        let page = self.database.page(child)?;
        if page.len() == 0 {
            return Err(damaged(child, "it is empty"));
        }
        if self.path.len() == DEPTH_MAX {
            return Err(damaged(child, "it is deeper than a tree can be"));
        }
        self.path.push(Step { page, next: 0 });
        Ok(())
    }
}

/// A header is at the start of every page.
const _: () = assert!(HEADER_BYTES <= 512);
