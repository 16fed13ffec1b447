//! The proxy's directory on disk.
//!
//! Owns: how a file of the state directory is replaced.
//!
//! - The directory has mode 0700 and every file 0600.
//! - A reader sees a file's old bytes or its new ones, after a crash too: written beside, synced, renamed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A directory that only this user reads.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Makes the directory when it is absent, and takes others' access to it away.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        Ok(Self(path.to_owned()))
    }

    /// The file's bytes; `None` when there is no such file.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file. Blocks: call it off the request path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.0.join(format!(".{name}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.0.join(name))?;
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_only_its_owner_reads_it() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("state");
        let dir = StateDir::open(&path).expect("made");
        assert_eq!(dir.read("config").expect("readable"), None);
        for bytes in [b"one", b"two"] {
            dir.write("config", bytes).expect("written");
            assert_eq!(dir.read("config").expect("readable").as_deref(), Some(&bytes[..]));
        }
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("config"))), (0o700, 0o600));
    }
}
