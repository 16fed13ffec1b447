//! Calls that say how long they may take.

use std::time::Duration;

use meshstore_server::{Config, GrpcFace, Member};
use proto::{
    etcdserverpb::{
        self as pb, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    v3lockpb::{LockRequest, lock_client::LockClient},
};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

const TIME: Duration = Duration::from_secs(1);
/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    _dir: TempDir,
    member: Member,
    face: GrpcFace,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
        let member = Member::start(config).await.expect("the member starts");
        Self { _dir: dir, face: member.grpc(member.routes()), member }
    }

    async fn stop(self) {
        self.member.shutdown().await.expect("stopped");
    }

    async fn put(&self, key: &str, field: &str) -> Result<(), Status> {
        let mut request = Request::new(pb::PutRequest { key: key.to_owned().into(), ..Default::default() });
        request.metadata_mut().insert("grpc-timeout", field.parse().expect("a value"));
        KvClient::new(self.face.clone()).put(request).await.map(drop)
    }

    async fn keys(&self, prefix: &'static str, end: &'static str) -> usize {
        let request = pb::RangeRequest { key: prefix.into(), range_end: end.into(), ..Default::default() };
        KvClient::new(self.face.clone()).range(request).await.expect("read").into_inner().kvs.len()
    }

    /// A watch of the key `a`, and where its requests go.
    async fn watch(&self) -> (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>) {
        let (requests, stream) = mpsc::channel(1);
        let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
        let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(create).await.expect("room");
        let request = in_time(ReceiverStream::new(stream));
        let answers = WatchClient::new(self.face.clone()).watch(request).await.expect("it watches").into_inner();
        (requests, answers)
    }
}

fn in_time<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIME);
    request
}

/// How the stream ends, and how many messages it had.
async fn end(mut answers: Streaming<pb::WatchResponse>) -> (usize, Status) {
    let mut count = 0;
    let ended = async {
        loop {
            match answers.message().await {
                Ok(Some(_)) => count += 1,
                Ok(None) => return Status::ok("it ended"),
                Err(status) => return status,
            }
        }
    };
    let status = timeout(PATIENCE, ended).await.expect("it ends");
    (count, status)
}

fn is_over(status: &Status, since: Instant) {
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "context deadline exceeded"));
    assert!(since.elapsed() >= TIME, "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_stream_ends_with_its_time_whether_it_has_something_to_tell_or_not() {
    let server = Server::start().await;
    let since = Instant::now();
    let (_requests, answers) = server.watch().await;
    let (count, status) = end(answers).await;
    assert_eq!(count, 1, "created");
    is_over(&status, since);

    let since = Instant::now();
    let (_requests, answers) = server.watch().await;
    let busy = async {
        loop {
            server.put("a", "1H").await.expect("put");
        }
    };
    let (count, status) = tokio::select! {
        ended = end(answers) => ended,
        () = busy => unreachable!("it does not end"),
    };
    assert!(count > 1);
    is_over(&status, since);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_time_is_refused_and_what_has_time_is_done() {
    let server = Server::start().await;
    for field in ["1H", "5000m", "4999966u", "99999999H"] {
        server.put("a", field).await.expect("it has time");
    }
    for field in ["soon", "1", "-1S", "123456789m"] {
        let refused = server.put("b", field).await.expect_err("no time");
        assert_eq!(refused.code(), Code::Internal, "{field}");
        assert!(refused.message().starts_with("malformed grpc-timeout: "), "{refused}");
    }
    assert_eq!((server.keys("a", "").await, server.keys("b", "").await), (1, 0));
    server.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_lock_in_vain_leaves_no_place_in_its_queue() {
    let server = Server::start().await;
    let mut leases = LeaseClient::new(server.face.clone());
    for id in [1, 2] {
        leases.lease_grant(pb::LeaseGrantRequest { ttl: 600, id }).await.expect("granted");
    }
    let mut locks = LockClient::new(server.face.clone());
    let held = locks.lock(LockRequest { name: "name".into(), lease: 1 }).await.expect("it is free");
    assert_eq!(held.into_inner().key, "name/1");
    let since = Instant::now();
    let late = locks.lock(in_time(LockRequest { name: "name".into(), lease: 2 })).await.expect_err("it is held");
    is_over(&late, since);
    let gone = async {
        while server.keys("name/", "name0").await > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("its place is free");
    server.stop().await;
}
