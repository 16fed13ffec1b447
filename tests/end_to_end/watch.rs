//! What watches promise, at the sizes where promises break: many on one stream, and clients that do not read.

use std::collections::BTreeMap;

use proto::etcdserverpb::{
    CompactionRequest, PutRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    kv_client::KvClient, watch_client::WatchClient, watch_request::RequestUnion,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::harness::Server;

const WATCHES: i64 = 10_000;
/// Keys that they share evenly.
const KEYS: i64 = 100;
const ROUNDS: i64 = 5;
/// More than all queues between a member and a client that does not read can hold.
const LARGE_VALUES: i64 = 3_000;
const LARGE_VALUE_BYTES: usize = 16 << 10;

async fn connect(server: &Server) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.endpoint())).unwrap().connect().await.unwrap()
}

/// Puts a key, and returns the revision.
async fn put(kv: &mut KvClient<Channel>, key: String, value: Vec<u8>) -> i64 {
    let request = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    kv.put(request).await.unwrap().into_inner().header.unwrap().revision
}

struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    /// A stream with its first watch.
    async fn open(channel: Channel, first: WatchCreateRequest) -> Self {
        let (requests, queue) = mpsc::channel(1_000);
        requests.send(request(RequestUnion::CreateRequest(first))).await.unwrap();
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let responses = client.watch(ReceiverStream::new(queue)).await.unwrap().into_inner();
        let mut stream = Self { requests, responses };
        assert!(stream.next().await.created);
        stream
    }

    async fn send(&self, union: RequestUnion) {
        self.requests.send(request(union)).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

fn create(key: impl Into<String>, watch_id: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into().into(), watch_id, ..Default::default() }
}

fn is_progress(response: &WatchResponse) -> bool {
    response.events.is_empty() && !response.created && !response.canceled
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_watches_on_one_stream_miss_nothing() {
    let server = Server::start().await;
    let channel = connect(&server).await;
    let key = |id: i64| format!("key/{:03}", id % KEYS);
    let mut stream = Stream::open(channel.clone(), create(key(1), 1)).await;
    for id in 2..=WATCHES {
        stream.send(RequestUnion::CreateRequest(create(key(id), id))).await;
        let created = stream.next().await;
        assert!(created.created && !created.canceled && created.watch_id == id, "{created:?}");
    }

    let mut kv = KvClient::new(channel);
    let mut last = 0;
    for round in 0..ROUNDS {
        for number in 0..KEYS {
            last = put(&mut kv, key(number), round.to_string().into()).await;
        }
    }
    stream.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    // Progress comes after every event up to it, so what was not seen by then is missing.
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    loop {
        let response = stream.next().await;
        if is_progress(&response) {
            assert!(response.header.unwrap().revision >= last);
            break;
        }
        let revisions = response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision);
        seen.entry(response.watch_id).or_default().extend(revisions);
    }
    for id in 1..=WATCHES {
        let expected: Vec<_> = (0..ROUNDS).map(|round| 2 + round * KEYS + id % KEYS).collect();
        assert_eq!(seen.get(&id), Some(&expected), "watch {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_lags_alone_and_catches_up() {
    let server = Server::start().await;
    let watch = || create("large", 7);
    let mut asleep = Stream::open(connect(&server).await, watch()).await;
    let mut awake = Stream::open(connect(&server).await, watch()).await;
    let mut kv = KvClient::new(connect(&server).await);
    for number in 0..LARGE_VALUES {
        let revision = put(&mut kv, "large".to_owned(), vec![b'v'; LARGE_VALUE_BYTES]).await;
        assert_eq!(revision, number + 2);
        let mut told = 0;
        while told < revision {
            told = awake.next().await.events.last().unwrap().kv.as_ref().unwrap().mod_revision;
        }
    }
    let mut expected = 2;
    while expected < LARGE_VALUES + 2 {
        for event in asleep.next().await.events {
            let kv = event.kv.unwrap();
            assert_eq!((kv.mod_revision, kv.value.len()), (expected, LARGE_VALUE_BYTES));
            expected += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_told_of_a_compaction_and_never_skips() {
    let server = Server::start().await;
    let mut asleep = Stream::open(connect(&server).await, create("large", 7)).await;
    let mut kv = KvClient::new(connect(&server).await);
    for _ in 0..LARGE_VALUES {
        put(&mut kv, "large".to_owned(), vec![b'v'; LARGE_VALUE_BYTES]).await;
    }
    let revision = LARGE_VALUES + 1;
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    let mut expected = 2;
    loop {
        let response = asleep.next().await;
        if response.canceled {
            assert_eq!((response.watch_id, response.compact_revision), (7, revision));
            assert_eq!(response.header.unwrap().revision, 0);
            break;
        }
        for event in response.events {
            assert_eq!(event.kv.unwrap().mod_revision, expected);
            expected += 1;
        }
    }
    assert!(expected < revision, "it was told all before it lagged: {expected}");
}
