//! Where a member's log lies: in its data directory, or in a folder of its own, which may be on another disk.
//!
//! - `DATA_DIR/log` is the log, or a link to the folder that has it. So a member finds its log whether it is told again or
//!   not, and so does a person.
//! - A member that has applied anything has a log. Where none is, its disk is not mounted, or somebody has named another
//!   folder: nothing starts on an empty one.
//! - Nothing is moved at a start. Who wants the log elsewhere moves it while the member is stopped.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tracing::info;

use crate::{ServerError, member::make_private};

const LOG: &str = "log";
/// The link while it is made.
const LINKING: &str = "log.linking";
/// What an empty folder may hold: what an engine leaves that was only opened, and what a new file system has.
const IDLE: [&str; 2] = ["lock", "lost+found"];

/// The folder of the log of the member in `data_dir`, which is there; `wal_dir` is where it is wanted, if that is said.
/// `is_new`: the member has applied nothing yet.
///
/// # Errors
/// [`ServerError::LogMissing`], [`ServerError::LogElsewhere`] or [`ServerError::LogTaken`]: all is as it was.
pub(crate) fn find(data_dir: &Path, wal_dir: Option<&Path>, is_new: bool) -> Result<PathBuf, ServerError> {
    let own = data_dir.join(LOG);
    let is_link = is_link(&own).map_err(unusable(&own))?;
    let now = if is_link { fs::read_link(&own).map_err(unusable(&own))? } else { own.clone() };
    let Some(wanted) = wal_dir else { return present(now, is_new) };
    if is_new {
        make_private(wanted)?;
    }
    let wanted = fs::canonicalize(wanted).or_else(|_| std::path::absolute(wanted)).map_err(unusable(wanted))?;
    if is_link && now == wanted {
        return present(wanted, is_new);
    }
    if !is_empty(&now)? {
        return Err(ServerError::LogElsewhere { now, wanted });
    }
    if is_new {
        check_free(&wanted)?;
    }
    let wanted = present(wanted, is_new)?;
    link(data_dir, &wanted)?;
    info!(wal_dir = %wanted.display(), "the log is kept in a folder of its own from now on");
    Ok(wanted)
}

/// Whether a new log may be made in `folder`.
///
/// # Errors
/// [`ServerError::LogTaken`] if something is there.
pub(crate) fn check_free(folder: &Path) -> Result<(), ServerError> {
    if is_empty(folder)? { Ok(()) } else { Err(ServerError::LogTaken { path: folder.to_owned() }) }
}

/// Moves the log out of a data directory that is not in use yet, to `folder`, which is free.
///
/// # Errors
/// [`ServerError::DataDir`]: a part of it may be in `folder`.
pub(crate) fn move_out(data_dir: &Path, folder: &Path) -> Result<(), ServerError> {
    make_private(folder)?;
    let own = data_dir.join(LOG);
    let copy = || {
        for entry in fs::read_dir(&own)? {
            let entry = entry?;
            let copy = folder.join(entry.file_name());
            fs::copy(entry.path(), &copy)?;
            File::open(copy)?.sync_all()?;
        }
        File::open(folder)?.sync_all()?;
        fs::remove_dir_all(&own)?;
        fs::canonicalize(folder)
    };
    let folder = copy().map_err(unusable(folder))?;
    link(data_dir, &folder)
}

/// Refuses a place without a log, unless the member never had one.
fn present(folder: PathBuf, is_new: bool) -> Result<PathBuf, ServerError> {
    if is_new || !is_empty(&folder)? { Ok(folder) } else { Err(ServerError::LogMissing { path: folder }) }
}

fn is_link(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) => Ok(found.is_symlink()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_empty(folder: &Path) -> Result<bool, ServerError> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
            let names = names.map_err(unusable(folder))?;
            Ok(names.iter().all(|name| IDLE.iter().any(|idle| name == OsStr::new(idle))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(unusable(folder)(error)),
    }
}

/// Has `DATA_DIR/log`, which is empty, lead to `folder`.
fn link(data_dir: &Path, folder: &Path) -> Result<(), ServerError> {
    let (own, linking) = (data_dir.join(LOG), data_dir.join(LINKING));
    let make = || {
        if own.is_dir() && !is_link(&own)? {
            absent_or(fs::remove_file(own.join(IDLE[0])))?;
            fs::remove_dir(&own)?;
        }
        // A crash may have left it.
        absent_or(fs::remove_file(&linking))?;
        symlink(folder, &linking)?;
        fs::rename(&linking, &own)?;
        File::open(data_dir)?.sync_all()
    };
    make().map_err(unusable(&own))
}

fn absent_or(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.to_owned();
    |source| ServerError::DataDir { path, source }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A data directory, and a place for others.
    fn folders() -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(folder.path()).expect("there");
        let (data, wal) = (root.join("data"), root.join("wal"));
        fs::create_dir(&data).expect("made");
        (folder, data, wal)
    }

    fn fill(folder: &Path) {
        fs::create_dir_all(folder).expect("made");
        fs::write(folder.join("1.journal"), "").expect("written");
    }

    #[test]
    fn a_new_member_has_its_log_where_it_is_wanted_from_then_on() {
        let (_folder, data, wal) = folders();
        assert_eq!(find(&data, Some(&wal), true).expect("free"), wal);
        assert_eq!(find(&data, Some(&wal), true).expect("a crash before the log was made"), wal);
        fill(&wal);
        for wal_dir in [Some(wal.as_path()), None] {
            assert_eq!(find(&data, wal_dir, false).expect("there"), wal);
        }
        assert_eq!(fs::read_link(data.join(LOG)).expect("a link"), wal);
        let other = wal.with_file_name("other");
        let error = find(&data, Some(&other), false).expect_err("it is elsewhere");
        assert!(matches!(&error, ServerError::LogElsewhere { now, .. } if *now == wal), "{error}");
        assert!(!other.exists());
    }

    #[test]
    fn a_log_that_is_gone_is_missed() {
        let (_folder, data, wal) = folders();
        for wal_dir in [Some(wal.as_path()), None] {
            let error = find(&data, wal_dir, false).expect_err("nowhere");
            assert!(matches!(error, ServerError::LogMissing { .. }), "{error}");
        }
        assert!(!wal.exists());
        find(&data, Some(&wal), true).expect("free");
        fill(&wal);
        // A disk that is not mounted, and one that is not even there.
        fs::rename(&wal, wal.with_file_name("away")).expect("moved");
        for empty in [false, true] {
            if empty {
                fs::create_dir_all(wal.join("lost+found")).expect("made");
            }
            for wal_dir in [Some(wal.as_path()), None] {
                let error = find(&data, wal_dir, false).expect_err("nowhere");
                assert!(matches!(&error, ServerError::LogMissing { path } if *path == wal), "{error}");
            }
        }
    }

    #[test]
    fn a_log_is_found_where_somebody_has_moved_it() {
        let (_folder, data, wal) = folders();
        let own = data.join(LOG);
        fill(&own);
        assert_eq!(find(&data, None, false).expect("there"), own);
        let error = find(&data, Some(&wal), false).expect_err("it is in the data directory");
        assert!(matches!(&error, ServerError::LogElsewhere { now, .. } if *now == own), "{error}");
        fs::rename(&own, &wal).expect("moved");
        assert_eq!(find(&data, Some(&wal), false).expect("there"), wal);

        // And on to another disk, of which the files alone are moved.
        let other = wal.with_file_name("other");
        fill(&other);
        fs::remove_file(wal.join("1.journal")).expect("moved");
        fs::write(wal.join("lock"), "").expect("left");
        assert_eq!(find(&data, Some(&other), false).expect("there"), other);
        // And back.
        fs::remove_file(&own).expect("a link");
        fs::rename(&other, &own).expect("moved");
        assert_eq!(find(&data, None, false).expect("there"), own);
        fs::remove_file(own.join("1.journal")).expect("moved");
        fs::write(own.join("lock"), "").expect("left");
        fill(&wal);
        assert_eq!(find(&data, Some(&wal), false).expect("there"), wal);
    }

    #[test]
    fn a_log_is_moved_out_before_anybody_uses_it() {
        let (_folder, data, wal) = folders();
        fill(&data.join(LOG));
        check_free(&wal).expect("nothing is there");
        move_out(&data, &wal).expect("moved");
        assert_eq!(find(&data, None, false).expect("there"), wal);
        assert!(wal.join("1.journal").exists() && check_free(&wal).is_err());
    }

    #[test]
    fn a_new_member_takes_nobodys_log() {
        let (_folder, data, wal) = folders();
        fill(&wal);
        let error = find(&data, Some(&wal), true).expect_err("taken");
        assert!(matches!(error, ServerError::LogTaken { .. }), "{error}");
        assert!(!data.join(LOG).exists());
    }
}
