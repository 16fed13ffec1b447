//! Reading everything takes little memory, whatever everything is. `benches/scale` measures it at a gigabyte.

use std::fs;

use proto::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, SnapshotRequest, TxnRequest, kv_client::KvClient,
    maintenance_client::MaintenanceClient, request_op::Request,
};
use tonic::transport::{Channel, Endpoint};

use crate::harness::Server;

const KEYS: usize = 16 << 10;
const VALUE_BYTES: usize = 16 << 10;
const TXN_KEYS: usize = 64;
const PAGE_KEYS: i64 = 500;
/// What the engine may keep of what it has read. Source: `engine::Options`.
const CACHE_BYTES: u64 = 64 << 20;
/// That, and half of what is read: what was written before it is still being compacted.
const RISE_MAX_BYTES: u64 = CACHE_BYTES + (KEYS * VALUE_BYTES) as u64 / 2;

async fn load(mut kv: KvClient<Channel>) {
    let keys: Vec<_> = (0..KEYS).collect();
    for keys in keys.chunks(TXN_KEYS) {
        let put = |key: &usize| PutRequest {
            key: format!("key/{key:06}").into(),
            value: vec![b'v'; VALUE_BYTES].into(),
            ..Default::default()
        };
        let puts = keys.iter().map(|key| RequestOp { request: Some(Request::RequestPut(put(key))) });
        kv.txn(TxnRequest { success: puts.collect(), ..Default::default() }).await.unwrap();
    }
}

fn everything() -> RangeRequest {
    RangeRequest { key: "key/".into(), range_end: "key0".into(), ..Default::default() }
}

async fn streamed(mut kv: KvClient<Channel>) -> usize {
    let mut pieces = kv.range_stream(everything()).await.unwrap().into_inner();
    let mut keys = 0;
    while let Some(piece) = pieces.message().await.unwrap() {
        keys += piece.range_response.unwrap().kvs.len();
    }
    keys
}

async fn whole(mut kv: KvClient<Channel>) -> usize {
    kv.range(everything()).await.unwrap().into_inner().kvs.len()
}

async fn in_pages(mut kv: KvClient<Channel>) -> usize {
    let (mut keys, mut from) = (0, everything().key);
    loop {
        let page = RangeRequest { key: from, limit: PAGE_KEYS, ..everything() };
        let page = kv.range(page).await.unwrap().into_inner();
        keys += page.kvs.len();
        let last = &page.kvs.last().unwrap().key;
        if !page.more {
            return keys;
        }
        from = [&last[..], b"\0"].concat().into();
    }
}

async fn saved(channel: Channel) -> usize {
    let mut maintenance = MaintenanceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut pieces = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut bytes = 0;
    while let Some(piece) = pieces.message().await.unwrap() {
        bytes += piece.blob.len();
    }
    bytes / VALUE_BYTES
}

/// Bytes of resident memory. Source: proc(5), `status`.
fn memory(server: &Server, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn everything_is_read_in_little_memory() {
    let server = Server::start().await;
    let channel = Endpoint::from_shared(format!("http://{}", server.endpoint())).unwrap().connect().await.unwrap();
    let kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    load(kv.clone()).await;
    for way in ["Range", "RangeStream", "pages", "Snapshot"] {
        let before = memory(&server, "VmRSS:");
        fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
        let keys = match way {
            "Range" => whole(kv.clone()).await,
            "RangeStream" => streamed(kv.clone()).await,
            "pages" => in_pages(kv.clone()).await,
            _ => saved(channel.clone()).await,
        };
        assert!(keys >= KEYS, "{way}: {keys} of {KEYS} keys came");
        let rise = memory(&server, "VmHWM:").saturating_sub(before);
        println!("{way}: {} MiB above {} MiB", rise >> 20, before >> 20);
        assert!(rise <= RISE_MAX_BYTES, "{way}: memory rose by {} MiB", rise >> 20);
    }
}
