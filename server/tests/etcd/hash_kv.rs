//! `HashKV` beside a real etcd: the same operations, the same hash, at every revision that both can read.
//!
//! Which etcd: `MESHSTORE_ETCD`, or the one that `scripts/setup.sh test` installs. Without one there is nothing to compare.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use meshstore_server::{Config, Member};
use proto::etcdserverpb::{
    self as pb, kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tonic::{
    Code, Response,
    body::Body,
    service::Routes,
    transport::{Channel, Endpoint},
};

const STEPS: usize = 600;
const LEASES: i64 = 4;

/// A real etcd; killed when dropped.
struct Etcd {
    process: Child,
    _dir: TempDir,
    channel: Channel,
}

impl Etcd {
    async fn start() -> Option<Self> {
        let installed = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/meshstore/bin/etcd"));
        let program = std::env::var_os("MESHSTORE_ETCD").map_or_else(installed, |named| Some(named.into()))?;
        if !program.exists() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (client, peer) = (format!("http://{}", free_port()), format!("http://{}", free_port()));
        let process = Command::new(program)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error", "--data-dir"])
            .arg(dir.path().join("data"))
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        let channel = Endpoint::from_shared(client).expect("a URL").connect_lazy();
        let etcd = Self { process, _dir: dir, channel };
        let answers = async {
            while MaintenanceClient::new(etcd.channel.clone()).status(pb::StatusRequest {}).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answers).await.expect("etcd answers");
        Some(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ended_already = self.process.kill().is_err();
        let _reaped_already = self.process.wait().is_err();
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

/// One operation; both servers must take it, or refuse it alike.
#[derive(Clone, Debug)]
enum Step {
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Grant(i64),
    Revoke(i64),
    Compact(i64),
}

fn put(random: &mut StdRng) -> pb::PutRequest {
    let value = vec![b'v'; if random.random_ratio(1, 20) { 9000 } else { random.random_range(0..40) }];
    let lease = if random.random_ratio(1, 4) { random.random_range(1..=LEASES) } else { 0 };
    pb::PutRequest { key: key(random), value: value.into(), lease, ..Default::default() }
}

fn key(random: &mut StdRng) -> bytes::Bytes {
    let keys = ["a", "a\0", "ab", "b", "b\u{1}", "c", "d/1", "d/2", "d/3", "e"];
    keys[random.random_range(0..keys.len())].into()
}

fn delete(random: &mut StdRng) -> pb::DeleteRangeRequest {
    let range_end = if random.random_ratio(1, 3) { key(random) } else { bytes::Bytes::new() };
    pb::DeleteRangeRequest { key: key(random), range_end, ..Default::default() }
}

fn txn(random: &mut StdRng) -> pb::TxnRequest {
    let op = |request| pb::RequestOp { request: Some(request) };
    let success = (0..random.random_range(1..4)).map(|_| {
        if random.random_ratio(3, 4) {
            op(request_op::Request::RequestPut(put(random)))
        } else {
            op(request_op::Request::RequestDeleteRange(delete(random)))
        }
    });
    pb::TxnRequest { success: success.collect(), ..Default::default() }
}

fn step(random: &mut StdRng, revision: i64, compacted: i64) -> Step {
    match random.random_range(0..100) {
        0..45 => Step::Put(put(random)),
        45..65 => Step::Delete(delete(random)),
        65..85 => Step::Txn(txn(random)),
        85..92 => Step::Grant(random.random_range(1..=LEASES)),
        92..96 => Step::Revoke(random.random_range(1..=LEASES)),
        _ => Step::Compact(random.random_range(compacted.max(0)..=revision)),
    }
}

/// Does a step, and returns the store's revision, or what was said against it.
macro_rules! perform {
    ($transport:expr, $step:expr) => {{
        let (mut kv, mut lease) = (KvClient::new($transport), LeaseClient::new($transport));
        let header = match $step.clone() {
            Step::Put(request) => kv.put(request).await.map(|answer| answer.into_inner().header),
            Step::Delete(request) => kv.delete_range(request).await.map(|answer| answer.into_inner().header),
            Step::Txn(request) => kv.txn(request).await.map(|answer| answer.into_inner().header),
            Step::Grant(id) => {
                let request = pb::LeaseGrantRequest { ttl: 6000, id };
                lease.lease_grant(request).await.map(|answer| answer.into_inner().header)
            }
            Step::Revoke(id) => {
                lease.lease_revoke(pb::LeaseRevokeRequest { id }).await.map(|answer| answer.into_inner().header)
            }
            Step::Compact(revision) => {
                let request = pb::CompactionRequest { revision, physical: true };
                kv.compact(request).await.map(|answer| answer.into_inner().header)
            }
        };
        header.map(|header| header.expect("a header").revision).map_err(|status| (status.code(), said(&status)))
    }};
}

fn said(status: &tonic::Status) -> String {
    status.message().to_owned()
}

async fn hash<T>(transport: T, revision: i64) -> Result<(u32, i64), Code>
where
    T: tonic::client::GrpcService<Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let answer = MaintenanceClient::new(transport).hash_kv(pb::HashKvRequest { revision }).await;
    answer.map(Response::into_inner).map(|hash| (hash.hash, hash.compact_revision)).map_err(|s| s.code())
}

async fn compare(etcd: &Etcd, ours: &Routes, revisions: impl Iterator<Item = i64>, seed: u64) {
    for revision in revisions {
        let (theirs, ours) = (hash(etcd.channel.clone(), revision).await, hash(ours.clone(), revision).await);
        assert_eq!(ours, theirs, "seed {seed}, revision {revision}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_that_of_a_real_etcd() {
    let Some(etcd) = Etcd::start().await else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
    let member = Member::start(config).await.expect("the member starts");
    let (ours, seed) = (member.routes(), 20_261_123);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut revision, mut compacted) = (1, -1);
    compare(&etcd, &ours, 0..=1, seed).await;
    for number in 0..STEPS {
        let step = step(&mut random, revision, compacted);
        let (theirs, here) = (perform!(etcd.channel.clone(), step), perform!(ours.clone(), step));
        assert_eq!(here, theirs, "seed {seed}, step {number}: {step:?}");
        if let Ok(now) = theirs {
            revision = now;
            if let Step::Compact(at) = step {
                compacted = at;
                // At the compacted revision itself etcd answers from its cache, with the hash of before the compaction.
                compare(&etcd, &ours, (compacted + 1).max(1)..=revision, seed).await;
            }
        }
        compare(&etcd, &ours, std::iter::once(0), seed).await;
    }
    assert!(compacted > 1 && revision > 200, "the steps did something: {revision} revisions, compacted at {compacted}");
    member.shutdown().await.expect("stopped");
}
