//! Disks that a member refuses to start on.

use bytes::Bytes;
use engine::{Batch, Durability};

use super::{Disk, command, config};
use crate::{ClusterId, Config, MemberId, RaftError, SPACES};

const ENTRIES: usize = 0;
const META: usize = 1;

/// A log of some entries of one command each, left in order.
async fn used_disk() -> Disk {
    let disk = Disk::in_memory();
    let raft = disk.start(config()).await.unwrap();
    for number in 0..10 {
        raft.propose(command(number)).await.unwrap();
    }
    raft.shutdown().await.unwrap();
    disk
}

fn record(disk: &Disk, space: usize, key: &[u8]) -> Bytes {
    disk.log.get(SPACES[space], key).unwrap().unwrap()
}

fn put(disk: &Disk, space: usize, key: &[u8], value: Bytes) {
    let mut batch = Batch::new();
    batch.put(SPACES[space], Bytes::copy_from_slice(key), value);
    disk.log.write(batch, Durability::Synced).unwrap();
}

fn delete(disk: &Disk, space: usize, key: &[u8]) {
    let mut batch = Batch::new();
    batch.delete(SPACES[space], Bytes::copy_from_slice(key));
    disk.log.write(batch, Durability::Synced).unwrap();
}

fn flip_a_bit(record: &Bytes) -> Bytes {
    let mut bytes = record.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes.into()
}

/// The record that a member names when it refuses the disk.
async fn refused(disk: &Disk) -> String {
    match disk.start(config()).await {
        Err(RaftError::Corrupt { what, .. }) => what,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("started"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_named_and_nothing_is_cut() {
    let entry = |index: u64| index.to_be_bytes();
    let cases: [(usize, Vec<u8>, &str); 5] = [
        (ENTRIES, entry(0).to_vec(), "entry 0"),
        (ENTRIES, entry(7).to_vec(), "entry 7"),
        (META, b"vote".to_vec(), "vote"),
        (META, b"committed".to_vec(), "committed"),
        (META, b"identity".to_vec(), "identity"),
    ];
    let disk = used_disk().await;
    for (space, key, name) in cases {
        let good = record(&disk, space, &key);
        let bad = flip_a_bit(&good);
        put(&disk, space, &key, bad.clone());
        assert_eq!(refused(&disk).await, name);
        assert_eq!(record(&disk, space, &key), bad);
        put(&disk, space, &key, good);
    }
    disk.start(config()).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_record_is_noticed() {
    let disk = used_disk().await;
    let status = disk.start(config()).await.unwrap();
    let last = status.status().log_index;
    status.shutdown().await.unwrap();
    let entry = |index: u64| (ENTRIES, index.to_be_bytes().to_vec());
    let cases = [
        (entry(5), "entry 5"),
        (entry(0), "entry 0"),
        (entry(last), "log"),
        ((META, b"vote".to_vec()), "vote"),
        ((META, b"identity".to_vec()), "identity"),
    ];
    for ((space, key), name) in cases {
        let good = record(&disk, space, &key);
        delete(&disk, space, &key);
        assert_eq!(refused(&disk).await, name);
        put(&disk, space, &key, good);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_in_the_place_of_another_is_noticed() {
    let disk = used_disk().await;
    put(&disk, ENTRIES, &6u64.to_be_bytes(), record(&disk, ENTRIES, &5u64.to_be_bytes()));
    assert_eq!(refused(&disk).await, "entry 6");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_log_is_refused_to_a_member_with_state() {
    let used = used_disk().await;
    let emptied = Disk { log: Disk::in_memory().log, ..used };
    assert_eq!(refused(&emptied).await, "vote");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_somebody_else_is_refused() {
    let disk = used_disk().await;
    for foreign in [Config { cluster: ClusterId(2), ..config() }, Config { member: MemberId(2), ..config() }] {
        let refused = disk.start(foreign.clone()).await.err();
        let Some(RaftError::Foreign { cluster, member, found_cluster, found_member }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((cluster, member), (foreign.cluster, foreign.member));
        assert_eq!((found_cluster, found_member), (config().cluster, config().member));
    }
    disk.start(config()).await.unwrap().shutdown().await.unwrap();
}
