//! Members that lost the others, or their own disk.

use std::net::SocketAddr;

use client::Put;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Cluster, Process, eventually};

async fn page(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_a_member_names_no_leader_and_lets_clients_go() {
    let mut cluster = Cluster::of_three().await;
    let (left, folder) = (cluster.leader().await, tempfile::tempdir().unwrap());
    let address = cluster.member(left).etcd;
    // etcdctl watches where there is a leader.
    let flags = [&format!("--endpoints={address}"), "watch", "k"];
    let watching = std::sync::Mutex::new(Process::start("watch", "etcdctl", flags, folder.path()));
    // It takes a moment to start.
    let writer = cluster.client();
    let event = || async {
        writer.put(Put::new("k", "seen")).await.unwrap();
        watching.lock().unwrap().log().contains("seen").then_some(())
    };
    eventually("an event", event).await;
    assert!(page(address, "/metrics").await.contains("\netcd_server_has_leader 1\n"));
    for other in (0..3).filter(|other| *other != left) {
        cluster.kill(other);
    }

    let unhealthy = || async { page(address, "/health").await.contains("RAFT NO LEADER").then_some(()) };
    eventually("no leader", unhealthy).await;
    let metrics = page(address, "/metrics").await;
    assert!(metrics.contains("\netcd_server_has_leader 0\n") && metrics.contains("\netcd_server_is_leader 0\n"));
    let status = cluster.client_of(left).status().await.unwrap();
    assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_owned()]));
    eventually("the end of the watch", || async { watching.lock().unwrap().ended() }).await;
    let told = watching.lock().unwrap().log();
    assert!(told.contains("etcdserver: no leader"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_disk_founds_nothing() {
    let cluster = Cluster::bootstrap().await;
    let empty = cluster.path("empty");
    let told = ["server", "--data-dir", &empty, "--initial-cluster-state", "existing"];
    let refusal = cluster.run(&told).await.unwrap_err();
    assert!(refusal.contains("is nobody's") && refusal.contains("cluster replace"), "{refusal}");
    assert!(!std::path::Path::new(&empty).join("state").exists());
}
