//! What is in a snapshot, in short.
//!
//! - The numbers are those that `etcdutl snapshot status` prints of the same file.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher,
    path::Path,
};

use super::{
    SnapshotError,
    digest::is_signed,
    io_error,
    schema::{Entry, KEY, read_entry, read_revision_key},
    source::{Source, wrong},
};

/// What `etcdutl snapshot status` says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// CRC-32C of all names, keys and values.
    pub hash: u32,
    /// The last revision that wrote a key.
    pub revision: i64,
    /// Keys that are there at that revision.
    pub total_keys: usize,
    /// Bytes of the file's pages.
    pub total_bytes: u64,
    /// The oldest release of etcd that understands the file; empty before 3.6.
    pub version: String,
}

/// Reads all of a snapshot, ours or etcd's, and compares its checksum if it has one.
///
/// # Errors
/// What is wrong with the file.
pub fn snapshot_status(path: &Path) -> Result<SnapshotStatus, SnapshotError> {
    let bytes = path.metadata().map_err(io_error(path))?.len();
    let source = Source::open(path, is_signed(bytes), |_| {})?;
    let mut status = SnapshotStatus {
        total_bytes: source.bytes(),
        version: source.meta()?.storage_version,
        ..SnapshotStatus::default()
    };
    let mut alive = Alive::default();
    for bucket in source.buckets()? {
        status.hash = crc32c::crc32c_append(status.hash, &bucket);
        source.visit(&bucket, |key, value| {
            let value = value.unwrap_or_default();
            status.hash = crc32c::crc32c_append(crc32c::crc32c_append(status.hash, key), value);
            if bucket == KEY.as_bytes() {
                status.revision = alive.see(key, value).map_err(|what| wrong(KEY, what))?;
            }
            Ok(())
        })?;
    }
    status.total_keys = alive.keys.len();
    Ok(status)
}

/// Keys that were written and not deleted since.
#[derive(Default)]
struct Alive {
    hashers: [RandomState; 2],
    /// Two hashes stand for a key, which may be long: that two keys share both is past expecting.
    keys: HashSet<[u64; 2]>,
}

impl Alive {
    /// Gives the revision of the write.
    fn see(&mut self, key: &[u8], value: &[u8]) -> Result<i64, &'static str> {
        let (revision, _, deleted) = read_revision_key(key).ok_or("a key is no revision")?;
        if let Entry::Step(step) = read_entry(key, value)? {
            let name = self.hashers.each_ref().map(|hasher| hasher.hash_one(step.change.key()));
            if deleted {
                self.keys.remove(&name)
            } else {
                self.keys.insert(name)
            };
        }
        Ok(revision)
    }
}
