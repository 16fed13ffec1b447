//! Writing a file from sorted keys.
//!
//! - Pages are written one after the other; only the two meta pages, which make the file valid, are written last.
//! - No page is free: the freelist is empty.

use std::{
    collections::BTreeMap,
    io::{BufWriter, Seek, SeekFrom, Write},
};

use crate::{
    Error,
    format::{FREELIST, Meta, PAGE_BYTES, WRITTEN_PAGE_BYTES, bucket_value},
    tree::{Flags, Pages, Root, Tree},
};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A file in the making. Dropped before [`Writer::finish`] it leaves what no reader takes for a database.
#[derive(Debug)]
pub struct Writer<W: Write + Seek> {
    pages: Pages<BufWriter<W>>,
    buckets: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<W: Write + std::fmt::Debug> std::fmt::Debug for Pages<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<W: Write + Seek> Writer<W> {
    /// Starts at the beginning of `out`, which is empty.
    ///
    /// # Errors
    /// The system's.
    pub fn new(out: W) -> Result<Self, Error> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        out.write_all(&[0; 2 * PAGE_BYTES])?;
        Ok(Self { pages: Pages::new(out), buckets: BTreeMap::new() })
    }

    /// Starts a bucket; they may come in any order, each once.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if there is one of that name.
    pub fn bucket(&mut self, name: &[u8]) -> Result<BucketWriter<'_, W>, Error> {
        if self.buckets.contains_key(name) {
            return Err(Error::Unwritable("a bucket is there already"));
        }
        Ok(BucketWriter { writer: self, name: name.to_vec(), tree: Tree::new() })
    }

    /// Writes what makes the file a database, and gives the bytes that it takes. They are not synced.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> Result<(W, u64), Error> {
        let mut tree = Tree::new();
        for (name, value) in &self.buckets {
            tree.put(&mut self.pages, Flags::Bucket, name, value)?;
        }
        let Root::Page(root) = tree.finish(&mut self.pages, false)? else {
            return Err(Error::Unwritable("the root has a page of its own"));
        };
        let freelist = self.pages.write(FREELIST, 0, &[])?;
        let Pages { mut out, next: pages } = self.pages;
        for transaction in [0, 1] {
            out.seek(SeekFrom::Start(transaction * PAGE_BYTES as u64))?;
            let meta = Meta { page_bytes: WRITTEN_PAGE_BYTES, root, freelist, pages, transaction };
            out.write_all(&meta.encode())?;
        }
        let out = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok((out, pages * PAGE_BYTES as u64))
    }
}

/// A bucket in the making. It is in the file once it is finished.
#[derive(Debug)]
#[must_use = "a bucket that is not finished is not written"]
pub struct BucketWriter<'a, W: Write + Seek> {
    writer: &'a mut Writer<W>,
    name: Vec<u8>,
    tree: Tree,
}

impl<W: Write + Seek> BucketWriter<'_, W> {
    /// Adds a key, greater than the last one.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if it is not, or is empty, or too long; else the system's.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.tree.put(&mut self.writer.pages, Flags::Value, key, value)
    }

    /// Closes the bucket.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> Result<(), Error> {
        let value = match self.tree.finish(&mut self.writer.pages, true)? {
            Root::Page(page) => bucket_value(page, &[]),
            Root::Inline(page) => bucket_value(0, &page),
        };
        self.writer.buckets.insert(self.name, value);
        Ok(())
    }
}
