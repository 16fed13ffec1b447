//! Clusters of five and seven outlive the loss of just under half of their members. With one more lost, they wait.

use std::collections::BTreeSet;

use client::{Client, Get, Put};
use futures_util::future::join_all;

use super::load::Load;
use crate::harness::{Cluster, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn five_members_outlive_two() {
    let mut cluster = Cluster::of(5).await;
    outlives(&mut cluster, 2).await;
    waits_for_a_quorum(&mut cluster, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_members_outlive_three_and_shrink_to_five() {
    let mut cluster = Cluster::of(7).await;
    outlives(&mut cluster, 3).await;
    waits_for_a_quorum(&mut cluster, 4).await;

    let before = keys(&cluster.client()).await;
    for (at, voters) in [(6, 6), (5, 5)] {
        let name = cluster.member(at).name.clone();
        cluster.run(&["cluster", "remove", &name, "--endpoints", &cluster.endpoints()]).await.unwrap();
        cluster.ended(at).await;
        cluster.voters(voters).await;
    }
    assert_eq!(keys(&cluster.client()).await, before);
}

/// SIGKILL of the leader and others, all at once; gives who they are.
async fn lose(cluster: &mut Cluster, count: usize) -> Vec<usize> {
    let (leader, members) = (cluster.leader().await, cluster.len());
    let lost: Vec<_> = (0..count).map(|step| (leader + step) % members).collect();
    for at in &lost {
        cluster.kill(*at);
    }
    lost
}

/// Starts members that were lost; returns when all are well and have the same.
async fn whole_again(cluster: &mut Cluster, lost: &[usize]) {
    for at in lost {
        cluster.start(*at).await;
    }
    cluster.voters(cluster.len()).await;
    let endpoints = cluster.endpoints();
    let same = || async {
        let hashes = cluster.run(&["endpoint", "hashkv", "--endpoints", &endpoints]).await.ok()?;
        let hashes: Vec<_> = hashes.lines().filter_map(|line| line.split(", ").nth(1)).collect();
        (hashes.len() == cluster.len() && hashes.iter().all(|hash| *hash == hashes[0])).then_some(())
    };
    eventually("equal hashes", same).await;
}

/// Clients go on while so many are lost, and nothing is lost that was acknowledged.
async fn outlives(cluster: &mut Cluster, count: usize) {
    let load = Load::start(cluster);
    load.more(200).await;
    let lost = lose(cluster, count).await;
    load.more(200).await;
    let report = cluster.report().await.unwrap();
    assert_eq!(report["votersAnswering"], cluster.len() - count);
    for at in &lost {
        cluster.start(*at).await;
    }
    load.more(200).await;
    load.end(cluster).await;
    whole_again(cluster, &[]).await;
}

/// With so many lost nobody writes, and nobody is told what may be stale but who asks for that.
async fn waits_for_a_quorum(cluster: &mut Cluster, count: usize) {
    let before = keys(&cluster.client()).await;
    let lost = lose(cluster, count).await;
    let left: Vec<_> = (0..cluster.len()).filter(|at| !lost.contains(at)).collect();
    join_all(left.iter().map(|at| refuses(cluster.client_of(*at), &before))).await;

    whole_again(cluster, &lost).await;
    let after = keys(&cluster.client()).await;
    assert!(after.is_superset(&before), "lost: {:?}", before.difference(&after).collect::<Vec<_>>());
}

/// One of too few members.
async fn refuses(client: Client, before: &BTreeSet<Vec<u8>>) {
    let written = client.put(Put::new("without a quorum", "1")).await;
    assert!(written.is_err(), "{written:?} was acknowledged");
    let read = client.get(Get { limit: Some(1), ..Get::prefix("") }).await;
    assert!(read.is_err(), "{read:?} was answered");
    let stale = client.get(Get { serializable: true, ..Get::prefix("") }).await.unwrap();
    let stale: BTreeSet<_> = stale.kvs.into_iter().map(|kv| kv.key.to_vec()).collect();
    assert_eq!(stale, *before);
}

async fn keys(client: &Client) -> BTreeSet<Vec<u8>> {
    let read = || async { client.get(Get::prefix("")).await.ok() };
    eventually("a read", read).await.kvs.into_iter().map(|kv| kv.key.to_vec()).collect()
}
