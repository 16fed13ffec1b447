//! What programs in Rust do with the crate etcd-client.

use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions, Permission, ProclaimOptions, PutOptions, ResignOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};

use crate::harness::Server;

/// How long a token of the server lives.
const TOKEN_TTL: Duration = Duration::from_secs(2);

/// A server without keys, and a client of it.
async fn serve() -> (Server, Client) {
    let server = Server::start_with(&["--auth-token-ttl", "2"]).await;
    let client = connect(&server, None).await;
    (server, client)
}

async fn connect(server: &Server, options: Option<ConnectOptions>) -> Client {
    Client::connect([server.endpoint()], options).await.unwrap()
}

/// What the server refuses, in its words.
fn refused<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => panic!("it was not refused"),
        Err(Error::GRpcStatus(status)) => status.message().to_owned(),
        Err(other) => other.to_string(),
    }
}

#[tokio::test]
async fn keys_ranges_and_history() {
    let (_server, mut client) = serve().await;
    let first = client.put("k", "1", None).await.unwrap().header().unwrap().revision();
    let put = client.put("k", "2", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value(), b"1");
    let got = client.get("k", Some(GetOptions::new().with_revision(first))).await.unwrap();
    assert_eq!((got.count(), got.kvs()[0].value(), got.kvs()[0].version()), (1, &b"1"[..], 1));

    for number in 0..5 {
        client.put(format!("p/{number}"), format!("{}", 9 - number), None).await.unwrap();
    }
    let by_value = GetOptions::new().with_prefix().with_sort(SortTarget::Value, SortOrder::Ascend).with_limit(2);
    let got = client.get("p/", Some(by_value)).await.unwrap();
    let keys: Vec<_> = got.kvs().iter().map(|kv| kv.key_str().unwrap()).collect();
    assert_eq!((keys, got.more(), got.count()), (vec!["p/4", "p/3"], true, 5));
    let counted = client.get("p/3", Some(GetOptions::new().with_from_key().with_count_only())).await.unwrap();
    assert_eq!((counted.count(), counted.kvs().len()), (2, 0));

    let mut pieces = client.kv_client().get_stream("p/", Some(GetOptions::new().with_prefix())).await.unwrap();
    let mut streamed = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        streamed.extend(piece.kvs().iter().map(|kv| kv.key().to_vec()));
    }
    assert_eq!(streamed, [b"p/0", b"p/1", b"p/2", b"p/3", b"p/4"]);

    let range = DeleteOptions::new().with_range("p/3").with_prev_key();
    let deleted = client.delete("p/1", Some(range)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs()[1].value()), (2, &b"7"[..]));

    client.compact(first + 1, None).await.unwrap();
    let compacted = client.get("k", Some(GetOptions::new().with_revision(first))).await;
    assert_eq!(refused(compacted), "etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn transactions() {
    let (_server, mut client) = serve().await;
    client.put("a", "1", None).await.unwrap();
    let inner = Txn::new().when([Compare::version("a", CompareOp::Equal, 1)]).and_then([TxnOp::get("a", None)]);
    let swap = |value: &str| {
        Txn::new()
            .when([Compare::value("a", CompareOp::Equal, value), Compare::create_revision("b", CompareOp::Equal, 0)])
            .and_then([TxnOp::txn(inner.clone()), TxnOp::put("b", "2", None), TxnOp::delete("a", None)])
            .or_else([TxnOp::get("b", None)])
    };
    let done = client.txn(swap("1")).await.unwrap();
    let answers = done.op_responses();
    let [TxnOpResponse::Txn(nested), TxnOpResponse::Put(_), TxnOpResponse::Delete(deleted)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(done.succeeded() && nested.succeeded());
    assert!(matches!(&nested.op_responses()[..], [TxnOpResponse::Get(got)] if got.kvs()[0].value() == b"1"));
    assert_eq!(deleted.deleted(), 1);
    let not_done = client.txn(swap("1")).await.unwrap();
    assert!(!not_done.succeeded());
    assert!(matches!(&not_done.op_responses()[..], [TxnOpResponse::Get(got)] if got.kvs()[0].value() == b"2"));
    let twice = Txn::new().and_then([TxnOp::put("x", "1", None), TxnOp::put("x", "2", None)]);
    assert_eq!(refused(client.txn(twice).await), "etcdserver: duplicate key given in txn request");
}

#[tokio::test]
async fn watches() {
    let (_server, mut client) = serve().await;
    let first = client.put("w/1", "1", None).await.unwrap().header().unwrap().revision();
    let options = WatchOptions::new().with_prefix().with_start_revision(first).with_prev_key();
    let mut watch = client.watch("w/", Some(options)).await.unwrap();
    let created = watch.message().await.unwrap().unwrap();
    assert!(created.created());
    client.put("w/1", "2", None).await.unwrap();
    client.put("other", "0", None).await.unwrap();
    client.delete("w/1", None).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        for event in watch.message().await.unwrap().unwrap().events() {
            let before = event.prev_kv().map(|kv| kv.value().to_vec());
            seen.push((event.event_type(), event.kv().unwrap().value().to_vec(), before));
        }
    }
    let expected = [
        (EventType::Put, b"1".to_vec(), None),
        (EventType::Put, b"2".to_vec(), Some(b"1".to_vec())),
        (EventType::Delete, b"".to_vec(), Some(b"2".to_vec())),
    ];
    assert_eq!(seen, expected);

    watch.request_progress().await.unwrap();
    let progress = watch.message().await.unwrap().unwrap();
    assert_eq!((progress.events().len(), progress.header().unwrap().revision()), (0, first + 3));
    watch.cancel(created.watch_id()).await.unwrap();
    assert!(watch.message().await.unwrap().unwrap().canceled());

    client.compact(first + 1, None).await.unwrap();
    let mut late = client.watch("w/1", Some(WatchOptions::new().with_start_revision(first))).await.unwrap();
    let ended = loop {
        let answer = late.message().await.unwrap().unwrap();
        if answer.canceled() {
            break answer;
        }
    };
    assert_eq!(ended.compact_revision(), first + 1);
}

#[tokio::test]
async fn leases() {
    let (_server, mut client) = serve().await;
    let lease = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(0x5eed))).await.unwrap();
    assert_eq!((lease.id(), lease.ttl()), (0x5eed, 60));
    client.put("l", "1", Some(PutOptions::new().with_lease(lease.id()))).await.unwrap();
    let (mut keeper, mut kept) = client.lease_keep_alive(lease.id()).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl(), 60);
    let asked = client.lease_time_to_live(lease.id(), Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
    assert_eq!((asked.granted_ttl(), asked.keys()), (60, &[b"l".to_vec()][..]));
    assert_eq!(client.leases().await.unwrap().leases()[0].id(), lease.id());
    client.lease_revoke(lease.id()).await.unwrap();
    assert_eq!(client.get("l", None).await.unwrap().count(), 0);
    assert!(client.lease_keep_alive(lease.id()).await.is_err());

    let short = client.lease_grant(1, None).await.unwrap().id();
    client.put("short", "1", Some(PutOptions::new().with_lease(short))).await.unwrap();
    let mut watch = client.watch("short", None).await.unwrap();
    let deleted = loop {
        let answer = watch.message().await.unwrap().unwrap();
        if let Some(event) = answer.events().first() {
            break event.event_type();
        }
    };
    assert_eq!(deleted, EventType::Delete);
}

#[tokio::test]
async fn locks_and_elections() {
    let (_server, mut client) = serve().await;
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let locked = client.lock("lock", Some(LockOptions::new().with_lease(lease))).await.unwrap();
    assert_eq!(locked.key(), format!("lock/{lease:x}").as_bytes());
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { client.lock("lock", None).await }
    });
    client.unlock(locked.key()).await.unwrap();
    let next = waiting.await.unwrap().unwrap();
    client.unlock(next.key()).await.unwrap();

    let elected = client.campaign("office", "first", lease).await.unwrap();
    let leader = elected.leader().unwrap().clone();
    assert_eq!((leader.name(), leader.lease()), (&b"office"[..], lease));
    let mut observed = client.observe("office").await.unwrap();
    assert_eq!(observed.message().await.unwrap().unwrap().kv().unwrap().value(), b"first");
    let proclaimed = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("second", Some(proclaimed)).await.unwrap();
    assert_eq!(observed.message().await.unwrap().unwrap().kv().unwrap().value(), b"second");
    assert_eq!(client.leader("office").await.unwrap().kv().unwrap().key(), leader.key());
    client.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
    assert_eq!(refused(client.leader("office").await), "election: no leader");
}

#[tokio::test]
async fn the_cluster_and_its_maintenance() {
    let (_server, mut client) = serve().await;
    client.put("k", "1", None).await.unwrap();
    let members = client.member_list().await.unwrap();
    let [member] = members.members() else { panic!("{members:?}") };
    let status = client.status().await.unwrap();
    assert_eq!((status.leader(), status.is_learner(), status.version()), (member.id(), false, "3.6.0"));
    let hash = client.hash_kv(0).await.unwrap();
    assert_eq!((hash.hash(), hash.hash_revision()), (client.hash_kv(2).await.unwrap().hash(), 2));
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert_eq!(alarms.alarms().len(), 0);
    client.defragment().await.unwrap();

    let mut pieces = client.snapshot().await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = pieces.message().await.unwrap() {
        bytes += piece.blob().len();
    }
    // Pages, and the checksum after them.
    assert_eq!(bytes % 512, 32);
    assert_eq!(refused(client.member_remove(1).await), "etcdserver: member not found");
}

#[tokio::test]
async fn authentication() {
    let (server, mut client) = serve().await;
    client.user_add("root", "secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("reader").await.unwrap();
    client.role_grant_permission("reader", Permission::read("p/").with_prefix()).await.unwrap();
    client.user_add("ann", "ann's", None).await.unwrap();
    client.user_grant_role("ann", "reader").await.unwrap();
    client.auth_enable().await.unwrap();
    assert_eq!(refused(client.put("p/1", "1", None).await), "etcdserver: user name is empty");

    let wrong = Client::connect([server.endpoint()], Some(ConnectOptions::new().with_user("ann", "root's"))).await;
    assert_eq!(refused(wrong), "etcdserver: authentication failed, invalid user ID or password");
    let mut root = connect(&server, Some(ConnectOptions::new().with_user("root", "secret"))).await;
    root.put("p/1", "1", None).await.unwrap();
    let options = ConnectOptions::new().with_user("ann", "ann's").with_auto_token_refresh(true);
    let mut ann = connect(&server, Some(options)).await;
    assert_eq!(ann.get("p/1", None).await.unwrap().count(), 1);
    assert_eq!(refused(ann.put("p/1", "2", None).await), "etcdserver: permission denied");
    assert_eq!(refused(ann.get("q", None).await), "etcdserver: permission denied");

    // A token ends; who asks for another one by itself goes on.
    tokio::time::sleep(2 * TOKEN_TTL).await;
    assert_eq!(refused(root.get("p/1", None).await), "etcdserver: invalid auth token");
    assert_eq!(ann.get("p/1", None).await.unwrap().count(), 1);
    let mut root = connect(&server, Some(ConnectOptions::new().with_user("root", "secret"))).await;
    root.auth_disable().await.unwrap();
    client.put("p/1", "3", None).await.unwrap();
}
