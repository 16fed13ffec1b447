//! A member's etcd v3 services, asked as a client would ask, on a real disk.

use std::time::Duration;

use meshstore_server::{Config, Member};
use proto::{
    etcdserverpb::{
        self as pb, RequestOp, compare, kv_client::KvClient, lease_client::LeaseClient, request_op, response_op,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
    mvccpb::event::EventType,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Streaming, service::Routes};

struct Server {
    dir: TempDir,
    member: Member,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let member = Self::member(&dir).await;
        Self { dir, member }
    }

    async fn member(dir: &TempDir) -> Member {
        let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
        Member::start(config).await.expect("the member starts")
    }

    async fn restart(self) -> Self {
        self.member.shutdown().await.expect("the member stops");
        let member = Self::member(&self.dir).await;
        Self { dir: self.dir, member }
    }

    fn kv(&self) -> KvClient<Routes> {
        KvClient::new(self.member.routes())
    }

    fn lease(&self) -> LeaseClient<Routes> {
        LeaseClient::new(self.member.routes())
    }

    async fn put(&self, key: &str, value: &str) -> i64 {
        let request = put(key, value);
        let response = self.kv().put(request).await.expect("put").into_inner();
        response.header.expect("a header").revision
    }

    async fn get(&self, key: &str) -> Option<String> {
        let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
        let response = self.kv().range(request).await.expect("range").into_inner();
        response.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
    }
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[tokio::test]
async fn what_was_written_is_read_and_outlives_a_restart() {
    let server = Server::start().await;
    assert_eq!(server.put("a", "1").await, 2);
    assert_eq!(server.put("a", "2").await, 3);
    assert_eq!(server.put("b", "3").await, 4);
    let server = server.restart().await;
    assert_eq!(server.get("a").await.as_deref(), Some("2"));
    assert_eq!(server.put("c", "4").await, 5);
    let old = pb::RangeRequest { key: "a".into(), revision: 2, ..Default::default() };
    let old = server.kv().range(old).await.expect("range").into_inner();
    assert_eq!(old.kvs[0].value, "1");
    let header = old.header.expect("a header");
    assert_eq!((header.revision, header.member_id), (5, 0x8e9e_05c5_2164_694d));
}

#[tokio::test]
async fn headers_inside_a_transaction_tell_what_etcds_do() {
    let server = Server::start().await;
    let inner =
        pb::TxnRequest { success: vec![op(request_op::Request::RequestPut(put("a", "1")))], ..Default::default() };
    let outer = pb::TxnRequest { success: vec![op(request_op::Request::RequestTxn(inner))], ..Default::default() };
    let response = server.kv().txn(outer).await.expect("txn").into_inner();
    assert_eq!(response.header.expect("a header").revision, 2);
    let Some(response_op::Response::ResponseTxn(inner)) = &response.responses[0].response else {
        panic!("not of a transaction: {response:?}");
    };
    assert_eq!(inner.header, Some(pb::ResponseHeader::default()));
    let Some(response_op::Response::ResponsePut(put)) = &inner.responses[0].response else {
        panic!("not of a put: {response:?}");
    };
    assert_eq!(put.header, Some(pb::ResponseHeader { revision: 2, ..Default::default() }));
}

#[tokio::test]
async fn refusals_have_etcds_codes_and_words() {
    let server = Server::start().await;
    server.put("a", "1").await;
    let mut kv = server.kv();
    let status = kv.put(put("", "1")).await.expect_err("no key");
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "etcdserver: key is not provided"));

    let future = pb::RangeRequest { key: "a".into(), revision: 99, ..Default::default() };
    let status = kv.range(future).await.expect_err("the future");
    assert_eq!(
        (status.code(), status.message()),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
    );

    let leased = pb::PutRequest { lease: 7, ..put("a", "1") };
    let status = kv.put(leased).await.expect_err("no such lease");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "etcdserver: requested lease not found"));

    let absent = pb::PutRequest { key: "absent".into(), lease: 7, ignore_value: true, ..Default::default() };
    let status = kv.put(absent).await.expect_err("no such lease, and no such key");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "etcdserver: requested lease not found"));

    let large = kv.put(put("a", &"x".repeat(1_600_000))).await.expect_err("too large");
    assert_eq!((large.code(), large.message()), (Code::InvalidArgument, "etcdserver: request is too large"));

    kv.compact(pb::CompactionRequest { revision: 2, physical: true }).await.expect("compact");
    let old = pb::RangeRequest { key: "a".into(), revision: 1, ..Default::default() };
    let status = kv.range(old).await.expect_err("compacted");
    assert_eq!(
        (status.code(), status.message()),
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
    );
}

#[tokio::test]
async fn a_transaction_compares_and_swaps() {
    let server = Server::start().await;
    server.put("a", "1").await;
    let swap = |expected: &str, new: &str| pb::TxnRequest {
        compare: vec![pb::Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Value.into(),
            key: "a".into(),
            target_union: Some(compare::TargetUnion::Value(expected.to_owned().into())),
            ..Default::default()
        }],
        success: vec![op(request_op::Request::RequestPut(put("a", new)))],
        failure: vec![op(request_op::Request::RequestRange(pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        }))],
    };
    let won = server.kv().txn(swap("1", "2")).await.expect("txn").into_inner();
    assert!(won.succeeded);
    let lost = server.kv().txn(swap("1", "3")).await.expect("txn").into_inner();
    assert!(!lost.succeeded);
    assert_eq!(server.get("a").await.as_deref(), Some("2"));
}

/// A watch stream and the end by which it is asked.
async fn watch(
    server: &Server,
    create: pb::WatchCreateRequest,
) -> (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>) {
    let (requests, stream) = mpsc::channel(8);
    requests.send(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.expect("open");
    let mut client = WatchClient::new(server.member.routes());
    (requests, client.watch(ReceiverStream::new(stream)).await.expect("watch").into_inner())
}

async fn next(stream: &mut Streaming<pb::WatchResponse>) -> pb::WatchResponse {
    stream.next().await.expect("the stream goes on").expect("no error")
}

#[tokio::test]
async fn a_watch_sees_history_then_what_happens_then_its_cancellation() {
    let server = Server::start().await;
    server.put("a", "1").await;
    let create = pb::WatchCreateRequest { key: "a".into(), start_revision: 2, prev_kv: true, ..Default::default() };
    let (requests, mut responses) = watch(&server, create).await;
    let created = next(&mut responses).await;
    assert!(created.created && created.watch_id == 0);
    assert_eq!(next(&mut responses).await.events[0].kv.as_ref().expect("a key").value, "1");

    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    server.kv().delete_range(delete).await.expect("delete");
    let deleted = next(&mut responses).await;
    assert_eq!(deleted.header.expect("a header").revision, 3);
    assert_eq!(deleted.events[0].r#type(), EventType::Delete);
    assert_eq!(deleted.events[0].prev_kv.as_ref().expect("what it was").value, "1");

    let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    requests.send(pb::WatchRequest { request_union: Some(progress) }).await.expect("open");
    let progress = next(&mut responses).await;
    assert_eq!((progress.watch_id, progress.header.expect("a header").revision), (-1, 3));

    let cancel = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 });
    requests.send(pb::WatchRequest { request_union: Some(cancel) }).await.expect("open");
    assert!(next(&mut responses).await.canceled);
}

#[tokio::test]
async fn a_watch_from_before_the_compaction_is_told_where_history_starts() {
    let server = Server::start().await;
    for value in ["1", "2", "3"] {
        server.put("a", value).await;
    }
    server.kv().compact(pb::CompactionRequest { revision: 3, physical: false }).await.expect("compact");
    let create = pb::WatchCreateRequest { key: "a".into(), start_revision: 2, ..Default::default() };
    let (_requests, mut responses) = watch(&server, create).await;
    assert!(next(&mut responses).await.created);
    let canceled = next(&mut responses).await;
    assert!(canceled.canceled);
    assert_eq!((canceled.compact_revision, canceled.header.expect("a header").revision), (3, 0));
}

#[tokio::test]
async fn a_lease_takes_its_keys_along_when_it_ends() {
    let server = Server::start().await;
    let granted =
        server.lease().lease_grant(pb::LeaseGrantRequest { ttl: 1, id: 42 }).await.expect("grant").into_inner();
    assert_eq!((granted.id, granted.ttl), (42, 2));
    server.kv().put(pb::PutRequest { lease: 42, ..put("a", "1") }).await.expect("put");

    let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
    let (_requests, mut responses) = watch(&server, create).await;
    assert!(next(&mut responses).await.created);
    let expired = tokio::time::timeout(Duration::from_secs(20), next(&mut responses)).await.expect("it ends in time");
    assert_eq!(expired.events[0].r#type(), EventType::Delete);
    let time_to_live = pb::LeaseTimeToLiveRequest { id: 42, keys: true };
    let gone = server.lease().lease_time_to_live(time_to_live).await.expect("answered").into_inner();
    assert_eq!((gone.ttl, gone.granted_ttl), (-1, 0));
}

#[tokio::test]
async fn keep_alive_renews_and_tells_of_leases_that_are_gone() {
    let server = Server::start().await;
    server.lease().lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 7 }).await.expect("grant");
    let requests = [7, 8].map(|id| pb::LeaseKeepAliveRequest { id });
    let answers = server.lease().lease_keep_alive(tokio_stream::iter(requests)).await.expect("stream").into_inner();
    let answers: Vec<_> =
        answers.map(|answer| answer.expect("an answer")).map(|answer| (answer.id, answer.ttl)).collect().await;
    assert_eq!(answers, [(7, 100), (8, 0)]);
}
