//! Calls: what they answer, when they move to another endpoint, and when they are repeated.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod fake;

use fake::{Fake, Node, PutFault, until};
use meshstore_client::{Client, ClientError, Code, Compare, Config, Get, Op, OpResponse, Put, Txn};
use std::{net::TcpListener, time::Duration};
use types::{LeaseId, Revision};

fn client(endpoints: impl IntoIterator<Item = String>) -> Client {
    let timeouts = Config { request_timeout: Duration::from_secs(2), ..Config::default() };
    Client::connect(&Config { endpoints: endpoints.into_iter().collect(), ..timeouts }).unwrap()
}

/// A port on which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn the_same_calls_work_in_process_and_over_a_socket() {
    let (here, there) = (Fake::new(), Fake::new());
    let node = Node::start(&there);
    for client in [Client::in_process(here.routes()), client([node.endpoint()])] {
        assert_eq!(client.put(Put::new("a", "x")).await.unwrap().revision, Revision::new(2).unwrap());
        let txn = Txn::new()
            .when(Compare::mod_revision("a").equal(2))
            .then(Op::put("b", "y"))
            .then(Op::Txn(Txn::new().then(Op::get("b"))));
        let done = client.txn(txn).await.unwrap();
        assert!(done.succeeded && done.revision.get() == 3);
        let [OpResponse::Put(_), OpResponse::Txn(inner)] = &done.responses[..] else { panic!("{done:?}") };
        let [OpResponse::Get(read)] = &inner.responses[..] else { panic!("{inner:?}") };
        assert_eq!((read.kvs[0].key.as_ref(), read.revision.get()), (&b"b"[..], 3));

        let all = client.get(Get::key("")).await;
        assert!(
            matches!(&all, Err(ClientError::Refused { code: Code::InvalidArgument, text })
            if text == "etcdserver: key is not provided"),
            "{all:?}"
        );
        client.compact(Revision::new(3).unwrap(), false).await.unwrap();
        let old = client.get(Get { revision: Revision::new(2), ..Get::key("a") }).await;
        assert!(matches!(old, Err(ClientError::Compacted { .. })));
        let missing = client.delete(meshstore_client::Delete::key("a")).await;
        assert!(matches!(missing, Err(ClientError::Refused { code: Code::Unimplemented, .. })));
    }
}

#[tokio::test]
async fn calls_leave_an_endpoint_that_is_down_and_come_to_one_that_is_up() {
    let fake = Fake::new();
    let (mut first, second) = (Node::start(&fake), Node::start(&fake));
    let client = client([nobody(), first.endpoint(), second.endpoint()]);
    client.put(Put::new("a", "1")).await.unwrap();
    first.kill();
    assert_eq!(client.get(Get::key("a")).await.unwrap().count, 1);
    client.put(Put::new("a", "2")).await.unwrap();
    assert_eq!(fake.state().revision, 3, "each write happened once");
}

#[tokio::test]
async fn a_read_waits_for_a_server_that_comes_back() {
    let fake = Fake::new();
    let mut node = Node::start(&fake);
    let client = client([node.endpoint()]);
    client.put(Put::new("a", "1")).await.unwrap();
    let address = node.address;
    node.kill();
    let read = tokio::spawn(async move { client.get(Get::key("a")).await });
    let mut again = None;
    until("the port is free again", || TcpListener::bind(address).is_ok()).await;
    again.replace(Node::start_at(&fake, address));
    assert_eq!(read.await.unwrap().unwrap().count, 1);
}

#[tokio::test]
async fn a_read_does_not_wait_long_for_a_silent_endpoint() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let fake = Fake::new();
    let node = Node::start(&fake);
    let client = client([silent.local_addr().unwrap().to_string(), node.endpoint()]);
    assert_eq!(client.get(Get::key("a")).await.unwrap().count, 0);
}

#[tokio::test]
async fn nobody_to_ask_is_said_with_its_reason() {
    let endpoint = nobody();
    let config = Config { request_timeout: Duration::from_millis(200), ..Config::new([endpoint.clone()]) };
    let client = Client::connect(&config).unwrap();
    let read = client.get(Get::key("a")).await.unwrap_err();
    let write = client.put(Put::new("a", "1")).await.unwrap_err();
    for error in [read, write] {
        assert!(matches!(error, ClientError::Unavailable { .. }) && error.is_repeatable(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&endpoint) && text.contains("refused"), "{text}");
    }
    assert!(matches!(Client::connect(&Config::new(Vec::<String>::new())), Err(ClientError::Config(_))));
}

#[tokio::test]
async fn a_write_whose_answer_is_an_error_of_unknown_outcome_is_not_repeated() {
    let fake = Fake::new();
    let (first, second) = (Node::start(&fake), Node::start(&fake));
    let client = client([first.endpoint(), second.endpoint()]);
    let text = "etcdserver: request timed out".to_owned();
    fake.state().put_faults.push_back(PutFault::AnswerWith(Code::Unavailable, text.clone()));
    let error = client.put(Put::new("a", "1")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Uncertain { text: said } if said.contains(&text)), "{error:?}");
    assert_eq!(fake.state().revision, 2, "written once");
}

#[tokio::test]
async fn a_write_cut_off_in_the_middle_is_not_repeated() {
    let fake = Fake::new();
    let (mut first, second) = (Node::start(&fake), Node::start(&fake));
    let client = client([first.endpoint(), second.endpoint()]);
    client.get(Get::key("warm-up")).await.unwrap();
    fake.state().put_faults.push_back(PutFault::NeverAnswer);
    let writer = client.clone();
    let write = tokio::spawn(async move { writer.put(Put::new("a", "1")).await });
    until("the write arrived", || fake.state().revision == 2).await;
    first.kill();
    let error = write.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Uncertain { .. }), "{error:?}");
    assert_eq!(fake.state().revision, 2, "written once");
    assert_eq!(client.get(Get::key("a")).await.unwrap().count, 1, "reads go on elsewhere");
}

#[tokio::test]
async fn a_write_that_is_not_answered_in_time_is_uncertain() {
    let fake = Fake::new();
    let node = Node::start(&fake);
    let config = Config { request_timeout: Duration::from_millis(300), ..Config::new([node.endpoint()]) };
    let client = Client::connect(&config).unwrap();
    client.get(Get::key("warm-up")).await.unwrap();
    fake.state().put_faults.push_back(PutFault::NeverAnswer);
    let error = client.put(Put::new("a", "1")).await.unwrap_err();
    assert!(matches!(error, ClientError::Uncertain { .. }), "{error:?}");
}

#[tokio::test]
async fn leases_are_granted_asked_for_and_ended() {
    let fake = Fake::new();
    let client = Client::in_process(fake.routes());
    let id = LeaseId::new(42).unwrap();
    let granted = client.lease_grant(Duration::from_secs(9), Some(id)).await.unwrap();
    assert_eq!((granted.id, granted.ttl), (id, Duration::from_secs(9)));
    assert_eq!(client.leases().await.unwrap().leases, [id]);
    assert_eq!(client.lease_keep_alive_once(id).await.unwrap().ttl, Duration::from_secs(9));
    assert_eq!(client.lease_time_to_live(id, false).await.unwrap().remaining, Some(Duration::from_secs(9)));
    client.lease_revoke(id).await.unwrap();
    assert_eq!(client.lease_time_to_live(id, false).await.unwrap().remaining, None);
    for gone in [client.lease_revoke(id).await.map(drop), client.lease_keep_alive_once(id).await.map(drop)] {
        assert!(matches!(gone, Err(ClientError::Refused { code: Code::NotFound, .. })), "{gone:?}");
    }
}
