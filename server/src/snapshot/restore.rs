//! A snapshot becomes a data directory.
//!
//! - All is built in a folder beside the data directory, and renamed to it when a member has started on it. A restore
//!   that was cut short leaves that folder, which the next one takes away.
//! - The member is new: a log of its own, and ids by its own addresses and token.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use ca::{Ledger, LedgerView};
use engine::{Batch, Durability, Engine};
use raft::{ClusterId, MemberId};
use store::{Load, Loaded};
use types::{Release, TrustDomain};

use super::{
    SnapshotError, io_error,
    schema::{ALARM, Entry, KEY, LEASE, Meta, is_ours, ours, owned, read_alarm, read_entry, read_lease},
    source::{Source, wrong},
    users,
};
use crate::{
    Config, Member, ServerError, log_place,
    member::{STATE, open_state},
};

/// What is restored, and to where.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The file: ours or etcd's.
    pub snapshot: PathBuf,
    /// The member that starts on it: its data directory is not there yet, or empty, as is the folder of its log, if that is
    /// named; its addresses and token make its ids.
    pub config: Config,
    /// Take a file as it is, without comparing its checksum.
    pub skip_hash_check: bool,
    /// Go on with a revision that is higher by this, and forget all before it: clients that saw later revisions of what
    /// was lost then see no revision go back.
    pub bump_revision: Option<u64>,
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The file's checksum is compared: bytes read.
    Verified(u64),
    /// Keys are written: bytes of the file, about.
    Loaded(u64),
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The store's revision.
    pub revision: i64,
    /// Writes of history.
    pub writes: u64,
    /// Writes that the same revision wrote over, and that were left out.
    pub left_out: u64,
    /// Leases.
    pub leases: usize,
    /// The trust domain whose ledger the file has. The authority's keys are in no snapshot.
    pub trust_domain: Option<TrustDomain>,
    /// The new member.
    pub member: MemberId,
    /// The new cluster.
    pub cluster: ClusterId,
}

/// Makes a data directory of a snapshot, whole or not at all. `progress` is told now and then how far it is.
///
/// # Errors
/// See [`SnapshotError`]: the data directory is then as it was.
pub async fn restore(
    restore: Restore,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Restored, SnapshotError> {
    let config = restore.config.clone();
    let blocking = tokio::task::spawn_blocking(move || {
        restore.config.wal_dir.as_deref().map_or(Ok(()), log_place::check_free).map_err(no_member)?;
        let building = Building::start(&restore.config.data_dir)?;
        let loaded = load(&restore, &building.dir, progress)?;
        Ok::<_, SnapshotError>((building, loaded))
    });
    let (building, loaded) = blocking.await.map_err(|_| SnapshotError::Interrupted)??;
    let built = Config { data_dir: building.dir.clone(), wal_dir: None, ..config.clone() };
    let member = Member::start(built).await.map_err(no_member)?;
    let restored = Restored {
        revision: loaded.revision.get(),
        writes: loaded.steps,
        left_out: loaded.left_out,
        leases: loaded.leases,
        trust_domain: trust_domain(&member.ledger())?,
        member: member.id(),
        cluster: member.cluster_id(),
    };
    // Members that join later are to have what was restored, which no log has made.
    member.forget_log().await.map_err(no_member)?;
    member.shutdown().await.map_err(no_member)?;
    if let Some(wal_dir) = &config.wal_dir {
        log_place::move_out(&building.dir, wal_dir).map_err(no_member)?;
    }
    building.finish()?;
    Ok(restored)
}

fn no_member(error: ServerError) -> SnapshotError {
    SnapshotError::Member(Box::new(error))
}

fn trust_domain(ledger: &LedgerView) -> Result<Option<TrustDomain>, SnapshotError> {
    let genesis = ledger.genesis().map_err(|error| no_member(error.into()))?;
    Ok(genesis.map(|genesis| genesis.trust_domain))
}

/// Writes the state of a member; its engine is closed again when this returns.
fn load(restore: &Restore, dir: &Path, mut progress: impl FnMut(Progress)) -> Result<Loaded, SnapshotError> {
    let verified = |bytes| progress(Progress::Verified(bytes));
    let source = Source::open(&restore.snapshot, !restore.skip_hash_check, verified)?;
    let state = open_state(dir.join(STATE)).map_err(no_member)?.engine();
    check_release(&source, restore.config.release)?;
    fill(&source, &state, restore.bump_revision, progress)
}

/// Writes what a file holds to an engine that holds nothing.
pub(crate) fn fill(
    source: &Source,
    state: &Engine,
    bump_revision: Option<u64>,
    progress: impl FnMut(Progress),
) -> Result<Loaded, SnapshotError> {
    know_all_buckets(source)?;
    let meta = source.meta()?;
    load_ours(source, state)?;
    let mut load = Load::new(state)?;
    load.auth(&users::read(source)?);
    load_leases(source, &mut load)?;
    source.visit_values(ALARM, |key, _| {
        Ok(load.alarm(read_alarm(key).ok_or_else(|| wrong(ALARM, "an entry is no alarm"))?)?)
    })?;
    let last = load_keys(source, &mut load, progress)?;
    let Meta { finished, .. } = meta;
    let compacted = match bump_revision {
        None => meta.compacted(),
        Some(bump) => Some(last.max(meta.compacted().unwrap_or(1)).saturating_add_unsigned(bump)),
    };
    Ok(load.finish(compacted, finished)?)
}

/// A cluster that is restored is a new one, whose version its members decide anew; but the file must be one that they
/// understand.
fn check_release(source: &Source, release: Release) -> Result<(), SnapshotError> {
    match source.meta()?.release {
        Some(of) if of > release => Err(SnapshotError::LaterRelease { of, release }),
        Some(_) | None => Ok(()),
    }
}

/// Leaves out nothing that a newer version knows.
fn know_all_buckets(source: &Source) -> Result<(), SnapshotError> {
    let known: Vec<String> = Ledger::SPACES.iter().map(|&space| ours(space)).collect();
    let newer = |name: &Vec<u8>| is_ours(name) && !known.iter().any(|known| known.as_bytes() == name);
    match source.buckets()?.into_iter().find(newer) {
        Some(name) => Err(SnapshotError::Newer(String::from_utf8_lossy(&name).into_owned())),
        None => Ok(()),
    }
}

fn load_leases(source: &Source, load: &mut Load<'_>) -> Result<(), SnapshotError> {
    source.visit_values(LEASE, |key, value| {
        Ok(load.lease(&read_lease(key, value).ok_or_else(|| wrong(LEASE, "an entry is no lease"))?)?)
    })
}

/// Gives the last revision that wrote.
fn load_keys(source: &Source, load: &mut Load<'_>, mut progress: impl FnMut(Progress)) -> Result<i64, SnapshotError> {
    /// Between two reports of progress.
    const REPORT_BYTES: u64 = 1 << 20;
    let (mut last, mut read, mut reported) = (1, 0, 0);
    source.visit_values(KEY, |key, value| {
        if let Entry::Step(step) = read_entry(key, value).map_err(|what| wrong(KEY, what))? {
            last = step.revision().get();
            load.step(&step)?;
        }
        read += (key.len() + value.len()) as u64;
        if read - reported >= REPORT_BYTES {
            reported = read;
            progress(Progress::Loaded(read));
        }
        Ok(())
    })?;
    Ok(last)
}

/// Row by row what etcd knows nothing of.
fn load_ours(source: &Source, state: &Engine) -> Result<(), SnapshotError> {
    const BATCH_BYTES_MAX: usize = 4 << 20;
    for &space in Ledger::SPACES {
        let mut batch = Batch::new();
        source.visit_values(&ours(space), |key, value| {
            batch.put(space, owned(key), owned(value));
            if batch.bytes() > BATCH_BYTES_MAX {
                state.write(std::mem::take(&mut batch), Durability::Buffered)?;
            }
            Ok(())
        })?;
        state.write(batch, Durability::Buffered)?;
    }
    Ok(())
}

/// The folder in which a data directory is made.
struct Building {
    data_dir: PathBuf,
    dir: PathBuf,
    finished: bool,
    /// Held by whoever builds.
    _lock: File,
}

impl Building {
    fn start(data_dir: &Path) -> Result<Self, SnapshotError> {
        if !is_free(data_dir).map_err(io_error(data_dir))? {
            return Err(SnapshotError::NotEmpty(data_dir.to_owned()));
        }
        if is_mount_point(data_dir).map_err(io_error(data_dir))? {
            return Err(SnapshotError::MountPoint(data_dir.to_owned()));
        }
        let mut name = data_dir.file_name().ok_or_else(|| SnapshotError::NotEmpty(data_dir.to_owned()))?.to_owned();
        name.push(".restoring");
        let dir = data_dir.with_file_name(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        let lock = made.and_then(|()| File::open(&dir)).map_err(io_error(&dir))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SnapshotError::Busy(data_dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io_error(&dir)(error)),
        }
        clear(&dir).map_err(io_error(&dir))?;
        Ok(Self { data_dir: data_dir.to_owned(), dir, finished: false, _lock: lock })
    }

    /// Puts the folder in its place, for good.
    fn finish(mut self) -> Result<(), SnapshotError> {
        let Self { data_dir, dir, finished, .. } = &mut self;
        let sync = |path: &Path| File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error(path));
        sync(dir)?;
        fs::rename(dir, &*data_dir).map_err(io_error(&*data_dir))?;
        *finished = true;
        sync(parent(data_dir))
    }
}

/// What was not finished is taken away.
impl Drop for Building {
    fn drop(&mut self) {
        if !self.finished {
            // The next restore to this data directory takes away what is left now.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a folder is on another file system than the folder that it is in.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    match path.metadata() {
        Ok(folder) => Ok(folder.dev() != parent(path).metadata()?.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a data directory may be made there: nothing is, or an empty folder.
fn is_free(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}
