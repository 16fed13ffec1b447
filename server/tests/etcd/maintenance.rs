//! etcd's `Maintenance` service, asked as a client would ask.

use meshstore_server::{Config, Member};
use proto::etcdserverpb::{
    self as pb, AlarmType, alarm_request::AlarmAction, downgrade_request::DowngradeAction, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op,
};
use tempfile::TempDir;
use tonic::{Code, Status, service::Routes};

struct Server {
    _dir: TempDir,
    member: Member,
}

impl Server {
    async fn start(quota_backend_bytes: i64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = store::Limits { quota_backend_bytes, ..store::Limits::default() };
        let config = Config { data_dir: dir.path().join("data"), store, ..Config::default() };
        Self { member: Member::start(config).await.expect("the member starts"), _dir: dir }
    }

    /// Ends the member, so that nothing of it runs when the test's process ends.
    async fn stop(self) {
        self.member.shutdown().await.expect("stopped");
    }

    fn kv(&self) -> KvClient<Routes> {
        KvClient::new(self.member.routes())
    }

    fn maintenance(&self) -> MaintenanceClient<Routes> {
        MaintenanceClient::new(self.member.routes())
    }

    async fn put(&self, key: &str, value: &str) -> Result<i64, Status> {
        let request =
            pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() };
        Ok(self.kv().put(request).await?.into_inner().header.expect("a header").revision)
    }

    async fn alarm(
        &self,
        action: AlarmAction,
        alarm: AlarmType,
        member_id: u64,
    ) -> Result<Vec<(u64, AlarmType)>, Status> {
        let request = pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
        let alarms = self.maintenance().alarm(request).await?.into_inner().alarms;
        Ok(alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm())).collect())
    }

    async fn status(&self) -> pb::StatusResponse {
        self.maintenance().status(pb::StatusRequest {}).await.expect("status").into_inner()
    }

    async fn delete_all_and_compact(&self) {
        let all = pb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let revision =
            self.kv().delete_range(all).await.expect("deletes go on").into_inner().header.expect("one").revision;
        let compaction = pb::CompactionRequest { revision, physical: true };
        self.kv().compact(compaction).await.expect("compaction goes on");
    }
}

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

fn said<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("refused");
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_takes_deletes_and_is_whole_again_without_defragmentation() {
    let server = Server::start(8 << 20).await;
    let value = "v".repeat(256 << 10);
    let mut written = 0;
    let full = loop {
        match server.put(&format!("k{written}"), &value).await {
            Ok(_) => written += 1,
            Err(status) => break status,
        }
    };
    assert_eq!((full.code(), full.message()), (Code::ResourceExhausted, NO_SPACE));
    assert!((20..40).contains(&written), "{written} values of 256 KiB in 8 MiB");
    let status = server.status().await;
    let member = status.header.as_ref().expect("a header").member_id;
    assert_eq!(status.errors, [format!("memberID:{member} alarm:NOSPACE ")]);
    assert_eq!(status.db_size_quota, 8 << 20);
    assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 4 << 20, "{status:?}");

    let grant = pb::LeaseGrantRequest { ttl: 10, id: 1 };
    let refused = LeaseClient::new(server.member.routes()).lease_grant(grant).await;
    assert_eq!(said(refused), (Code::ResourceExhausted, NO_SPACE.to_owned()));
    let put = pb::PutRequest { key: "n".into(), ..Default::default() };
    let nested = pb::TxnRequest { success: vec![op(request_op::Request::RequestPut(put))], ..Default::default() };
    let txn = pb::TxnRequest { failure: vec![op(request_op::Request::RequestTxn(nested))], ..Default::default() };
    assert_eq!(said(server.kv().txn(txn).await), (Code::ResourceExhausted, NO_SPACE.to_owned()));

    server.delete_all_and_compact().await;
    assert_eq!(said(server.put("small", "1").await).1, NO_SPACE, "until somebody clears the alarm");
    assert_eq!(server.alarm(AlarmAction::Deactivate, AlarmType::Nospace, member).await.expect("cleared").len(), 1);
    for again in 0..20 {
        server.put(&format!("again{again}"), &value).await.expect("there is room");
    }
    assert!(server.status().await.errors.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_comes_back_by_itself() {
    let server = Server::start(0).await;
    let value = "v".repeat(64 << 10);
    for key in 0..256 {
        server.put(&format!("k{key}"), &value).await.expect("there is room");
    }
    let before = server.status().await;
    assert_eq!(before.db_size_quota, 2 << 30);
    assert!(before.db_size_in_use > 16 << 20, "{before:?}");
    server.delete_all_and_compact().await;
    server.maintenance().defragment(pb::DefragmentRequest {}).await.expect("it returns");
    let after = server.status().await;
    assert!(after.db_size_in_use < 1 << 20, "{after:?}");
    server.stop().await;
}

fn op(request: request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

#[tokio::test]
async fn alarms_are_raised_listed_and_cleared_as_in_etcd() {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None, Nospace};
    let server = Server::start(0).await;
    let steps = [
        (Get, None, 0, vec![]),
        (Activate, Nospace, 0, vec![(0, Nospace)]),
        (Activate, Nospace, 77, vec![(77, Nospace)]),
        (Activate, Nospace, 77, vec![(77, Nospace)]),
        (Activate, Corrupt, 5, vec![(5, Corrupt)]),
        (Activate, None, 5, vec![]),
        (Get, Nospace, 77, vec![(0, Nospace), (77, Nospace)]),
        (Get, None, 0, vec![(0, Nospace), (77, Nospace), (5, Corrupt)]),
        (Deactivate, None, 5, vec![]),
        (Deactivate, Nospace, 5, vec![]),
        (Deactivate, Corrupt, 5, vec![(5, Corrupt)]),
        (Deactivate, Nospace, 0, vec![(0, Nospace)]),
        (Get, None, 0, vec![(77, Nospace)]),
    ];
    for (action, alarm, member, expected) in steps {
        let got = server.alarm(action, alarm, member).await.expect("answered");
        assert_eq!(got, expected, "{action:?} {alarm:?} {member}");
    }
    assert_eq!(said(server.put("a", "1").await).1, NO_SPACE, "member 77 has no space still");
    let unknown = pb::AlarmRequest { action: Activate.into(), member_id: 5, alarm: 9 };
    assert_eq!(said(server.maintenance().alarm(unknown).await).0, Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn a_corrupt_cluster_is_read_and_not_written() {
    let server = Server::start(0).await;
    server.put("a", "1").await.expect("written");
    server.alarm(AlarmAction::Activate, AlarmType::Corrupt, 5).await.expect("raised");
    assert_eq!(said(server.put("a", "2").await), (Code::DataLoss, "etcdserver: corrupt cluster".to_owned()));
    let get = pb::RangeRequest { key: "a".into(), ..Default::default() };
    assert_eq!(server.kv().range(get).await.expect("read").into_inner().kvs[0].value, "1");
    assert_eq!(server.status().await.errors, ["memberID:5 alarm:CORRUPT "]);
    server.stop().await;
}

#[tokio::test]
async fn a_member_alone_leads_and_downgrades_nowhere() {
    let server = Server::start(-1).await;
    let status = server.status().await;
    assert_eq!((status.leader, status.db_size_quota), (status.header.expect("a header").member_id, -1));
    let move_to = |target_id| pb::MoveLeaderRequest { target_id };
    server.maintenance().move_leader(move_to(status.leader)).await.expect("it leads already");
    let refused = said(server.maintenance().move_leader(move_to(5)).await);
    assert_eq!(refused, (Code::FailedPrecondition, "etcdserver: bad leader transferee".to_owned()));

    let downgrade = |action: DowngradeAction, version: &str| {
        let request = pb::DowngradeRequest { action: action.into(), version: version.to_owned() };
        let mut client = server.maintenance();
        async move { client.downgrade(request).await.map(|answer| answer.into_inner().version) }
    };
    assert_eq!(downgrade(DowngradeAction::Validate, "3.5").await.expect("the one before"), "3.6");
    let refused = said(downgrade(DowngradeAction::Validate, "3.4").await);
    assert_eq!(refused, (Code::InvalidArgument, "etcdserver: invalid downgrade target version".to_owned()));
    let refused = said(downgrade(DowngradeAction::Cancel, "").await);
    assert_eq!(refused, (Code::FailedPrecondition, "etcdserver: no inflight downgrade job".to_owned()));
    assert_eq!(said(downgrade(DowngradeAction::Enable, "3.5").await).0, Code::FailedPrecondition);
    server.stop().await;
}

#[tokio::test]
async fn hashes_tell_their_revision_and_their_compaction() {
    let server = Server::start(0).await;
    let hash_kv = |revision| {
        let mut client = server.maintenance();
        async move { client.hash_kv(pb::HashKvRequest { revision }).await.map(tonic::Response::into_inner) }
    };
    let empty = hash_kv(0).await.expect("hashed");
    assert_eq!((empty.hash, empty.compact_revision, empty.hash_revision), (1_084_519_789, -1, 1));
    for value in ["1", "2", "3"] {
        server.put("a", value).await.expect("written");
    }
    let then = hash_kv(3).await.expect("hashed");
    server.put("b", "1").await.expect("written");
    assert_eq!(hash_kv(3).await.expect("hashed").hash, then.hash);
    server.kv().compact(pb::CompactionRequest { revision: 4, physical: true }).await.expect("compacted");
    let now = hash_kv(0).await.expect("hashed");
    assert_eq!((now.compact_revision, now.hash_revision, now.header.expect("a header").revision), (4, 5, 5));
    assert_eq!(said(hash_kv(3).await).0, Code::OutOfRange);
    assert_eq!(said(hash_kv(6).await).0, Code::OutOfRange);
    let mut client = server.maintenance();
    let whole = client.hash(pb::HashRequest {}).await.expect("hashed").into_inner();
    assert_eq!(client.hash(pb::HashRequest {}).await.expect("hashed").into_inner(), whole);
    server.stop().await;
}
