//! How long a client waits is kept where nobody can answer it.

use std::time::{Duration, Instant};

use client::{Get, Put};
use http::Uri;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use serde_json::{Value, json};
use tonic::{Code, Request, Status, body::Body};

use crate::harness::{Cluster, eventually};

const TIME: Duration = Duration::from_millis(300);
/// Less than it takes the server to give up by itself.
const IN_TIME: Duration = Duration::from_secs(4);

/// A client that tells its time, and leaves it to the server to keep it.
fn patient(cluster: &Cluster, at: usize) -> KvClient<Client<HttpConnector, Body>> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    KvClient::with_origin(client, Uri::try_from(format!("http://{}", cluster.member(at).etcd)).unwrap())
}

fn in_time<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(TIME);
    request
}

fn is_over<T: std::fmt::Debug>(answer: Result<T, Status>, since: Instant) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "context deadline exceeded"));
    assert!(since.elapsed() >= TIME && since.elapsed() < IN_TIME, "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_quorum_takes_in_time_is_answered_then_and_never_written() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let [alone, other] = [1, 2].map(|step| (leader + step) % 3);
    cluster.kill(other);
    cluster.kill(leader);

    let mut kv = patient(&cluster, alone);
    for number in 0..3 {
        let since = Instant::now();
        let late = PutRequest { key: format!("late/{number}").into(), ..Default::default() };
        is_over(kv.put(in_time(late)).await, since);
    }
    let since = Instant::now();
    is_over(kv.range(in_time(RangeRequest { key: "late/0".into(), ..Default::default() })).await, since);
    let (status, answer) = put_as_json(&cluster, alone, "300m").await;
    assert_eq!((status, &answer["code"]), (504, &json!(4)), "{answer}");
    let (status, answer) = put_as_json(&cluster, alone, "soon").await;
    assert_eq!((status, &answer["code"]), (400, &json!(3)), "{answer}");

    cluster.start(other).await;
    let client = cluster.client_of(alone);
    // What was to come before it, on the same way, has come or never will.
    let put = || async { client.put(Put::new("then", "1")).await.ok() };
    eventually("a quorum", put).await;
    let found = client.get(Get::prefix("late/")).await.unwrap();
    assert!(found.kvs.is_empty(), "{} were written late", found.kvs.len());
}

/// The HTTP status and the body of what the gateway says to a put of `late/json`.
async fn put_as_json(cluster: &Cluster, at: usize, timeout: &str) -> (u16, Value) {
    use http_body_util::{BodyExt, Full};
    let client: Client<HttpConnector, Full<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::post(format!("http://{}/v3/kv/put", cluster.member(at).etcd));
    // The key is `late/json`.
    let request = request.header("Grpc-Timeout", timeout).body(Full::from(r#"{"key":"bGF0ZS9qc29u"}"#)).unwrap();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    (head.status.as_u16(), serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
}
