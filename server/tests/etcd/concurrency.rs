//! etcd's `Lock` and `Election` services, asked as clients would ask that meet each other.

use std::time::Duration;

use meshstore_server::{Config, Member};
use proto::{
    etcdserverpb::{self as pb, kv_client::KvClient, lease_client::LeaseClient},
    v3electionpb::{
        CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest, election_client::ElectionClient,
    },
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, lock_client::LockClient},
};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tonic::{Code, Status, service::Routes};

const SOON: Duration = Duration::from_secs(10);

struct Server {
    _dir: TempDir,
    member: Member,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
        Self { member: Member::start(config).await.expect("the member starts"), _dir: dir }
    }

    /// Ends the member, so that nothing of it runs when the test's process ends.
    async fn stop(self) {
        self.member.shutdown().await.expect("stopped");
    }

    fn kv(&self) -> KvClient<Routes> {
        KvClient::new(self.member.routes())
    }

    fn lease(&self) -> LeaseClient<Routes> {
        LeaseClient::new(self.member.routes())
    }

    fn election(&self) -> ElectionClient<Routes> {
        ElectionClient::new(self.member.routes())
    }

    async fn grant(&self, id: i64) {
        self.lease().lease_grant(pb::LeaseGrantRequest { ttl: 600, id }).await.expect("granted");
    }

    /// Asks for the lock in a task of its own.
    fn lock(&self, lease: i64) -> JoinHandle<Result<LockResponse, Status>> {
        let mut client = LockClient::new(self.member.routes());
        tokio::spawn(async move {
            client.lock(LockRequest { name: "name".into(), lease }).await.map(tonic::Response::into_inner)
        })
    }

    async fn unlock(&self, key: &str) {
        let mut client = LockClient::new(self.member.routes());
        client.unlock(UnlockRequest { key: key.to_owned().into() }).await.expect("unlocked");
    }

    fn campaign(&self, lease: i64, value: &str) -> JoinHandle<Result<(i64, LeaderKey), Status>> {
        let (mut client, value) = (self.election(), value.to_owned());
        tokio::spawn(async move {
            let answer = client.campaign(CampaignRequest { name: "name".into(), lease, value: value.into() }).await?;
            let answer = answer.into_inner();
            Ok((answer.header.expect("a header").revision, answer.leader.expect("a leader")))
        })
    }

    async fn keys(&self) -> Vec<String> {
        let request = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let answer = self.kv().range(request).await.expect("read").into_inner();
        answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    /// Waits until these are all keys.
    async fn until_keys(&self, expected: &[&str]) {
        let same = async {
            while self.keys().await != expected {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(SOON, same).await.is_ok(), "{:?} and not {expected:?}", self.keys().await);
    }
}

async fn answer<T>(asked: JoinHandle<Result<T, Status>>) -> Result<T, Status> {
    timeout(SOON, asked).await.expect("answered in time").expect("no panic")
}

fn said<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("refused");
    (status.code(), status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_had_by_one_at_a_time_in_the_order_of_asking() {
    let server = Server::start().await;
    for lease in [0x10, 0x20, 0x30] {
        server.grant(lease).await;
    }
    let first = answer(server.lock(0x10)).await.expect("free");
    assert_eq!(first.key, "name/10");
    let again = answer(server.lock(0x10)).await.expect("it has it");
    assert_eq!((again.key, again.header), (first.key, first.header));
    let second = server.lock(0x20);
    server.until_keys(&["name/10", "name/20"]).await;
    let third = server.lock(0x30);
    server.until_keys(&["name/10", "name/20", "name/30"]).await;
    assert!(!second.is_finished() && !third.is_finished());
    server.unlock("name/10").await;
    assert_eq!(answer(second).await.expect("its turn").key, "name/20");
    assert!(!third.is_finished());
    server.lease().lease_revoke(pb::LeaseRevokeRequest { id: 0x20 }).await.expect("revoked");
    assert_eq!(answer(third).await.expect("its turn").key, "name/30");
    server.unlock("name/nobody").await;
    server.stop().await;
}

/// Jepsen, etcd 3.4.3: a waiter was told that it had the lock after its lease had ended (etcd-io/etcd#11456).
#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_whose_lease_ends_does_not_get_the_lock() {
    let server = Server::start().await;
    server.grant(1).await;
    server.grant(2).await;
    answer(server.lock(1)).await.expect("free");
    let waiter = server.lock(2);
    server.until_keys(&["name/1", "name/2"]).await;
    server.lease().lease_revoke(pb::LeaseRevokeRequest { id: 2 }).await.expect("revoked");
    server.until_keys(&["name/1"]).await;
    server.unlock("name/1").await;
    assert_eq!(said(answer(waiter).await), (Code::Unknown, "mutex: session is expired".to_owned()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let server = Server::start().await;
    server.grant(1).await;
    answer(server.lock(1)).await.expect("free");
    let waiter = server.lock(0);
    while server.keys().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    waiter.abort();
    server.until_keys(&["name/1"]).await;
    server.unlock("name/1").await;

    answer(server.campaign(1, "a")).await.expect("alone");
    let candidate = server.campaign(0, "b");
    while server.keys().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    candidate.abort();
    server.until_keys(&["name/1"]).await;
    server.stop().await;
}

#[tokio::test]
async fn without_a_lease_one_of_a_minute_is_granted_and_an_unknown_one_is_refused_without_a_code() {
    let server = Server::start().await;
    let locked = answer(server.lock(0)).await.expect("free");
    let lease = String::from_utf8_lossy(&locked.key).strip_prefix("name/").map(|id| i64::from_str_radix(id, 16));
    let id = lease.expect("under the name").expect("hexadecimal");
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    let granted = server.lease().lease_time_to_live(request).await.expect("it is there").into_inner();
    assert_eq!((granted.granted_ttl, &granted.keys[..]), (60, &[locked.key][..]));
    let unknown = (Code::Unknown, "etcdserver: requested lease not found".to_owned());
    assert_eq!(said(answer(server.lock(5)).await), unknown);
    assert_eq!(said(answer(server.campaign(99, "v")).await), unknown);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_the_next_follows_and_who_lost_it_proclaims_nothing() {
    let server = Server::start().await;
    server.grant(1).await;
    server.grant(2).await;
    let name = || LeaderRequest { name: "name".into() };
    assert_eq!(said(server.election().leader(name()).await), (Code::Unknown, "election: no leader".to_owned()));
    let (revision, leader) = answer(server.campaign(1, "one")).await.expect("alone");
    assert_eq!((&leader.key[..], leader.rev, leader.lease), (&b"name/1"[..], revision, 1));
    let second = server.campaign(2, "two");
    server.until_keys(&["name/1", "name/2"]).await;

    let proclaim = |leader: Option<LeaderKey>, value: &str| {
        let (mut client, value) = (server.election(), value.to_owned());
        async move { client.proclaim(ProclaimRequest { leader, value: value.into() }).await.map(drop) }
    };
    proclaim(Some(leader.clone()), "still one").await.expect("it leads");
    let told = server.election().leader(name()).await.expect("a leader").into_inner().kv.expect("a key");
    assert_eq!((told.value, told.lease, told.version), ("still one".into(), 1, 2));
    // Another campaign of the leader changes what it proclaims.
    let (_, same) = answer(server.campaign(1, "one again")).await.expect("it leads");
    assert_eq!(same.rev, leader.rev);

    let resign = |leader: Option<LeaderKey>| {
        let mut client = server.election();
        async move { client.resign(ResignRequest { leader }).await.map(drop) }
    };
    resign(Some(leader.clone())).await.expect("resigned");
    resign(Some(leader.clone())).await.expect("it does no harm");
    let (_, next) = answer(second).await.expect("its turn");
    assert_eq!(next.key, "name/2");
    assert_eq!(said(proclaim(Some(leader), "late").await), (Code::Unknown, "election: not leader".to_owned()));
    let no_key = (Code::Unknown, r#""leader" field must be provided"#.to_owned());
    assert_eq!((said(proclaim(None, "v").await), said(resign(None).await)), (no_key.clone(), no_key));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_sees_every_leader_and_all_that_it_proclaims() {
    let server = Server::start().await;
    server.grant(1).await;
    server.grant(2).await;
    let observe = server.election().observe(LeaderRequest { name: "name".into() }).await;
    let mut observed = observe.expect("a stream").into_inner();
    let (_, first) = answer(server.campaign(1, "one")).await.expect("alone");
    assert_eq!(next_of(&mut observed).await, "one");
    let again = ProclaimRequest { leader: Some(first.clone()), value: "one again".into() };
    server.election().proclaim(again).await.expect("it leads");
    assert_eq!(next_of(&mut observed).await, "one again");
    let second = server.campaign(2, "two");
    server.until_keys(&["name/1", "name/2"]).await;
    server.election().resign(ResignRequest { leader: Some(first) }).await.expect("resigned");
    assert_eq!(next_of(&mut observed).await, "two");
    answer(second).await.expect("its turn");
    server.stop().await;
}

async fn next_of(observed: &mut tonic::Streaming<proto::v3electionpb::LeaderResponse>) -> String {
    let leader = timeout(SOON, observed.message()).await.expect("told in time").expect("no error").expect("goes on");
    let kv = leader.kv.expect("a key");
    assert!(leader.header.expect("a header").revision >= kv.mod_revision);
    String::from_utf8_lossy(&kv.value).into_owned()
}
