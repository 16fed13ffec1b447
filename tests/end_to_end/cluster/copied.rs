//! Members whose data directories were put back from a copy.

use std::{path::Path, process::Command};

use client::{Get, Put};

use crate::harness::{Cluster, eventually};

/// `cp -a`.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Puts back a copy of a member's data directory; what the member says when it stops.
async fn put_back(cluster: &mut Cluster, at: usize, copy: &Path) -> String {
    let data = cluster.member(at).data.clone();
    let before = data.with_extension("before");
    std::fs::rename(&data, &before).unwrap();
    self::copy(copy, &data);
    cluster.spawn(at);
    let (code, log) = cluster.ended(at).await;
    assert_ne!(code, Some(0), "{log}");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&before, &data).unwrap();
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_refused_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of_three().await;
    let (stopped, running) =
        (Path::new(&cluster.path("stopped")).to_owned(), Path::new(&cluster.path("running")).to_owned());
    cluster.client().put(Put::new("k", "1")).await.unwrap();
    cluster.stop(2).await;
    copy(&cluster.member(2).data, &stopped);
    cluster.start(2).await;
    cluster.voters(3).await;
    cluster.stop(1).await;
    let put = || async { cluster.client().put(Put::new("x", "acknowledged")).await.ok() };
    eventually("a put on two members", put).await;
    cluster.kill(0);
    cluster.kill(2);
    cluster.spawn(1);
    let log = put_back(&mut cluster, 2, &stopped).await;
    assert!(log.contains("had another start") && log.contains("cluster replace"), "{log}");
    assert!(cluster.client().put(Put::new("y", "1")).await.is_err(), "one of three is no quorum");

    cluster.start(0).await;
    let client = cluster.client_of(1);
    let read = || async { client.get(Get::key("x")).await.ok() };
    assert_eq!(eventually("a read", read).await.kvs.len(), 1, "what was acknowledged is there");
    cluster.start(2).await;
    cluster.voters(3).await;

    // The leader knows what it has acknowledged.
    copy(&cluster.member(2).data, &running);
    for number in 0..10 {
        cluster.client().put(Put::new(format!("k{number}"), "1")).await.unwrap();
    }
    cluster.client_of(2).get(Get::key("k9")).await.unwrap();
    cluster.kill(2);
    let log = put_back(&mut cluster, 2, &running).await;
    assert!(log.contains("this is an older copy of it") && log.contains("cluster replace"), "{log}");

    let name = cluster.member(2).name.clone();
    let line = cluster.invite(&["replace", &name]).await.unwrap();
    cluster.join(&line, &name).await.unwrap();
    cluster.voters(3).await;
}
