//! A disk that is full, damaged, or both, and real: what was acknowledged is never lost, and the member says what is wrong.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use meshstore_server::{Config, Member, ServerError};
use proto::etcdserverpb::{
    self as pb, AlarmType, alarm_request::AlarmAction, kv_client::KvClient, maintenance_client::MaintenanceClient,
};
use tempfile::TempDir;
use tonic::{Code, Status, service::Routes};

use crate::ability::{Ability, pass_over};

/// A file system in memory, of its own size; unmounted when this is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where the machine does not let us mount, which is said.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=256m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        pass_over(Ability::MOUNT, "a small disk cannot be mounted here");
        None
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Takes room until the file is removed: at most so many MiB, or all that is left.
    fn fill(&self, mebibytes_max: usize) -> PathBuf {
        let path = self.0.path().join("of-others");
        let mut file = File::create(&path).expect("made");
        let mut piece = vec![1; 1 << 20];
        for _ in 0..mebibytes_max {
            while file.write_all(&piece).is_err() && !piece.is_empty() {
                piece.truncate(piece.len() / 2);
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

async fn start(data_dir: PathBuf) -> Result<Member, ServerError> {
    Member::start(Config { data_dir, ..Config::default() }).await
}

fn kv(member: &Member) -> KvClient<Routes> {
    KvClient::new(member.routes())
}

async fn put(member: &Member, key: &str, value: Vec<u8>) -> Result<(), Status> {
    let request = pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() };
    kv(member).put(request).await.map(drop)
}

async fn get(member: &Member, key: &str) -> Result<Option<Vec<u8>>, Status> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let kvs = kv(member).range(request).await?.into_inner().kvs;
    Ok(kvs.first().map(|kv| kv.value.to_vec()))
}

async fn alarms(member: &Member, action: AlarmAction) -> Vec<AlarmType> {
    let request =
        pb::AlarmRequest { action: action.into(), member_id: member.id().0, alarm: AlarmType::Nospace.into() };
    let answer = MaintenanceClient::new(member.routes()).alarm(request).await.expect("alarms can be asked and changed");
    answer.into_inner().alarms.iter().map(pb::AlarmMember::alarm).collect()
}

/// A value that does not get shorter by compression.
fn value(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..256 << 10).map(next).collect()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.expect(what)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_grows_and_all_else_goes_on() {
    let Some(disk) = SmallDisk::mount() else { return };
    let of_others = disk.fill(64);
    let member = start(disk.data()).await.expect("it starts");
    let mut written = 0;
    let refused = loop {
        match put(&member, &format!("k{written}"), value(written)).await {
            Ok(()) => written += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(written > 20, "{written}");
    assert_eq!(alarms(&member, AlarmAction::Get).await, [AlarmType::Nospace]);
    for number in 0..written {
        assert_eq!(get(&member, &format!("k{number}")).await.expect("reads go on"), Some(value(number)));
    }

    let all = pb::DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let deleted = kv(&member).delete_range(all).await.expect("deletes go on").into_inner();
    assert_eq!(deleted.deleted, i64::try_from(written).expect("few"));
    let revision = deleted.header.expect("one").revision;
    kv(&member).compact(pb::CompactionRequest { revision, physical: true }).await.expect("compaction goes on");
    fs::remove_file(of_others).expect("removed");
    soon("there is room again", async {
        loop {
            alarms(&member, AlarmAction::Deactivate).await;
            if put(&member, "again", vec![1]).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    member.shutdown().await.expect("it stops");
    let member = start(disk.data()).await.expect("it starts");
    assert_eq!(get(&member, "again").await.expect("readable"), Some(vec![1]));
    assert_eq!(get(&member, "k0").await.expect("readable"), None);
    member.shutdown().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_others_fill_to_the_last_byte_stops_the_member_and_costs_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount() else { return };
    let member = start(disk.data()).await.expect("it starts");
    for number in 0..20 {
        put(&member, &format!("k{number}"), value(number)).await.expect("there is room");
    }
    let of_others = disk.fill(256);
    // Deletes pass the guard; long ones use up what RocksDB had set aside.
    let mut deleted = 0;
    let failure = soon("the disk is full", async {
        loop {
            let key = [b"x".repeat(1 << 20), deleted.to_string().into_bytes()].concat();
            let all = pb::DeleteRangeRequest { key: key.into(), ..Default::default() };
            if let Err(status) = kv(&member).delete_range(all).await {
                break status;
            }
            deleted += 1;
        }
    })
    .await;
    let fatal = soon("the member says why it stops", member.fatal()).await;
    let text = format!("{fatal} {fatal:?}");
    assert!(text.contains("No space left on device"), "{failure}: {text}");
    let _stopped_before = member.shutdown().await.is_err();

    fs::remove_file(of_others).expect("removed");
    let member = start(disk.data()).await.expect("it starts again");
    for number in 0..20 {
        assert_eq!(get(&member, &format!("k{number}")).await.expect("readable"), Some(value(number)));
    }
    alarms(&member, AlarmAction::Deactivate).await;
    put(&member, "again", vec![1]).await.expect("there is room");
    member.shutdown().await.expect("it stops");
}

/// A member's data directory with some keys.
async fn filled() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let member = start(dir.path().join("data")).await.expect("it starts");
    for number in 0..200 {
        put(&member, &format!("k{number:03}"), vec![7; 2000]).await.expect("put");
    }
    member.shutdown().await.expect("it stops");
    dir
}

/// The largest file of that ending.
fn largest(folder: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(folder).expect("there").map(|entry| entry.expect("readable").path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == ending));
    files.max_by_key(|path| fs::metadata(path).expect("there").len()).expect("a file")
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("within the file");
    file.write_all_at(&[!byte[0]], at).expect("written");
}

fn expect_advice(error: &ServerError, file: &Path) {
    let (text, name) = (error.to_string(), file.file_name().expect("a file").to_string_lossy());
    assert!(matches!(error, ServerError::Damaged(_)), "{text}");
    assert!(text.contains(&*name), "{text} does not name {name}");
    assert!(text.contains("meshstore cluster replace"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_a_damaged_disk_refuses_to_start_and_says_what_to_do() {
    for (part, ending) in [("log", "journal"), ("state/db-1", "log")] {
        let dir = filled().await;
        let file = largest(&dir.path().join("data").join(part), ending);
        flip(&file, 5000);
        let error = start(dir.path().join("data")).await.expect_err("it is damaged");
        expect_advice(&error, &file);
        let again = start(dir.path().join("data")).await.expect_err("nothing was cut or skipped");
        expect_advice(&again, &file);
    }
    let dir = filled().await;
    // A start writes what the log of RocksDB held to tables.
    start(dir.path().join("data")).await.expect("it starts").shutdown().await.expect("it stops");
    let file = largest(&dir.path().join("data/state/db-1"), "sst");
    flip(&file, 200);
    let error = start(dir.path().join("data")).await.expect_err("it is damaged");
    expect_advice(&error, &file);
    flip(&file, 200);
    start(dir.path().join("data")).await.expect("it is whole again").shutdown().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_met_while_it_runs_stops_the_member() {
    let dir = filled().await;
    let mut config = Config { data_dir: dir.path().join("data"), ..Config::default() };
    // Nothing of what is written is kept in memory for reads.
    config.store.recent_bytes_max = 1;
    let member = Member::start(config).await.expect("it starts");
    for number in 0..200 {
        put(&member, &format!("n{number:03}"), value(number)).await.expect("put");
    }
    let tables = || {
        let files = fs::read_dir(dir.path().join("data/state/db-1")).expect("there");
        let files = files.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        files.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect::<Vec<_>>()
    };
    let bytes_of = |table: &PathBuf| fs::metadata(table).map_or(0, |table| table.len());
    soon("the first ones are in a table", async {
        while !tables().iter().any(|table| bytes_of(table) > 16 << 20) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for table in tables() {
        let bytes = bytes_of(&table);
        (0..bytes / 4096).for_each(|page| flip(&table, page * 4096 + 100));
    }
    soon("a read meets the damage", async {
        for number in (0..200).cycle() {
            if get(&member, &format!("n{number:03}")).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let fatal = soon("the member says why it stops", member.fatal()).await;
    assert!(matches!(fatal, ServerError::Damaged(_)), "{fatal}");
    assert!(fatal.to_string().contains(".sst") && fatal.to_string().contains("meshstore cluster replace"), "{fatal}");
    let _stopped_before = member.shutdown().await.is_err();
}
