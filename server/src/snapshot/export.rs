//! A member's state becomes a file.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use bbolt::Writer;
use ca::Ledger;
use engine::{Home, Pinned, Read};
use raft::{Member, Role};
use serde_json::json;
use store::{Export, StoreError};
use tokio_util::sync::CancellationToken;
use types::Release;

use super::{
    SnapshotError,
    digest::digest,
    io_error,
    schema::{self, meta},
    users,
};
use crate::{ETCD_API_VERSION, core::Core, machine::version_of};

/// How long the end of a lease with many keys is waited for.
const SETTLE_WAIT: Duration = Duration::from_secs(30);
/// Between two looks whether it is over.
const SETTLE_POLL: Duration = Duration::from_millis(10);

/// Whose state it is, and how far its log is: etcd wants it in the file, and gives the member that is restored from it
/// an identity of its own.
#[derive(Clone, Debug)]
pub(crate) struct About {
    member: u64,
    index: u64,
    term: u64,
    members: Vec<Member>,
}

impl About {
    pub(crate) fn of(core: &Core) -> Self {
        let raft = core.raft.status();
        Self { member: core.member.0, index: raft.applied_index, term: raft.term, members: core.raft.members() }
    }
}

/// Writes the state as it is now, without a checksum, unless it is stopped before the end; gives the bytes that were
/// written. At the moments at which a lease with many keys is about to end it waits for a while.
pub(super) fn write(
    home: &Home,
    about: &About,
    stop: &CancellationToken,
    out: impl FnOnce() -> Result<File, SnapshotError>,
) -> Result<(File, u64), SnapshotError> {
    let started = Instant::now();
    loop {
        let state = home.engine();
        let pinned = state.pin();
        match Export::new(&pinned) {
            Err(StoreError::Unsettled) if started.elapsed() < SETTLE_WAIT && !stop.is_cancelled() => sleep(SETTLE_POLL),
            Err(error) => return Err(error.into()),
            Ok(export) => return write_moment(&pinned, &export, about, stop, out),
        }
    }
}

fn write_moment(
    pinned: &Pinned<'_>,
    export: &Export<'_, Pinned<'_>>,
    about: &About,
    stop: &CancellationToken,
    out: impl FnOnce() -> Result<File, SnapshotError>,
) -> Result<(File, u64), SnapshotError> {
    let mut writer = Writer::new(out()?)?;
    write_keys(export, stop, &mut writer)?;
    write_leases(export, &mut writer)?;
    write_alarms(export, &mut writer)?;
    write_meta(export, about, version_of(pinned)?, &mut writer)?;
    write_members(about, &mut writer)?;
    users::write(&export.auth()?, &mut writer)?;
    for bucket in schema::EMPTY {
        writer.bucket(bucket.as_bytes())?.finish()?;
    }
    write_ours(pinned, &mut writer)?;
    Ok(writer.finish()?)
}

fn write_keys(
    export: &Export<'_, Pinned<'_>>,
    stop: &CancellationToken,
    writer: &mut Writer<File>,
) -> Result<(), SnapshotError> {
    let mut bucket = writer.bucket(schema::KEY.as_bytes())?;
    for step in export.steps()? {
        if stop.is_cancelled() {
            return Err(SnapshotError::Interrupted);
        }
        let (key, value) = schema::entry(step?);
        bucket.put(&key, &value)?;
    }
    Ok(bucket.finish()?)
}

fn write_leases(export: &Export<'_, Pinned<'_>>, writer: &mut Writer<File>) -> Result<(), SnapshotError> {
    let mut leases: Vec<_> = export.leases()?.into_iter().map(schema::lease_entry).collect();
    // A lease may have a negative id, which is after the others in the file.
    leases.sort_unstable();
    let mut bucket = writer.bucket(schema::LEASE.as_bytes())?;
    for (key, value) in leases {
        bucket.put(&key, &value)?;
    }
    Ok(bucket.finish()?)
}

fn write_alarms(export: &Export<'_, Pinned<'_>>, writer: &mut Writer<File>) -> Result<(), SnapshotError> {
    let mut alarms: Vec<_> = export.alarms()?.into_iter().map(schema::alarm_key).collect();
    alarms.sort_unstable();
    let mut bucket = writer.bucket(schema::ALARM.as_bytes())?;
    for alarm in alarms {
        bucket.put(&alarm, &[])?;
    }
    Ok(bucket.finish()?)
}

fn write_meta(
    export: &Export<'_, Pinned<'_>>,
    about: &About,
    version: Option<Release>,
    writer: &mut Writer<File>,
) -> Result<(), SnapshotError> {
    let voters = json!({ "voters": [about.member], "auto_leave": false });
    let compaction = |revision: i64| schema::revision_key(revision, 0);
    let entries = [
        (meta::VOTERS, Some(voters.to_string().into_bytes())),
        (meta::INDEX, Some(about.index.to_be_bytes().to_vec())),
        (meta::FINISHED, export.swept().map(compaction)),
        (meta::MESHSTORE, version.map(|version| version.number().to_be_bytes().to_vec())),
        (meta::SCHEDULED, export.compacted().map(compaction)),
        (meta::STORAGE_VERSION, Some(ETCD_API_VERSION.into())),
        (meta::TERM, Some(about.term.to_be_bytes().to_vec())),
    ];
    let mut bucket = writer.bucket(schema::META.as_bytes())?;
    for (key, value) in entries {
        if let Some(value) = value {
            bucket.put(key.as_bytes(), &value)?;
        }
    }
    Ok(bucket.finish()?)
}

fn write_members(about: &About, writer: &mut Writer<File>) -> Result<(), SnapshotError> {
    let entry = |member: &Member| {
        let mut value = json!({
            "id": member.id.0,
            "peerURLs": member.node.peer_urls,
            "name": member.node.name,
            "clientURLs": member.node.client_urls,
        });
        if member.role == Role::Learner {
            value["isLearner"] = json!(true);
        }
        (member.id.to_string(), value.to_string())
    };
    let mut members: Vec<_> = about.members.iter().map(entry).collect();
    members.sort_unstable();
    let mut bucket = writer.bucket(schema::MEMBERS.as_bytes())?;
    for (key, value) in members {
        bucket.put(key.as_bytes(), value.as_bytes())?;
    }
    Ok(bucket.finish()?)
}

/// Row by row what etcd knows nothing of.
fn write_ours(pinned: &Pinned<'_>, writer: &mut Writer<File>) -> Result<(), SnapshotError> {
    for &space in Ledger::SPACES {
        let mut bucket = writer.bucket(schema::ours(space).as_bytes())?;
        pinned.walk(space, |key, value| bucket.put(key, value).map_err(SnapshotError::from))?;
        bucket.finish()?;
    }
    Ok(())
}

/// Writes the state with its checksum to a file that is there whole or not at all; gives its length.
pub(crate) fn save(state: &Home, about: &About, stop: &CancellationToken, path: &Path) -> Result<u64, SnapshotError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let building = tempfile::NamedTempFile::new_in(folder).map_err(io_error(folder))?;
    let (mut file, bytes) = write(state, about, stop, || building.reopen().map_err(io_error(path)))?;
    let signed = sign(&mut file, bytes).map_err(io_error(path))?;
    building.persist(path).map_err(|error| io_error(path)(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder))?;
    Ok(signed)
}

fn sign(file: &mut File, bytes: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let digest = digest(&mut *file, &mut |_| {})?;
    file.seek(SeekFrom::Start(bytes))?;
    file.write_all(&digest)?;
    file.sync_all()?;
    Ok(bytes + digest.len() as u64)
}

/// A file that is gone when it is closed, whatever happens.
pub(super) fn unnamed_file(folder: &Path) -> Result<File, SnapshotError> {
    fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).map_err(io_error(folder))
}
