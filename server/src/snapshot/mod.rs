//! A member's state as one file: etcd's own snapshot, with buckets of ours that etcd passes over.
//!
//! Owns: what such a file holds, and how it is written, sent, looked at and restored.
//! In:   one moment of a member's state; a file that we wrote, or etcd.
//! Out:  a file that `etcdutl snapshot restore` takes; a data directory that a member starts on.
//!
//! - The store is in etcd's buckets and nowhere else in the file: its keys with all their history, leases, users and
//!   roles, members.
//! - What etcd has no bucket for (the CA's ledger) is in buckets of its own, named [`schema::ours`]. No private key is.
//! - A file is a moment: nothing that is written meanwhile is in it, in part or as a whole.
//! - A restore appears complete or not at all, and leaves what was there alone.
//! - Memory is bounded, whatever the size of the store.

mod digest;
mod export;
mod face;
mod restore;
pub(crate) mod schema;
pub(crate) mod source;
mod status;
mod users;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use types::Release;

use crate::ServerError;

pub use restore::{Progress, Restore, Restored, restore};
pub use status::{SnapshotStatus, snapshot_status};

pub(crate) use export::{About, save};
pub(crate) use face::{Snapshots, stream};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use restore::fill;

/// Why there is no snapshot, or no data directory of one.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file or folder that the system gives trouble with: the disk is full, say.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no snapshot, or is damaged.
    #[error(transparent)]
    File(#[from] bbolt::Error),
    /// The file does not end with its checksum.
    #[error("the snapshot has no checksum: it is cut short, or was copied from a data directory")]
    NoDigest,
    /// The file is not what was saved.
    #[error("the snapshot is damaged: its checksum is another")]
    DigestDiffers,
    /// An entry of the file that etcd does not write.
    #[error("bucket {bucket}: {what}")]
    Entry {
        /// Where.
        bucket: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file holds what only a newer version of this program knows.
    #[error("the snapshot was saved by a newer version: it has a bucket {0}")]
    Newer(String),
    /// The file is of a cluster at a later release.
    #[error(
        "the snapshot was saved at release {of}, and this is {release}: restore it with release {of} or a later one"
    )]
    LaterRelease {
        /// The release of the cluster that it was saved from.
        of: Release,
        /// This one.
        release: Release,
    },
    /// There is something in the data directory.
    #[error("data directory {} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// A data directory appears by renaming, which nothing does to a mount point.
    #[error("data directory {} is a mount point", .0.display())]
    MountPoint(PathBuf),
    /// Another process restores to the same data directory.
    #[error("another process restores to {}", .0.display())]
    Busy(PathBuf),
    /// The history of the file cannot have been.
    #[error(transparent)]
    Load(#[from] store::LoadError),
    /// The member's own state cannot be read.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The engine that the state is on.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// No member starts on what was restored.
    #[error(transparent)]
    Member(#[from] Box<ServerError>),
    /// The process is shutting down.
    #[error("interrupted")]
    Interrupted,
}

/// For `map_err`: what the system said of a path.
fn io_error(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.into();
    |source| SnapshotError::Io { path, source }
}
