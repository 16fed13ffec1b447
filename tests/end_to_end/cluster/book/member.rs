//! Part one: a member on the first host.

use client::{Client, Config, Put};
use serde_json::Value;
use types::Release;

use super::{
    commands::Commands,
    site::{CLIENTS, MESH, PEERS, Site, ended, stop},
};
use crate::harness::Process;

/// Little enough to be filled.
const QUOTA_BYTES: usize = 16 << 20;
const VALUE_BYTES: usize = 512 << 10;

pub(super) async fn story(book: &mut Commands) {
    let site = Site::new();
    let (clients, mesh) = (site.address(1, CLIENTS), site.address(1, MESH));
    site.set("ETCD_LISTEN_CLIENT_URLS", format!("http://{clients}"));
    site.set("ETCD_ADVERTISE_CLIENT_URLS", format!("http://{clients}"));
    site.set("ETCD_LISTEN_MESH_ADDR", mesh);
    site.set("ETCDCTL_ENDPOINTS", clients);

    let server = started(book, &site).await;
    backed_up(book, &site, server).await;
    restored(book, &site).await;
    let server = moved_from_etcd(book, &site).await;
    moved_to_etcd(book, &site, server).await;
    upgraded(book, &site).await;
    log_moved(book, &site).await;
    out_of_space(book, &site).await;
}

/// What is said to the first key that the book puts.
async fn greeting(site: &Site) -> String {
    site.until(1, "meshstore get greeting --print-value-only").await.trim_end().to_owned()
}

async fn revision(site: &Site) -> i64 {
    let status: Value = serde_json::from_str(&site.until(1, "meshstore endpoint status -w json").await).unwrap();
    status[0]["Status"]["header"]["revision"].as_i64().unwrap()
}

async fn started(book: &mut Commands, site: &Site) -> Process {
    let server = site.serve(1, &book.next("meshstore server")).await;
    site.until(1, &book.next("meshstore put greeting")).await;
    assert_eq!(site.done(1, &book.next("etcdctl get greeting")).await, "greeting\nhello\n");
    site.done(1, &book.next("meshstore endpoint health")).await;
    let health = site.done(1, &book.next("curl")).await;
    assert!(health.contains(r#""health":"true""#), "{health}");
    stop(server).await;

    let server = site.serve(1, &book.next("ETCD_DATA_DIR=data meshstore server")).await;
    assert_eq!(greeting(site).await, "hello");
    stop(server).await;

    let file = "data-dir: data\nlisten-client-urls: http://127.0.0.1:2379\nadvertise-client-urls: http://127.0.0.1:2379\n\
                listen-mesh-addr: 127.0.0.1:15012\n";
    std::fs::write(site.folder(1).join("etcd.conf.yml"), site.here(file)).unwrap();
    let server = site.serve(1, &book.next("meshstore server --config-file")).await;
    assert_eq!(greeting(site).await, "hello");
    server
}

async fn backed_up(book: &mut Commands, site: &Site, server: Process) {
    let revision = revision(site).await.to_string();
    let of_the_file = |status: &str| status.split(", ").nth(1).unwrap().to_owned();
    for [save, status] in
        [["meshstore snapshot save", "meshstore snapshot status"], ["etcdctl snapshot save", "etcdutl snapshot status"]]
    {
        site.done(1, &book.next(save)).await;
        assert_eq!(of_the_file(&site.done(1, &book.next(status)).await), revision);
    }
    stop(server).await;
    site.done(1, &book.next("meshstore snapshot export")).await;
}

async fn restored(book: &mut Commands, site: &Site) {
    for above in [0, 1_000_000_000] {
        site.done(1, &book.next("meshstore snapshot restore backup.db")).await;
        let server = site.serve(1, &book.next("meshstore server")).await;
        assert_eq!(greeting(site).await, "hello");
        assert!(revision(site).await >= above);
        stop(server).await;
    }
}

/// Starts an etcd, which has no TLS among its members.
async fn etcd(site: &Site, command: &str) -> Process {
    site.set("ETCD_LISTEN_PEER_URLS", format!("http://{}", site.address(1, PEERS)));
    let etcd = site.serve(1, command).await;
    site.unset("ETCD_LISTEN_PEER_URLS");
    etcd
}

async fn stop_etcd(etcd: Process) {
    etcd.terminate();
    // It ends by the signal.
    ended(etcd).await;
}

async fn moved_from_etcd(book: &mut Commands, site: &Site) -> Process {
    let etcd = etcd(site, "etcd --data-dir old").await;
    for value in ["welcome", "hello"] {
        site.until(1, &format!("etcdctl put greeting {value}")).await;
    }
    let hash = site.done(1, &book.next("etcdctl endpoint hashkv")).await;
    site.done(1, &book.next("etcdctl snapshot save")).await;
    stop_etcd(etcd).await;
    site.done(1, &book.next("meshstore snapshot import")).await;
    let server = site.serve(1, &book.next("meshstore server")).await;
    assert_eq!(site.until(1, &book.next("meshstore endpoint hashkv")).await, hash);
    assert_eq!(greeting(site).await, "hello");
    server
}

async fn moved_to_etcd(book: &mut Commands, site: &Site, server: Process) {
    let hash = site.done(1, &book.next("meshstore endpoint hashkv")).await;
    site.done(1, &book.next("meshstore snapshot export")).await;
    stop(server).await;
    site.done(1, &book.next("etcdutl snapshot restore")).await;
    let etcd = etcd(site, &book.next("etcd --data-dir")).await;
    assert_eq!(site.until(1, &book.next("etcdctl endpoint hashkv")).await, hash);
    assert_eq!(greeting(site).await, "hello");
    stop_etcd(etcd).await;
}

/// From the release before this one.
async fn upgraded(book: &mut Commands, site: &Site) {
    site.wipe(1);
    site.set("ETCD_AS_RELEASE", Release::THIS.before().to_string());
    let server = site.serve(1, "meshstore server --data-dir data").await;
    site.until(1, "meshstore put greeting hello").await;
    site.done(1, &book.next("meshstore snapshot save")).await;
    stop(server).await;
    site.unset("ETCD_AS_RELEASE");

    let server = site.serve(1, &book.next("meshstore server")).await;
    let probed = site.until(1, &book.next("meshstore cluster probe")).await;
    assert!(probed.starts_with(&format!("the cluster at {} agreed", Release::THIS)), "{probed}");
    assert_eq!(greeting(site).await, "hello");
    stop(server).await;
}

/// With what the last chapter has left.
async fn log_moved(book: &mut Commands, site: &Site) {
    site.done(1, &book.next("mv data/log")).await;
    let server = site.serve(1, &book.next("meshstore server")).await;
    assert_eq!(greeting(site).await, "hello");
    stop(server).await;
    assert!(site.folder(1).join("data/log").is_symlink());
}

async fn out_of_space(book: &mut Commands, site: &Site) {
    site.wipe(1);
    site.set("ETCD_QUOTA_BACKEND_BYTES", QUOTA_BYTES.to_string());
    let server = site.serve(1, "meshstore server --data-dir data").await;
    site.until(1, "meshstore put greeting hello").await;

    fill(site).await;
    let alarms = site.done(1, &book.next("meshstore alarm list")).await;
    assert!(alarms.contains("alarm:NOSPACE"), "{alarms}");
    for command in ["meshstore del logs/", "meshstore compaction", "meshstore alarm disarm"] {
        site.done(1, &book.next(command)).await;
    }
    site.done(1, "meshstore put greeting again").await;

    fill(site).await;
    stop(server).await;
    let _server = site.serve(1, &book.next("meshstore server")).await;
    site.until(1, &book.next("meshstore alarm disarm")).await;
    site.done(1, "meshstore put greeting hello").await;
    assert_eq!(greeting(site).await, "hello");
}

/// Writes until there is no space.
async fn fill(site: &Site) {
    let client = Client::connect(&Config::new([site.address(1, CLIENTS)])).unwrap();
    for number in 0..2 * QUOTA_BYTES / VALUE_BYTES {
        // Of noise, so that it takes its space.
        let mut value = vec![0; VALUE_BYTES];
        rand::fill(&mut value[..]);
        if let Err(error) = client.put(Put::new(format!("logs/{number}"), value)).await {
            assert!(error.to_string().contains("database space exceeded"), "{error}");
            return;
        }
    }
    panic!("the quota is not kept");
}
