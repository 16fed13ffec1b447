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
/// What is waited for no longer. How late leases end is measured, not tested: `benches/scale`.
const DEADLINE: Duration = Duration::from_mins(2);

async fn start() -> (TempDir, Member) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let member = start_on(&dir, store::Limits::default()).await;
    (dir, member)
}

async fn start_on(dir: &TempDir, store: store::Limits) -> Member {
    let config = Config { data_dir: dir.path().join("data"), store, ..Config::default() };
    Member::start(config).await.expect("the member starts")
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
async fn thousands_of_leases_end_together_and_none_of_them_early() {
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
    grants.join_all().await;
    let mut seen = 0;
    while seen < LEASES {
        let events = timeout(DEADLINE, deleted.next()).await.expect("in time").expect("goes on").expect("no error");
        assert!(before.elapsed() >= TTL, "a lease ended early");
        seen += i64::try_from(events.events.len()).expect("few");
    }
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

async fn put(routes: Routes, key: String, lease: i64) {
    let put = pb::PutRequest { key: key.into(), value: "v".into(), lease, ..Default::default() };
    KvClient::new(routes).put(put).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_with_very_many_keys_ends_in_one_revision_beside_other_writes() {
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
    for number in 0..200 {
        put(member.routes(), format!("other/{number}"), 0).await;
    }
    let revoked = revoking.await.expect("no panic").expect("revoked").header.expect("a header").revision;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_long_lease_goes_on_from_its_checkpoint_and_a_renewed_one_from_its_beginning() {
    const LONG: i64 = 3_600;
    // Leases that end at once are listed by their number.
    const RENEWED: i64 = 1;
    const NOTED: i64 = 2;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let limits = || store::Limits { lease_checkpoint_interval: Duration::from_secs(1), ..Default::default() };
    let member = start_on(&dir, limits()).await;
    for id in [RENEWED, NOTED] {
        let mut lease = LeaseClient::new(member.routes());
        lease.lease_grant(pb::LeaseGrantRequest { ttl: LONG, id }).await.expect("granted");
    }
    let before = left(&member, NOTED, |left| left < LONG - 3).await;
    renew(&member, RENEWED).await;
    member.shutdown().await.expect("stopped");

    let member = start_on(&dir, limits()).await;
    assert!(left(&member, NOTED, |_| true).await < before + 3, "more than was noted, and than a new leader adds");
    let leases = LeaseClient::new(member.routes()).lease_leases(pb::LeaseLeasesRequest {}).await.expect("listed");
    let in_order: Vec<_> = leases.into_inner().leases.into_iter().map(|lease| lease.id).collect();
    assert_eq!(in_order, [NOTED, RENEWED]);
    renew(&member, NOTED).await;
    let again = left(&member, NOTED, |_| true).await;
    assert!(again + 3 > left(&member, RENEWED, |_| true).await, "it is renewed for all of its time");
    member.shutdown().await.expect("stopped");
}

/// What a lease has left, seconds, once that is as expected.
async fn left(member: &Member, id: i64, expected: impl Fn(i64) -> bool) -> i64 {
    let asked = async {
        loop {
            let request = pb::LeaseTimeToLiveRequest { id, keys: false };
            // A leader that has just begun asks to be asked again.
            if let Ok(answer) = LeaseClient::new(member.routes()).lease_time_to_live(request).await
                && expected(answer.get_ref().ttl)
            {
                return answer.get_ref().ttl;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, asked).await.expect("in time")
}

async fn renew(member: &Member, id: i64) {
    let (requests, stream) = mpsc::channel(1);
    requests.send(pb::LeaseKeepAliveRequest { id }).await.expect("open");
    let answers = LeaseClient::new(member.routes()).lease_keep_alive(ReceiverStream::new(stream)).await;
    let answer = answers.expect("a stream").into_inner().next().await.expect("an answer").expect("no error");
    assert!(answer.ttl > 0, "{answer:?}");
}
