//! Members that have something else than the others, where no checksum notices.

use std::path::Path;

use ca::Ledger;
use client::{Get, Put};
use engine::{Batch, Durability, Home, Options, Read, Space};
use store::Store;

use crate::harness::{Cluster, eventually};

/// Writes `to` in each row of a stopped member's keys that says `from`, which is as long. The checksums will be right.
pub(super) fn rewrite(data: &Path, from: &[u8], to: &[u8]) {
    let spaces = [Store::SPACES, Ledger::SPACES, &[Space::new("raft")]].concat();
    let home = Home::open(&data.join("state"), &spaces, &Options::default()).unwrap();
    let (engine, mut batch) = (home.engine(), Batch::new());
    let mut rewritten = 0;
    for &space in Store::SPACES {
        for (key, mut value) in engine.rows(space).unwrap() {
            if let Some(at) = value.windows(from.len()).position(|part| part == from) {
                value[at..at + to.len()].copy_from_slice(to);
                batch.put(space, key, value);
                rewritten += 1;
            }
        }
    }
    assert!(rewritten > 0, "nothing says so");
    engine.write(batch, Durability::Synced).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_other_keys_is_named_by_the_alarm() {
    let mut cluster = Cluster::of_three().await;
    cluster.client().put(Put::new("k", "as it was written")).await.unwrap();
    cluster.client_of(2).get(Get::key("k")).await.unwrap();
    for at in [0, 1, 2] {
        cluster.stop(at).await;
        cluster.member_mut(at).add_flag("--corrupt-check-time=200ms");
        if at == 2 {
            rewrite(&cluster.member(2).data, b"as it was written", b"as it was made up");
        }
        cluster.start(at).await;
        if at != 2 {
            cluster.voters(3).await;
        }
    }

    let name = cluster.member(2).name.clone();
    let endpoints = cluster.endpoints();
    let listed = cluster.run(&["member", "list", "--endpoints", &endpoints]).await.unwrap();
    let id = listed.lines().find(|line| line.contains(&format!(", {name},"))).and_then(|line| line.split(',').next());
    let id = u64::from_str_radix(id.unwrap(), 16).unwrap();
    let alarms = || async {
        let listed = cluster.run(&["alarm", "list", "--endpoints", &endpoints]).await.ok()?;
        Some(listed).filter(|listed| !listed.trim().is_empty())
    };
    assert_eq!(eventually("an alarm", alarms).await.trim(), format!("memberID:{id} alarm:CORRUPT"));
    let refused = cluster.client().put(Put::new("k", "something else")).await.unwrap_err();
    assert!(refused.to_string().contains("corrupt cluster"), "{refused}");

    cluster.stop(2).await;
    let line = cluster.invite(&["replace", &name]).await.unwrap();
    cluster.join(&line, &name).await.unwrap();
    cluster.run(&["alarm", "disarm", "--endpoints", &cluster.endpoints()]).await.unwrap();
    cluster.voters(3).await;
    let read = cluster.client().get(Get::key("k")).await.unwrap();
    assert_eq!(read.kvs[0].value, "as it was written");
}
