//! Endpoints that are told by name: what DNS answers, and what becomes of traffic.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use prost::Message;
use proto::envoy::config::{
    cluster::v3::{Cluster, UpstreamConnectionOptions, cluster::DiscoveryType},
    core::v3::TcpKeepalive,
};
use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    app::{App, free_port, get, local},
    mesh::{Mesh, Proxy, eventually},
    name_server::{NameServer, Says},
    resources::{
        assignment, cluster, dns_cluster, forward, http_listener, manager, number, on_prefix, route_to, table,
        tcp_listener,
    },
};

const NAME: &str = "books.example.com";
const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A name server, two addresses of one port, and a proxy whose cluster `books` is told by name.
struct Books {
    mesh: Mesh,
    proxy: Proxy,
    names: NameServer,
    one: App,
    two: App,
    port: u16,
    _dir: TempDir,
}

impl Books {
    async fn start(kind: DiscoveryType, change: impl FnOnce(Cluster) -> Cluster, says: Says) -> Self {
        let (mesh, names, dir, port) = (Mesh::start(), NameServer::start().await, tempdir().unwrap(), free_port());
        let app_port = free_port();
        let one = App::echo_at("one", SocketAddr::from((ONE, app_port))).await;
        let two = App::echo_at("two", SocketAddr::from((TWO, app_port))).await;
        names.says(NAME, says);
        mesh.state.put("books", &change(dns_cluster("books", kind, NAME, app_port)));
        mesh.state.put("http", &http_listener("http", port, &manager("routes")));
        mesh.state.put("routes", &table("routes", vec![route_to("books")]));
        let mut config = mesh.config("client", &dir);
        config.dns_resolver = Some(names.address);
        // One worker has all idle connections.
        config.limits.workers = 1;
        let proxy = Proxy::ready(config).await;
        Self { mesh, proxy, names, one, two, port, _dir: dir }
    }

    async fn strict(says: Says) -> Self {
        Self::start(DiscoveryType::StrictDns, |cluster| cluster, says).await
    }

    /// Who answers, or the status if nobody does.
    async fn call(&self) -> String {
        let reply = get(local(self.port), "/", &[]).await.unwrap();
        if reply.status == 200 { reply.app().to_owned() } else { reply.status.to_string() }
    }

    /// Waits until exactly these answer.
    async fn answers_come_from(&self, expected: &[&str]) {
        eventually(&format!("answers come from {expected:?}"), async || {
            let mut seen = BTreeSet::new();
            for _ in 0..12 {
                seen.insert(self.call().await);
            }
            seen.iter().eq(expected)
        })
        .await;
    }

    /// What `/config_dump` tells of names in trouble.
    async fn unresolved(&self) -> serde_json::Value {
        let dump = get(self.proxy.admin, "/config_dump", &[]).await.unwrap().body;
        serde_json::from_str::<serde_json::Value>(&dump).unwrap()["unresolved"].take()
    }

    /// Waits until whatever the name server says now has been heard.
    async fn heard(&self) {
        let asked = self.names.asked();
        eventually("further questions", async || self.names.asked() > asked + 2).await;
    }
}

fn addresses(addresses: &[Ipv4Addr]) -> Says {
    Says::Addresses(addresses.to_vec(), 60)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_of_a_name_take_requests_and_follow_its_answers() {
    let books = Books::strict(addresses(&[ONE, TWO])).await;
    books.answers_come_from(&["one", "two"]).await;
    books.names.points(NAME, &[TWO]);
    books.answers_come_from(&["two"]).await;
    books.names.points(NAME, &[TWO, ONE]);
    books.answers_come_from(&["one", "two"]).await;
    assert!(books.one.hits() > 0 && books.two.hits() > 0);
    assert_eq!(*books.mesh.state.rejections.lock().unwrap(), Vec::<String>::new());
    books.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_name_server_takes_nothing_away_and_is_told_of() {
    let books = Books::strict(addresses(&[ONE])).await;
    books.answers_come_from(&["one"]).await;
    assert_eq!(books.unresolved().await, serde_json::json!([]));

    books.names.says(NAME, Says::Fails);
    eventually("the failure is shown", async || books.unresolved().await[0]["name"] == NAME).await;
    assert_eq!(books.unresolved().await[0]["cluster"], "books");
    let metrics = books.proxy.metrics().await;
    assert!(metrics.contains("meshstore_dns_unresolved 1"), "{metrics}");
    assert!(!metrics.contains("meshstore_dns_failures_total 0"), "{metrics}");
    books.heard().await;
    assert_eq!(books.call().await, "one");

    books.names.points(NAME, &[TWO]);
    books.answers_come_from(&["two"]).await;
    eventually("the failure is over", async || books.unresolved().await == serde_json::json!([])).await;

    // That there is no such name is an answer.
    books.names.forget(NAME);
    books.answers_come_from(&["503"]).await;
    books.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_fails_at_first_is_served_once_it_resolves() {
    // The proxy gets ready without it.
    let books = Books::strict(Says::Fails).await;
    assert_eq!(books.call().await, "503");
    books.names.points(NAME, &[ONE]);
    books.answers_come_from(&["one"]).await;
    books.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_holds_for_its_time_to_live() {
    #[expect(deprecated, reason = "control planes still send the old forms")]
    let heeding = |cluster| Cluster {
        respect_dns_ttl: true,
        dns_refresh_rate: Some(proto::google::protobuf::Duration { seconds: 3_600, nanos: 0 }),
        ..cluster
    };
    let books = Books::start(DiscoveryType::StrictDns, heeding, Says::Addresses(vec![ONE], 1)).await;
    books.answers_come_from(&["one"]).await;
    books.names.says(NAME, Says::Addresses(vec![TWO], 3_600));
    books.answers_come_from(&["two"]).await;
    // The new answer holds for an hour.
    let asked = books.names.asked();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(books.names.asked(), asked);
    books.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logical_endpoint_moves_and_keeps_the_connections_it_has() {
    let books = Books::start(DiscoveryType::LogicalDns, |cluster| cluster, addresses(&[ONE, TWO])).await;
    books.answers_come_from(&["one"]).await;
    books.names.points(NAME, &[TWO, ONE]);
    books.heard().await;
    assert_eq!(books.call().await, "one");
    // Not even a name that is gone ends them.
    books.names.forget(NAME);
    books.heard().await;
    assert_eq!(books.call().await, "one");
    let Books { one, proxy, port, .. } = books;
    drop(one);
    eventually("a new connection goes to the new address", async || {
        get(local(port), "/", &[]).await.unwrap().app() == "two"
    })
    .await;
    proxy.stop().await;
}

/// Says who it is, then gives back what it gets.
async fn greeter(name: [u8; 3], address: SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                stream.write_all(&name).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    })
}

async fn greeted(port: u16) -> (TcpStream, [u8; 3]) {
    let mut stream = TcpStream::connect(local(port)).await.unwrap();
    let mut name = [0; 3];
    stream.read_exact(&mut name).await.unwrap();
    (stream, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tcp_connections_of_a_logical_endpoint_go_where_its_name_points_now() {
    let books = Books::start(DiscoveryType::LogicalDns, |cluster| cluster, addresses(&[ONE])).await;
    let (db, port) = (free_port(), free_port());
    let _one = greeter(*b"one", SocketAddr::from((ONE, db))).await;
    let _two = greeter(*b"two", SocketAddr::from((TWO, db))).await;
    books.mesh.state.put("db", &dns_cluster("db", DiscoveryType::LogicalDns, NAME, db));
    eventually("its cluster serves", async || {
        get(books.proxy.admin, "/config_dump", &[]).await.unwrap().body.contains("\"name\": \"db\"")
    })
    .await;
    books.mesh.state.put("tcp", &tcp_listener("tcp", port, &[("db", 1)]));
    eventually("the listener is there", async || TcpStream::connect(local(port)).await.is_ok()).await;
    let (mut old, name) = greeted(port).await;
    assert_eq!(&name, b"one");
    books.names.points(NAME, &[TWO]);
    eventually("a new connection goes to the new address", async || &greeted(port).await.1 == b"two").await;
    old.write_all(b"still").await.unwrap();
    let mut echoed = [0; 5];
    old.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"still");
    drop(old);
    books.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_any_answer_holds_routes_back_only_for_a_while() {
    let books = Books::strict(addresses(&[ONE])).await;
    books.names.says("silent.example.com", Says::Nothing);
    books.mesh.state.put("silent", &dns_cluster("silent", DiscoveryType::StrictDns, "silent.example.com", 80));
    books.mesh.state.put("two", &cluster("two"));
    books.mesh.state.put("two", &assignment("two", &[books.two.address]));
    let routes = vec![on_prefix("/silent", forward("silent")), route_to("two")];
    books.mesh.state.put("routes", &table("routes", routes));
    books.answers_come_from(&["two"]).await;
    assert_eq!(get(local(books.port), "/silent", &[]).await.unwrap().status, 503);
    books.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_for_the_names_of_a_cluster_that_is_gone() {
    let books = Books::strict(addresses(&[ONE])).await;
    // While a route names it, it serves, and its name is followed.
    books.mesh.state.delete::<Cluster>("books");
    books.names.points(NAME, &[TWO]);
    books.answers_come_from(&["two"]).await;
    books.mesh.state.put("other", &cluster("other"));
    books.mesh.state.put("other", &assignment("other", &[books.one.address]));
    books.mesh.state.put("routes", &table("routes", vec![route_to("other")]));
    books.answers_come_from(&["one"]).await;
    eventually("no more questions", async || {
        let asked = books.names.asked();
        tokio::time::sleep(Duration::from_millis(300)).await;
        books.names.asked() == asked
    })
    .await;
    books.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_control_plane_compiles_of_hosts_by_name_is_taken() {
    let books = Books::strict(addresses(&[ONE])).await;
    for (name, count) in [("named", 2), ("a", 1), ("b", 1), ("c", 2)] {
        books.names.points(&format!("{name}.example.com"), &[ONE, TWO][..count]);
    }
    let compiled = concat!(env!("CARGO_MANIFEST_DIR"), "/../control/testdata/dns-clusters.binpb");
    let compiled = std::fs::read(compiled).unwrap();
    let mut compiled = &compiled[..];
    while !compiled.is_empty() {
        let cluster = Cluster::decode_length_delimited(&mut compiled).unwrap();
        books.mesh.state.put(&cluster.name, &cluster);
    }
    eventually("all are served", async || {
        let dump = get(books.proxy.admin, "/config_dump", &[]).await.unwrap().body;
        let dump: serde_json::Value = serde_json::from_str(&dump).unwrap();
        let clusters = dump["serving"]["clusters"].as_array().unwrap();
        [
            ("outbound|80||named.example.com", 2),
            ("outbound|443||pooled.example.com", 1),
            ("outbound|80||turning.example.com", 1),
            ("outbound|80|none|turning.example.com", 0),
        ]
        .iter()
        .all(|(name, count)| clusters.iter().any(|one| one["name"] == *name && one["endpoints"] == *count))
    })
    .await;
    assert_eq!(*books.mesh.state.rejections.lock().unwrap(), Vec::<String>::new());
    books.proxy.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_connection_is_probed_as_its_cluster_says() {
    let keepalive = |cluster| {
        let tcp_keepalive = Some(TcpKeepalive {
            keepalive_probes: number(3),
            keepalive_time: number(30),
            keepalive_interval: number(5),
        });
        let options = UpstreamConnectionOptions { tcp_keepalive, ..Default::default() };
        Cluster { upstream_connection_options: Some(options), ..cluster }
    };
    let books = Books::start(DiscoveryType::StrictDns, keepalive, addresses(&[ONE])).await;
    books.answers_come_from(&["one"]).await;
    let port = books.one.address.port();
    eventually("the kernel's keepalive timer runs", async || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().any(|line| keepalive_timer_runs(line, port))
    })
    .await;
    books.proxy.stop().await;
}

/// Reads a line of /proc/net/tcp: number, local and remote address, state, queues, timer.
#[cfg(target_os = "linux")]
fn keepalive_timer_runs(line: &str, remote_port: u16) -> bool {
    let fields: Vec<_> = line.split_whitespace().collect();
    let remote = fields[2].rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
    remote == Some(remote_port) && fields[3] == "01" && fields[5].starts_with("02:")
}
