//! What a store holds, as far as its clients can tell; and writes that fill one.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesRequest,
        LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        WatchCreateRequest, WatchRequest, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient, request_op, watch_client::WatchClient, watch_request::RequestUnion,
    },
    mvccpb::{Event, KeyValue},
};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use super::programs::Store;

/// All of a store.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    revision: i64,
    compacted: i64,
    /// All keys, at each revision that can be read.
    keys: BTreeMap<i64, Vec<KeyValue>>,
    /// What a watch from the first of them is told.
    events: Vec<Event>,
    /// Each lease's TTL, and its keys.
    leases: BTreeMap<i64, (i64, Vec<Bytes>)>,
    /// etcd's hash at each of these revisions, if the server can tell.
    hashes: Option<BTreeMap<i64, u32>>,
}

impl State {
    pub(crate) async fn of(store: &Store) -> Self {
        let now = range(store, 0).await.unwrap();
        let revision = now.0;
        let mut keys = BTreeMap::new();
        for at in (1..=revision).rev() {
            let Ok((_, kvs)) = range(store, at).await else { break };
            keys.insert(at, kvs);
        }
        let compacted = *keys.keys().next().unwrap();
        let events = events(store, compacted, revision).await;
        // etcd answers for the compacted revision what it noted before it compacted.
        let hashes = hashes(store, keys.keys().copied().skip(1)).await;
        Self { revision, compacted, keys, events, leases: leases(store).await, hashes }
    }

    /// Checks that it is another's, which is told first.
    #[track_caller]
    pub(crate) fn is_that_of(&self, other: &Self) {
        assert_eq!((self.revision, self.compacted), (other.revision, other.compacted));
        for (at, keys) in &other.keys {
            assert_eq!(self.keys.get(at), Some(keys), "at revision {at}");
        }
        assert_eq!(self.events, other.events);
        assert_eq!(self.leases, other.leases);
        if let (Some(hashes), Some(expected)) = (&self.hashes, &other.hashes) {
            assert_eq!(hashes, expected);
        }
    }
}

/// The store's revision, and all keys at one.
async fn range(store: &Store, revision: i64) -> Result<(i64, Vec<KeyValue>), tonic::Status> {
    let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), revision, ..Default::default() };
    let mut client = KvClient::new(store.channel()).max_decoding_message_size(usize::MAX);
    let answer = client.range(all).await?.into_inner();
    Ok((answer.header.unwrap().revision, answer.kvs))
}

async fn events(store: &Store, from: i64, through: i64) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: from,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests =
        futures_util::StreamExt::chain(futures_util::stream::iter([request]), futures_util::stream::pending());
    let mut client = WatchClient::new(store.channel()).max_decoding_message_size(usize::MAX);
    let mut answers = client.watch(requests).await.unwrap().into_inner();
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|last| last.kv.as_ref().unwrap().mod_revision < through) {
        let answer = answers.message().await.unwrap().unwrap();
        assert!(!answer.canceled, "{answer:?}");
        events.extend(answer.events);
    }
    events
}

async fn leases(store: &Store) -> BTreeMap<i64, (i64, Vec<Bytes>)> {
    let mut client = LeaseClient::new(store.channel());
    let mut leases = BTreeMap::new();
    for lease in client.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases {
        let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let mut answer = client.lease_time_to_live(request).await.unwrap().into_inner();
        answer.keys.sort_unstable();
        leases.insert(lease.id, (answer.granted_ttl, answer.keys));
    }
    leases
}

async fn hashes(store: &Store, revisions: impl Iterator<Item = i64>) -> Option<BTreeMap<i64, u32>> {
    let (mut client, mut hashes) = (MaintenanceClient::new(store.channel()), BTreeMap::new());
    for revision in revisions {
        match client.hash_kv(HashKvRequest { revision }).await {
            Ok(answer) => drop(hashes.insert(revision, answer.into_inner().hash)),
            Err(status) if status.code() == tonic::Code::Unimplemented => return None,
            Err(status) => panic!("{status}"),
        }
    }
    Some(hashes)
}

/// Some of every kind of write, and one compaction, always the same for a seed.
pub(crate) async fn work(store: &Store, seed: u64, writes: usize) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut kv, mut lease) = (KvClient::new(store.channel()), LeaseClient::new(store.channel()));
    let leases: Vec<i64> = (1..=6).map(|number| i64::try_from(seed * 100 + number).unwrap()).collect();
    for &id in &leases {
        lease.lease_grant(LeaseGrantRequest { id, ttl: 3600 + id }).await.unwrap();
    }
    for number in 0..writes {
        match random.random_range(0..10) {
            0 => {
                let key = key(&mut random);
                kv.delete_range(DeleteRangeRequest { key, ..Default::default() }).await.unwrap();
            }
            1 => {
                let (from, to) = (key(&mut random), key(&mut random));
                kv.delete_range(DeleteRangeRequest { key: from, range_end: to, prev_kv: false }).await.unwrap();
            }
            2 | 3 => {
                let mut keys: Vec<_> = (0..4).map(|_| key(&mut random)).collect();
                keys.sort_unstable();
                keys.dedup();
                let put = |key| request_op::Request::RequestPut(put(key, &mut random, &leases));
                let success = keys.into_iter().map(put).map(|op| RequestOp { request: Some(op) }).collect();
                kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
            }
            _ => drop(kv.put(put(key(&mut random), &mut random, &leases)).await.unwrap()),
        }
        if number == writes / 3 {
            let (revision, _) = range(store, 0).await.unwrap();
            kv.compact(CompactionRequest { revision: revision - 5, physical: true }).await.unwrap();
        }
    }
    lease.lease_revoke(LeaseRevokeRequest { id: leases[5] }).await.unwrap();
    // The last revision writes a key, so that a watch sees it.
    kv.put(PutRequest { key: "last".into(), value: "of all".into(), ..PutRequest::default() }).await.unwrap();
}

/// Few keys, of all kinds of bytes.
fn key(random: &mut impl RngExt) -> Bytes {
    let number = random.random_range(0..40_u8);
    match number % 4 {
        0 => vec![0, number],
        1 => vec![0xFF, 0, number, 0xFF],
        _ => format!("/registry/{number}").into_bytes(),
    }
    .into()
}

fn put(key: Bytes, random: &mut impl RngExt, leases: &[i64]) -> PutRequest {
    // Some are longer than a page of etcd's file.
    let length = if random.random_range(0..20) == 0 { 30_000 } else { random.random_range(0..200) };
    let value = vec![random.random_range(0..=255); length].into();
    // The last lease is revoked, and takes its keys along.
    let lease = if random.random_range(0..3) == 0 { leases[random.random_range(0..leases.len())] } else { 0 };
    PutRequest { key, value, lease, ..PutRequest::default() }
}
