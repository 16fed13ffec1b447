//! Who may not join is told why and what to do.

use std::fs;

use crate::harness::{Cluster, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_for_one_member_of_one_name_of_one_cluster() {
    let mut cluster = Cluster::bootstrap().await;
    let line = cluster.invite(&["add", "c"]).await.unwrap();
    let token = line.split(' ').find(|word| word.starts_with("meshstore-join-")).unwrap().to_owned();

    let wrong = line.replace(&token, &format!("{token}x"));
    let refusal = cluster.join_as(&wrong, &cluster.stranger("c")).await.unwrap_err();
    assert!(refusal.contains("no such invitation") && refusal.contains("cluster add"), "{refusal}");

    let refusal = cluster.join_as(&line.replace("--name c", "--name d"), &cluster.stranger("d")).await.unwrap_err();
    assert!(refusal.contains("is for a member named c"), "{refusal}");

    let other = Cluster::bootstrap().await;
    let theirs = other.invite(&["add", "c"]).await.unwrap();
    let authority = |line: &str| line.split(' ').next_back().unwrap().to_owned();
    let foreign = line.replace(&authority(&line), &authority(&theirs));
    let refusal = cluster.join_as(&foreign, &cluster.stranger("c")).await.unwrap_err();
    assert!(refusal.contains("not of the cluster that --authority names"), "{refusal}");

    let at = cluster.join(&line, "c").await.unwrap();
    cluster.voters(2).await;
    let refusal = cluster.join_as(&line, &cluster.stranger("c")).await.unwrap_err();
    assert!(refusal.contains("member named c already") || refusal.contains("used already"), "{refusal}");
    let refusal = cluster.invite(&["add", "c"]).await.unwrap_err();
    assert!(refusal.contains("a member named c already") && refusal.contains("cluster replace"), "{refusal}");
    let refusal = cluster.join_as(&theirs, cluster.member(at)).await.unwrap_err();
    assert!(refusal.contains("already member c's"), "{refusal}");

    let expiring = cluster.invite(&["add", "e", "--ttl", "1s"]).await.unwrap();
    let expired = || async {
        let refusal = cluster.join_as(&expiring, &cluster.stranger("e")).await.err();
        refusal.filter(|refusal| refusal.contains("expired"))
    };
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    eventually("the invitation expires", expired).await;
    assert!(!fs::read_to_string(cluster.path(&log_of(&cluster, 0))).unwrap().contains(&token), "a secret in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_does_not_take_anothers_name() {
    let mut cluster = Cluster::bootstrap().await;
    let line = cluster.invite(&["add", "c"]).await.unwrap();
    let at = cluster.join(&line, "c").await.unwrap();
    cluster.voters(2).await;
    assert_eq!(cluster.stop(at).await, Some(0));
    cluster.member_mut(at).rename("a");
    cluster.spawn(at);
    let (code, said) = cluster.ended(at).await;
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("there is a member named a already") && said.contains("another name (--name)"), "{said}");

    cluster.member_mut(at).rename("d");
    cluster.start(at).await;
    let names = |report: serde_json::Value| {
        let members = report["members"].as_array().unwrap().clone();
        let mut names: Vec<_> = members.iter().map(|member| member["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let renamed = || async { cluster.report().await.map(names).filter(|names| names == &["a", "d"]) };
    eventually("its own name", renamed).await;
}

fn log_of(cluster: &Cluster, at: usize) -> String {
    let member = cluster.member(at);
    format!("{}-{}.log", member.name, member.etcd.port())
}
