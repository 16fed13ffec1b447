//! What can go wrong beneath the engine.

use std::{
    io,
    path::{Path, PathBuf},
};

use rocksdb::ErrorKind;

use crate::Space;

/// How RocksDB tells that a disk is full.
const NO_SPACE: &str = "No space left on device";

/// Why the engine could not do it. After a failed write or sync the member must stop: what the disk holds is unknown.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// What is on the disk is not what was written there. Nothing was cut or skipped. The text names the file.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk is full.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Another fault of the disk, or of what is asked of it.
    #[error("storage: {0}")]
    Storage(String),
    /// A file or folder that the system gives trouble with.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the folder open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The folder holds an engine, and not a home of one.
    #[error("{} was laid out by an earlier version, which this one does not read", .0.display())]
    Layout(PathBuf),
    /// The space was not named when the engine was opened: our own bug.
    #[error("space {:?} was not opened", .0.name())]
    UnknownSpace(Space),
    /// An image is not what its sender made it, or not all of it is here.
    #[error("image, part {part:?}: {what}")]
    Image {
        /// Which part; empty for the whole.
        part: String,
        /// What is wrong with it.
        what: String,
    },
}

impl EngineError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// Whether what is on the disk is damaged: this member is to be built anew from the others.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }

    pub(crate) fn image(part: &str, what: impl Into<String>) -> Self {
        Self::Image { part: part.to_owned(), what: what.into() }
    }
}

/// What RocksDB says, by what can be done about it.
pub(crate) fn fault(error: rocksdb::Error) -> EngineError {
    let kind = error.kind();
    let text = error.into_string();
    match kind {
        _ if text.contains(NO_SPACE) => EngineError::Full(text),
        ErrorKind::Corruption => EngineError::Damaged(text),
        _ => EngineError::Storage(text),
    }
}

/// For `map_err`: what the system said of a path.
pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    |source| EngineError::Io { path, source }
}
