//! The room that is left on the disk, whoever fills it.
//!
//! - Some of it is kept back: a member that could not even write that its disk is full, or what was deleted, would have to
//!   stop.

use std::{io, path::PathBuf};

/// What is kept back, at most.
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// And at most this part of the disk.
const RESERVE_PART: u64 = 10;

/// The disk that a folder is on.
#[derive(Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Bytes that may be written before only the reserve is left.
    pub(super) fn room(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.0)?;
        let (free, size) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        Ok(free.saturating_sub(reserve(size)))
    }
}

fn reserve(size: u64) -> u64 {
    (size / RESERVE_PART).min(RESERVE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_keeps_back_a_part_of_itself() {
        assert_eq!((reserve(100 << 20), reserve(10 << 40)), (10 << 20, 256 << 20));
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_disk() {
        let here = tempfile::tempdir().expect("a temporary folder");
        assert!(Disk::new(here.path().to_owned()).room().is_ok());
        assert!(Disk::new(here.path().join("absent")).room().is_err());
    }
}
