//! A member that goes on alone when the quorum is lost for good: `--force-new-cluster`.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use client::{Client, Get, Put};
use tokio::task::JoinSet;
use types::Revision;

use crate::harness::{Cluster, eventually};

const FORCE: &str = "--force-new-cluster";
const WRITERS: usize = 4;

/// Puts one key after another, and takes note of each that was acknowledged.
async fn write(client: Client, writer: usize, acknowledged: Arc<Mutex<BTreeSet<String>>>) {
    for number in 0.. {
        let key = format!("{writer}/{number:06}");
        if client.put(Put::new(key.clone(), key.clone())).await.is_ok() {
            acknowledged.lock().unwrap().insert(key);
        }
    }
}

/// What a member has, whatever the others may have.
async fn had(cluster: &Cluster, at: usize) -> BTreeSet<String> {
    let (client, get) = (cluster.client_of(at), Get { serializable: true, ..Get::prefix("") });
    let read = || async { client.get(get.clone()).await.ok() };
    let found = eventually("a read", read).await;
    found.kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

async fn hash(cluster: &Cluster, at: usize, revision: Option<Revision>) -> Option<(u32, Revision)> {
    let hash = cluster.client_of(at).hash_kv(revision).await.ok()?;
    Some((hash.hash, hash.revision))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_member_that_is_left_goes_on_with_all_that_it_had() {
    let mut cluster = Cluster::of_three().await;
    let left = (cluster.leader().await + 1) % 3;
    let lost: Vec<_> = (0..3).filter(|at| *at != left).collect();
    let (acknowledged, mut writers) = (Arc::<Mutex<BTreeSet<String>>>::default(), JoinSet::new());
    for writer in 0..WRITERS {
        writers.spawn(write(cluster.client(), writer, Arc::clone(&acknowledged)));
    }
    eventually("a load", || async { (acknowledged.lock().unwrap().len() > 300).then_some(()) }).await;
    let promised = acknowledged.lock().unwrap().clone();
    // A linearizable read: it has them all from here on.
    cluster.client_of(left).get(Get::key("0/000000")).await.unwrap();
    for at in &lost {
        cluster.kill(*at);
    }
    writers.shutdown().await;
    let before = had(&cluster, left).await;
    assert!(promised.is_subset(&before));
    let (hashed, revision) = eventually("a hash", || hash(&cluster, left, None)).await;
    cluster.kill(left);

    cluster.member_mut(left).add_flag(FORCE);
    cluster.start(left).await;
    let report = cluster.voters(1).await;
    let said = cluster.member_mut(left).process().unwrap().log();
    for at in &lost {
        let name = &cluster.member(*at).name;
        assert!(said.contains("forced to go on as the only member") && said.contains(&format!("({name})")), "{said}");
    }
    assert_eq!(report["members"][0]["name"].as_str(), Some(cluster.member(left).name.as_str()));
    cluster.client().put(Put::new("after", "1")).await.unwrap();
    let now = had(&cluster, left).await;
    assert!(before.is_subset(&now) && now.contains("after"));
    let same = eventually("a hash", || hash(&cluster, left, Some(revision))).await;
    assert_eq!(same.0, hashed, "what was there is as it was");

    // Together they are a quorum of the cluster that was.
    for at in &lost {
        cluster.spawn(*at);
    }
    for at in &lost {
        let (code, said) = cluster.ended(*at).await;
        assert!(code != Some(0) && said.contains("was removed from the cluster"), "{code:?} {said}");
    }
    cluster.client_of(left).put(Put::new("undisturbed", "1")).await.unwrap();

    let line = cluster.invite(&["add", "new"]).await.unwrap();
    let new = cluster.join(&line, "new").await.unwrap();
    cluster.voters(2).await;
    let equal = || async {
        let (first, second) = (hash(&cluster, left, None).await?, hash(&cluster, new, None).await?);
        (first == second).then_some(())
    };
    eventually("equal hashes", equal).await;
    assert!(before.is_subset(&had(&cluster, new).await));

    // The flag was left where it stood.
    cluster.kill(left);
    cluster.spawn(left);
    let (code, said) = cluster.ended(left).await;
    assert!(code != Some(0) && said.contains("others have joined since"), "{code:?} {said}");
    cluster.member_mut(left).remove_flag(FORCE);
    cluster.start(left).await;
    cluster.voters(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_forced_where_nobody_is() {
    let cluster = Cluster::bootstrap().await;
    let empty = cluster.path("empty");
    let refusal = cluster.run(&["server", "--data-dir", &empty, FORCE]).await.unwrap_err();
    assert!(refusal.contains("is nobody's") && refusal.contains("--data-dir"), "{refusal}");
    assert!(!std::path::Path::new(&empty).join("state").exists());
}
