//! A cluster that is bootstrapped, joined, loses members and has them replaced.

use std::{fs, path::Path, process::Command};

use client::{Get, Put};

use crate::harness::{Cluster, eventually};

/// etcd's own client, with all members' addresses.
fn etcdctl(endpoints: &str, words: &[&str]) -> String {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints]).args(words);
    let output = command.output().expect("etcdctl is installed: scripts/setup.sh test");
    assert!(output.status.success(), "etcdctl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn put(cluster: &Cluster, key: &str) {
    let client = cluster.client();
    let done = || async { client.put(Put::new(key.to_owned(), "1")).await.ok() };
    eventually(&format!("put {key}"), done).await;
}

async fn everywhere(cluster: &Cluster, keys: &[&str], members: &[usize]) {
    for &at in members {
        let client = cluster.client_of(at);
        let found = || async { client.get(Get::prefix("")).await.ok() };
        let found = eventually("a read", found).await;
        let found: Vec<_> = found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
        for key in keys {
            assert!(found.iter().any(|one| one == key), "{key} is not at {}: {found:?}", cluster.member(at).name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_join_and_the_cluster_outlives_them() {
    let mut cluster = Cluster::of_three().await;
    put(&cluster, "before").await;
    everywhere(&cluster, &["before"], &[0, 1, 2]).await;
    let listed = etcdctl(&cluster.endpoints(), &["member", "list"]);
    assert_eq!((listed.lines().count(), listed.matches("started").count()), (3, 3), "{listed}");

    // The leader is killed, and writes go on.
    let leader = cluster.leader().await;
    cluster.kill(leader);
    put(&cluster, "during").await;
    cluster.start(leader).await;
    cluster.voters(3).await;
    everywhere(&cluster, &["before", "during"], &[leader]).await;
    let health = etcdctl(&cluster.endpoints(), &["endpoint", "health"]);
    assert!(health.matches("is healthy").count() <= 3);

    // A fourth follows without a vote until it is given one.
    let line = cluster.invite(&["add", "d", "--learner"]).await.unwrap();
    let fourth = cluster.join(&line, "d").await.unwrap();
    let learner = || async {
        let report = cluster.report().await?;
        let members = report["members"].as_array()?.clone();
        members.into_iter().find(|member| member["role"] == "learner" && member["health"] == "healthy")
    };
    eventually("a learner", learner).await;
    let endpoints = cluster.endpoints();
    let promote = || async { cluster.run(&["cluster", "promote", "d", "--endpoints", &endpoints]).await.ok() };
    eventually("the learner is promoted", promote).await;
    cluster.voters(4).await;
    everywhere(&cluster, &["before", "during"], &[fourth]).await;

    // One is lost for good, and another takes its place and name.
    let lost = cluster.len() - 2;
    let name = cluster.member(lost).name.clone();
    cluster.kill(lost);
    let line = cluster.invite(&["replace", &name]).await.unwrap();
    let new = cluster.join(&line, &name).await.unwrap();
    cluster.voters(4).await;
    everywhere(&cluster, &["before", "during"], &[new]).await;

    // The lead is handed over, and then the leader itself is taken out.
    let endpoints = cluster.endpoints();
    cluster.run(&["cluster", "transfer", "d", "--endpoints", &endpoints]).await.unwrap();
    let moved = || async { (cluster.leader().await == fourth).then_some(()) };
    eventually("the lead moves", moved).await;
    cluster.run(&["cluster", "remove", "d", "--endpoints", &endpoints]).await.unwrap();
    let (code, log) = cluster.ended(fourth).await;
    assert!(code != Some(0) && log.contains("removed"), "{code:?} {log}");
    put(&cluster, "after").await;
    cluster.voters(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_was_cut_short_is_taken_up_by_the_same_line() {
    let cluster = Cluster::bootstrap().await;
    let line = cluster.invite(&["add", "c"]).await.unwrap();
    let member = cluster.stranger("c");
    let data_dir = Path::new(member.data_dir());
    // What a crash leaves whose member was let in, before the answer came to the disk: the number that it has drawn.
    let cut_short = || {
        if data_dir.exists() {
            fs::remove_dir_all(data_dir).unwrap();
        }
        fs::create_dir(data_dir).unwrap();
        fs::write(data_dir.join("joining.nonce"), [7; 32]).unwrap();
    };
    cut_short();
    let first = cluster.join_as(&line, &member).await.unwrap();
    cut_short();
    assert_eq!(cluster.join_as(&line, &member).await.unwrap(), first, "the same member");
    assert!(!data_dir.join("joining.nonce").exists());
    let refusal = cluster.join_as(&line, &cluster.stranger("c")).await.unwrap_err();
    assert!(refusal.contains("with the same --data-dir") || refusal.contains("already"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_kept_and_end_whichever_member_is_asked() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let client = cluster.client_of(follower);
    let granted = client.lease_grant(std::time::Duration::from_mins(1), None).await.unwrap();
    client.put(Put { lease: Some(granted.id), ..Put::new("leased", "1") }).await.unwrap();
    let kept = client.lease_keep_alive_once(granted.id).await.unwrap();
    assert_eq!(kept.ttl, std::time::Duration::from_mins(1));
    for at in 0..3 {
        let left = cluster.client_of(at).lease_time_to_live(granted.id, true).await.unwrap();
        assert!(left.remaining.is_some_and(|ttl| ttl > std::time::Duration::from_secs(30)), "{left:?}");
        assert_eq!(left.keys.len(), 1);
        assert_eq!(cluster.client_of(at).leases().await.unwrap().leases, [granted.id]);
    }
    let short = client.lease_grant(std::time::Duration::from_secs(2), None).await.unwrap();
    client.put(Put { lease: Some(short.id), ..Put::new("short", "1") }).await.unwrap();
    let gone = || async { client.get(Get::key("short")).await.ok().filter(|got| got.kvs.is_empty()) };
    eventually("the lease ends", gone).await;
    assert_eq!(client.get(Get::key("leased")).await.unwrap().kvs.len(), 1);
}
