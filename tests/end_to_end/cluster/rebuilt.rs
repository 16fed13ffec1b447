//! A member whose disk is damaged, and how it is rebuilt from the others.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use client::Put;

use crate::harness::{Cluster, eventually};

/// The largest file of a folder whose name ends like this.
fn largest(folder: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == ending));
    files.max_by_key(|file| fs::metadata(file).unwrap().len()).expect("there is one")
}

/// Changes one byte.
fn flip(file: &Path, at: u64) {
    let (open, mut byte) = (File::options().read(true).write(true).open(file).unwrap(), [0]);
    open.read_exact_at(&mut byte, at).unwrap();
    open.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

async fn hash(cluster: &Cluster, at: usize) -> Option<(u32, i64)> {
    let hash = cluster.client_of(at).hash_kv(None).await.ok()?;
    Some((hash.hash, hash.revision.get()))
}

/// Damages the file that `choose` gives of a stopped member, and rebuilds the member by the command of the book.
async fn damage_and_rebuild(cluster: &mut Cluster, at: usize, choose: impl FnOnce(&Path) -> (PathBuf, u64)) -> usize {
    let (file, place) = choose(&cluster.member(at).data);
    flip(&file, place);
    cluster.spawn(at);
    let (code, log) = cluster.ended(at).await;
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_ne!(code, Some(0), "{log}");
    assert!(log.contains(name) && log.contains("cluster replace"), "{log}");
    let client = cluster.client();
    let put = || async { client.put(Put::new("meanwhile", "1")).await.ok() };
    eventually("the others serve", put).await;

    let name = cluster.member(at).name.clone();
    let line = cluster.invite(&["replace", &name]).await.unwrap();
    let at = cluster.join(&line, &name).await.unwrap();
    cluster.voters(3).await;
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_member_is_rebuilt_from_the_others_by_one_command() {
    let mut cluster = Cluster::of_three().await;
    for number in 0..50 {
        cluster.client().put(Put::new(format!("k{number:03}"), "v".repeat(2_000))).await.unwrap();
    }
    cluster.stop(2).await;
    let third = damage_and_rebuild(&mut cluster, 2, |data| (largest(&data.join("log"), "journal"), 5_000)).await;

    cluster.stop(1).await;
    // A start writes what the log of RocksDB held to tables.
    cluster.start(1).await;
    cluster.stop(1).await;
    let second = damage_and_rebuild(&mut cluster, 1, |data| (largest(&data.join("state/db-1"), "sst"), 200)).await;

    let hashes = || async {
        let (first, second, third) =
            (hash(&cluster, 0).await?, hash(&cluster, second).await?, hash(&cluster, third).await?);
        (first == second && second == third).then_some(())
    };
    eventually("equal hashes", hashes).await;
}
