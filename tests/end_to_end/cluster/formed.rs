//! A cluster that is formed, and joined, as etcd's are: by `--initial-cluster` and an operator's certificates.

use client::{Get, Put};

use crate::harness::{Cluster, eventually, peer_certificates};

#[tokio::test(flavor = "multi_thread")]
async fn three_members_form_a_cluster_by_etcds_flags_and_a_fourth_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let flags = peer_certificates(folder.path());
    let mut cluster = Cluster::formed(&["a", "b", "c"], &flags).await;
    cluster.voters(3).await;
    let client = cluster.client();
    client.put(Put::new("k", "v")).await.unwrap();
    for at in 0..3 {
        assert_eq!(cluster.client_of(at).get(Get::key("k")).await.unwrap().kvs.len(), 1);
    }

    let fourth = cluster.add_formed("d", &flags);
    let url = cluster.member(fourth).peer_url();
    client.member_add(vec![url], false).await.unwrap();
    cluster.start(fourth).await;
    cluster.voters(4).await;
    let read = || async { cluster.client_of(fourth).get(Get::key("k")).await.ok() };
    assert_eq!(eventually("a read through the fourth", read).await.kvs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_nobody_has_added_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let flags = peer_certificates(folder.path());
    let mut cluster = Cluster::formed(&["a", "b"], &flags).await;
    cluster.voters(2).await;
    let stranger = cluster.add_formed("c", &flags);
    cluster.spawn(stranger);
    let (code, log) = cluster.ended(stranger).await;
    assert!(code != Some(0) && log.contains("meshstore member add"), "{code:?} {log}");
}
