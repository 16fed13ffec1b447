//! Snapshots between meshstore and etcd, both ways, by etcd's own programs; and our own, with the ledger.
//!
//! A store that was moved must answer what the first one answered: every key at every revision, every event since the
//! compaction, every lease, and etcd's hash of all of it.

mod programs;
mod state;

use std::{
    fs,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use self::{
    programs::{Store, meshstore, program, run},
    state::{State, work},
};
use crate::harness::{Process, eventually, free_port};

/// Writes that a store is given before it is moved.
const WRITES: usize = 400;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The path of a file in a folder, for a command line.
fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Saves what a server has, by etcdctl.
async fn save(store: &Store, file: &str) {
    run("etcdctl", &["--endpoints", &store.endpoint(), "snapshot", "save", file]).await;
}

/// A real etcd on what a file holds.
async fn etcd_of(folder: &TempDir, file: &str, name: &str) -> Store {
    let (listen, data, peer) = (free_port(), path(folder, name), format!("http://{}", free_port()));
    let cluster = format!("default={peer}");
    let members = ["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &peer];
    run("etcdutl", &[&["snapshot", "restore", file, "--data-dir", &data][..], &members].concat()).await;
    Store::etcd(folder.path(), &data, listen, &peer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_moves_to_us_and_back_with_all_of_its_history() {
    let folder = folder();
    let (saved, imported) = (path(&folder, "etcd.db"), path(&folder, "imported"));
    let before = {
        let peer = format!("http://{}", free_port());
        let etcd = Store::etcd(folder.path(), &path(&folder, "etcd"), free_port(), &peer).await;
        work(&etcd, 1, WRITES).await;
        save(&etcd, &saved).await;
        State::of(&etcd).await
    };
    run(meshstore(), &["snapshot", "import", &saved, "--data-dir", &imported]).await;
    {
        let ours = Store::meshstore(folder.path(), &imported, free_port()).await;
        State::of(&ours).await.is_that_of(&before);
        work(&ours, 2, WRITES).await;
    }
    let exported = path(&folder, "exported.db");
    run(meshstore(), &["snapshot", "export", &exported, "--data-dir", &imported]).await;
    let ours = Store::meshstore(folder.path(), &imported, free_port()).await;
    let etcd = etcd_of(&folder, &exported, "back").await;
    State::of(&etcd).await.is_that_of(&State::of(&ours).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_ours_moves_to_etcd_and_goes_on_there() {
    let folder = folder();
    let saved = path(&folder, "ours.db");
    let ours = Store::meshstore(folder.path(), &path(&folder, "ours"), free_port()).await;
    work(&ours, 3, WRITES).await;
    save(&ours, &saved).await;
    let etcd = etcd_of(&folder, &saved, "etcd").await;
    State::of(&etcd).await.is_that_of(&State::of(&ours).await);
    work(&etcd, 4, WRITES / 4).await;
    work(&ours, 4, WRITES / 4).await;
    State::of(&etcd).await.is_that_of(&State::of(&ours).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_described_as_etcdutl_describes_it() {
    let folder = folder();
    let (theirs, ours) = (path(&folder, "etcd.db"), path(&folder, "ours.db"));
    {
        let peer = format!("http://{}", free_port());
        let etcd = Store::etcd(folder.path(), &path(&folder, "etcd"), free_port(), &peer).await;
        work(&etcd, 5, WRITES).await;
        save(&etcd, &theirs).await;
        let store = Store::meshstore(folder.path(), &path(&folder, "ours"), free_port()).await;
        work(&store, 5, WRITES).await;
        save(&store, &ours).await;
    }
    for file in [&theirs, &ours] {
        let described = |output: Output| serde_json::from_slice::<Value>(&output.stdout).unwrap();
        let expected = described(run("etcdutl", &["snapshot", "status", file, "-w", "json"]).await);
        let found = described(run(meshstore(), &["snapshot", "status", file, "-w", "json"]).await);
        // Before 3.6 etcdutl counts the entries of all buckets for keys.
        for field in ["hash", "revision", "totalSize"] {
            assert_eq!(found[field], expected[field], "{field} of {file}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused_by_name() {
    let folder = folder();
    let (saved, data) = (path(&folder, "saved.db"), path(&folder, "data"));
    {
        let ours = Store::meshstore(folder.path(), &path(&folder, "ours"), free_port()).await;
        work(&ours, 6, 50).await;
        save(&ours, &saved).await;
    }
    let mut bytes = fs::read(&saved).unwrap();
    bytes[10_000] ^= 1;
    fs::write(&saved, bytes).unwrap();
    let refused = program(meshstore(), &["snapshot", "restore", &saved, "--data-dir", &data]).await;
    assert_eq!(refused.status.code(), Some(1));
    let told = format!("Error: {saved}: the snapshot is damaged: its checksum is another\n");
    assert!(text(&refused.stderr).starts_with(&told), "{refused:?}");
    assert!(!Path::new(&data).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_mesh_has_its_ledger_and_takes_its_credentials() {
    let folder = folder();
    let (data, saved) = (path(&folder, "data"), path(&folder, "saved.db"));
    let credentials = path(&folder, "credentials");
    let bootstrap = ["cluster", "bootstrap", "--data-dir", &data, "--credentials-dir", &credentials];
    run(meshstore(), &bootstrap).await;
    run(meshstore(), &["snapshot", "export", &saved, "--data-dir", &data]).await;

    let restored = path(&folder, "restored");
    let told = run(meshstore(), &["snapshot", "restore", &saved, "--data-dir", &restored]).await;
    assert!(text(&told.stdout).contains("the ledger of trust domain cluster.local"), "{told:?}");
    let etcd = etcd_of(&folder, &saved, "etcd").await;
    drop(etcd);

    for name in ["authority", "authority.kek"] {
        let (from, to) = (Path::new(&data).join(name), Path::new(&restored).join(name));
        run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]).await;
    }
    let (listen, mesh) = (format!("http://{}", free_port()), free_port().to_string());
    let flags = ["--data-dir", &restored, "--listen-client-urls", &listen, "--listen-mesh-addr", &mesh];
    let _server = Process::start("restored", meshstore(), [&["server"][..], &flags].concat(), folder.path());
    let status = ["mesh", "status", "--credentials", &credentials, "--mesh-endpoint", &mesh];
    let answered = || async { program(meshstore(), &status).await.status.success().then_some(()) };
    eventually("the mesh API with the credentials of before", answered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_member_has_its_log_where_it_is_told() {
    let folder = folder();
    let (saved, wal) = (path(&folder, "saved.db"), path(&folder, "wal"));
    let count = {
        let ours = Store::meshstore(folder.path(), &path(&folder, "ours"), free_port()).await;
        work(&ours, 7, 50).await;
        save(&ours, &saved).await;
        ours.count().await
    };
    let restore = async |data: &str| {
        program(meshstore(), &["snapshot", "restore", &saved, "--data-dir", data, "--wal-dir", &wal]).await
    };
    let (data, other) = (path(&folder, "data"), path(&folder, "other"));
    assert!(restore(&data).await.status.success());
    assert_eq!(fs::read_link(Path::new(&data).join("log")).unwrap(), fs::canonicalize(&wal).unwrap());
    let refused = restore(&other).await;
    assert!(text(&refused.stderr).contains("wal is not empty") && !Path::new(&other).exists(), "{refused:?}");
    let restored = Store::meshstore(folder.path(), &data, free_port()).await;
    assert_eq!(restored.count().await, count);
}

/// A file of etcd's form with many keys, so that a restore takes its time.
fn large_file(file: &str) {
    let mut writer = bbolt::Writer::new(fs::File::create(file).unwrap()).unwrap();
    let mut keys = writer.bucket(b"key").unwrap();
    for revision in 2..300_000_i64 {
        let key = [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
        let value = proto::mvccpb::KeyValue {
            key: revision.to_string().into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: vec![7; 100].into(),
            lease: 0,
        };
        keys.put(&key, &prost::Message::encode_to_vec(&value)).unwrap();
    }
    keys.finish().unwrap();
    writer.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_leaves_nothing_that_looks_done() {
    let folder = folder();
    let (file, data) = (path(&folder, "large.db"), path(&folder, "data"));
    large_file(&file);
    let restore = ["snapshot", "restore", &file, "--skip-hash-check", "--data-dir", &data];
    let building = folder.path().join("data.restoring");
    let mut killed = 0;
    for wait in [0, 100, 300, 600].map(Duration::from_millis) {
        let mut process = Process::start("restore", meshstore(), restore, folder.path());
        eventually("the restore's start", || async { building.exists().then_some(()) }).await;
        let started = Instant::now();
        while started.elapsed() < wait {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.kill();
        if Path::new(&data).exists() {
            // It was quicker: then it is whole.
            assert!(!building.exists());
            fs::remove_dir_all(&data).unwrap();
        } else {
            killed += 1;
        }
    }
    assert!(killed > 0, "every restore was done before it could be killed");
    run(meshstore(), &restore).await;
    assert!(!building.exists());
    let ours = Store::meshstore(folder.path(), &data, free_port()).await;
    assert_eq!(ours.count().await, 299_998);
}
