//! Many leases at once.

use std::time::{Duration, Instant};

use meshstore_server::{Config, Member};
use proto::etcdserverpb::{
    self as pb, kv_client::KvClient, lease_client::LeaseClient, watch_client::WatchClient, watch_request::RequestUnion,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::service::Routes;

const LEASES: i64 = 5000;
const TTL: Duration = Duration::from_secs(5);
/// A lease may end this late: generous, since the machine of a test may be busy with others.
const LATE_MAX: Duration = Duration::from_secs(5);

async fn start() -> (TempDir, Member) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
    let member = Member::start(config).await.expect("the member starts");
    (dir, member)
}

async fn grant_and_put(routes: Routes, id: i64, ttl: i64) -> Instant {
    let granted = LeaseClient::new(routes.clone()).lease_grant(pb::LeaseGrantRequest { ttl, id }).await;
    let granted_at = Instant::now();
    assert_eq!(granted.expect("granted").into_inner().ttl, ttl);
    let put = pb::PutRequest { key: format!("leased/{id:06}").into(), lease: id, ..Default::default() };
    KvClient::new(routes).put(put).await.expect("written");
    granted_at
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_leases_end_together_none_of_them_early_or_late() {
    let (_dir, member) = start().await;
    let (requests, stream) = mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: "leased/".into(),
        range_end: "leased0".into(),
        filters: vec![pb::watch_create_request::FilterType::Noput.into()],
        ..Default::default()
    };
    requests.send(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.expect("open");
    let watch = WatchClient::new(member.routes()).watch(ReceiverStream::new(stream)).await;
    let mut deleted = watch.expect("watched").into_inner();
    assert!(deleted.next().await.expect("goes on").expect("no error").created);

    let mut grants = JoinSet::new();
    let before = Instant::now();
    for id in 1..=LEASES {
        grants.spawn(grant_and_put(member.routes(), id, i64::try_from(TTL.as_secs()).expect("small")));
    }
    let granted: Vec<Instant> = grants.join_all().await;
    let last = granted.into_iter().max().expect("some");
    let mut seen = 0;
    while seen < LEASES {
        let events =
            timeout(TTL + LATE_MAX, deleted.next()).await.expect("in time").expect("goes on").expect("no error");
        assert!(before.elapsed() >= TTL, "a lease ended early");
        seen += i64::try_from(events.events.len()).expect("few");
    }
    assert!(last.elapsed() <= TTL + LATE_MAX, "the last ended {:?} after its grant", last.elapsed());
    println!("the last of {LEASES} leases ended {:?} late", last.elapsed().saturating_sub(TTL));
    let left = LeaseClient::new(member.routes()).lease_leases(pb::LeaseLeasesRequest {}).await.expect("listed");
    assert!(left.into_inner().leases.is_empty());
    member.shutdown().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_keeps_thousands_of_leases_alive_and_answers_in_order() {
    let (_dir, member) = start().await;
    let mut grants = JoinSet::new();
    for id in 1..=LEASES {
        grants.spawn(grant_and_put(member.routes(), id, 600));
    }
    grants.join_all().await;
    let (requests, stream) = mpsc::channel(64);
    let answers = LeaseClient::new(member.routes()).lease_keep_alive(ReceiverStream::new(stream)).await;
    let mut answers = answers.expect("a stream").into_inner();
    let asking = tokio::spawn(async move {
        for id in 1..=LEASES + 1 {
            requests.send(pb::LeaseKeepAliveRequest { id }).await.expect("open");
        }
    });
    for id in 1..=LEASES + 1 {
        let answer = answers.next().await.expect("an answer").expect("no error");
        assert_eq!((answer.id, answer.ttl), (id, if id > LEASES { 0 } else { 600 }));
    }
    assert!(answers.next().await.is_none());
    asking.await.expect("all were asked");
    member.shutdown().await.expect("stopped");
}

/// How long one write takes.
async fn put(routes: Routes, key: String, lease: i64) -> Duration {
    let asked = Instant::now();
    let put = pb::PutRequest { key: key.into(), value: "v".into(), lease, ..Default::default() };
    KvClient::new(routes).put(put).await.expect("written");
    asked.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_with_very_many_keys_ends_in_one_revision_and_delays_nobody() {
    const KEYS: i64 = 20_000;
    let (_dir, member) = start().await;
    let lease = || LeaseClient::new(member.routes());
    lease().lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 1 }).await.expect("granted");
    let mut puts = JoinSet::new();
    for key in 0..KEYS {
        puts.spawn(put(member.routes(), format!("leased/{key:06}"), 1));
    }
    puts.join_all().await;

    let routes = member.routes();
    let revoking = tokio::spawn(async move {
        LeaseClient::new(routes).lease_revoke(pb::LeaseRevokeRequest { id: 1 }).await.map(tonic::Response::into_inner)
    });
    let mut slowest = Duration::ZERO;
    for number in 0..200 {
        slowest = slowest.max(put(member.routes(), format!("other/{number}"), 0).await);
    }
    let revoked = revoking.await.expect("no panic").expect("revoked").header.expect("a header").revision;
    // A bound that a busy machine keeps too; deleting them all at once takes a multiple of it.
    assert!(slowest < Duration::from_millis(500), "a write took {slowest:?} beside the end of a lease of {KEYS} keys");
    println!("slowest write beside the end of a lease of {KEYS} keys: {slowest:?}");

    let mut kv = KvClient::new(member.routes());
    let leased = |revision| pb::RangeRequest {
        key: "leased/".into(),
        range_end: "leased0".into(),
        count_only: true,
        revision,
        ..Default::default()
    };
    assert_eq!(kv.range(leased(0)).await.expect("read").into_inner().count, 0);
    assert_eq!(kv.range(leased(revoked - 1)).await.expect("read").into_inner().count, KEYS);
    assert_eq!(kv.range(leased(revoked)).await.expect("read").into_inner().count, 0);

    let (requests, stream) = mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: "leased/".into(),
        range_end: "leased0".into(),
        start_revision: revoked,
        ..Default::default()
    };
    requests.send(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.expect("open");
    let watch = WatchClient::new(member.routes()).max_decoding_message_size(usize::MAX);
    let mut history = watch.clone().watch(ReceiverStream::new(stream)).await.expect("watched").into_inner();
    assert!(history.next().await.expect("goes on").expect("no error").created);
    let deleted =
        timeout(Duration::from_mins(1), history.next()).await.expect("in time").expect("goes on").expect("no error");
    assert_eq!(deleted.events.len(), usize::try_from(KEYS).expect("positive"));
    assert!(deleted.events.iter().all(|event| event.kv.as_ref().is_some_and(|kv| kv.mod_revision == revoked)));
    member.shutdown().await.expect("stopped");
}
