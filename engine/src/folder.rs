//! Folders that are one engine's alone.

use std::{
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use crate::{EngineError, error::io_error};

const LOCK: &str = "lock";

/// Keeps other processes away for as long as the file is open.
pub(crate) fn lock(dir: &Path) -> Result<File, EngineError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EngineError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error(&path)(error)),
    }
}

/// Makes a folder for its owner alone, if it is not there, and its name durable.
pub(crate) fn make(dir: &Path) -> Result<(), EngineError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error(dir))?;
    dir.parent().map_or(Ok(()), sync_folder)
}

/// Brings the names in a folder to stable storage.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), EngineError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))
}
