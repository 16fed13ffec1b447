//! A snapshot that is read.

use std::{fs::File, path::Path};

use bbolt::{Content, Database};

use super::{
    SnapshotError,
    digest::verify,
    io_error,
    schema::{META, Meta},
};

/// A snapshot's file.
pub(crate) struct Source {
    database: Database<File>,
}

impl Source {
    /// Opens a file, after its checksum was compared if `verified`. `seen` is told how many bytes of it were read for that.
    pub(crate) fn open(path: &Path, verified: bool, seen: impl FnMut(u64)) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(io_error(path))?;
        if verified {
            verify(&file, seen)?;
        }
        Ok(Self { database: Database::open(file)? })
    }

    /// Bytes of its pages.
    pub(crate) fn bytes(&self) -> u64 {
        self.database.bytes()
    }

    /// The names of its buckets.
    pub(crate) fn buckets(&self) -> Result<Vec<Vec<u8>>, SnapshotError> {
        let (mut names, mut entries) = (Vec::new(), self.database.root().entries()?);
        while let Some(entry) = entries.next()? {
            names.push(entry.key.to_vec());
        }
        Ok(names)
    }

    /// Visits a bucket's entries in order; none if there is no such bucket. A bucket in a bucket has no value.
    pub(crate) fn visit(
        &self,
        bucket: &[u8],
        mut visit: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let Some(bucket) = self.database.bucket(bucket)? else { return Ok(()) };
        let mut entries = bucket.entries()?;
        while let Some(entry) = entries.next()? {
            let value = match entry.content {
                Content::Value(value) => Some(value),
                Content::Bucket(_) => None,
            };
            visit(entry.key, value)?;
        }
        Ok(())
    }

    /// Visits a bucket that holds values alone.
    pub(crate) fn visit_values(
        &self,
        bucket: &str,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        self.visit(bucket.as_bytes(), |key, value| {
            visit(key, value.ok_or_else(|| wrong(bucket, "there is a bucket in it"))?)
        })
    }

    pub(crate) fn meta(&self) -> Result<Meta, SnapshotError> {
        let mut meta = Meta::default();
        self.visit_values(META, |key, value| meta.read(key, value).map_err(|what| wrong(META, what)))?;
        Ok(meta)
    }
}

/// An entry that etcd does not write.
pub(crate) fn wrong(bucket: &str, what: &'static str) -> SnapshotError {
    SnapshotError::Entry { bucket: bucket.to_owned(), what }
}
