//! What happens to requests when things go wrong, or are made to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt;
use proto::envoy::{
    config::{
        cluster::v3::{CircuitBreakers, Cluster, OutlierDetection, circuit_breakers::Thresholds},
        route::v3::{RetryPolicy, Route, RouteAction},
    },
    extensions::filters::{
        common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
        http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
    },
    r#type::v3::FractionalPercent,
};

use crate::{
    app::{App, free_port, full, get, local, send},
    mesh::eventually,
    resources::{any, assignment, cluster, forward, millis, number, on_prefix, route_to, truth},
    routing::Fixture,
};

fn retry(on: &str, retries: u32) -> RetryPolicy {
    RetryPolicy { retry_on: on.to_owned(), num_retries: number(retries), ..Default::default() }
}

/// Fails so many times, then echoes the request's body.
async fn flaky(failures: usize) -> App {
    App::start(move |request, before| {
        Box::pin(async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let status = if before < failures { 503 } else { 200 };
            Response::builder().status(status).body(full(body)).unwrap()
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_repeated_with_its_body() {
    let action = RouteAction { retry_policy: Some(retry("5xx", 3)), ..forward("a") };
    let fixture = Fixture::with(vec![on_prefix("/", action)], flaky(2).await, flaky(0).await).await;
    let body = Bytes::from(vec![b'x'; 40_000]);
    let reply = send(local(fixture.port), Method::POST, "/", &[], body.clone()).await.unwrap();
    assert_eq!((reply.status, reply.body.len(), fixture.a.hits()), (200, 40_000, 3));
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_processed_is_not_repeated_by_default() {
    let policy = retry("connect-failure,refused-stream,reset-before-request", 2);
    let action = RouteAction { retry_policy: Some(policy), ..forward("a") };
    let fixture = Fixture::with(vec![on_prefix("/", action)], flaky(1).await, flaky(0).await).await;
    let reply = send(local(fixture.port), Method::POST, "/", &[], Bytes::from_static(b"pay")).await.unwrap();
    assert_eq!((reply.status, fixture.a.hits()), (503, 1));

    // A refused connection is: the other endpoint answers.
    let endpoints = [local(free_port()), fixture.a.address];
    fixture.mesh.state.put("a", &assignment("a", &endpoints));
    eventually("the dead endpoint is known", async || {
        get(fixture.proxy.admin, "/config_dump", &[]).await.unwrap().body.contains("\"endpoints\": 2")
    })
    .await;
    for _ in 0..20 {
        let reply = send(local(fixture.port), Method::POST, "/", &[], Bytes::from_static(b"pay")).await.unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, "pay"));
    }
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_long_to_keep_is_sent_once() {
    let action = RouteAction { retry_policy: Some(retry("5xx", 3)), ..forward("a") };
    let fixture = Fixture::with(vec![on_prefix("/", action)], flaky(1).await, flaky(0).await).await;
    let body = Bytes::from(vec![b'x'; 200_000]);
    let reply = send(local(fixture.port), Method::POST, "/", &[], body).await.unwrap();
    assert_eq!((reply.status, fixture.a.hits()), (503, 1));
    fixture.proxy.stop().await;
}

/// Waits before it answers.
async fn slow(wait: Duration) -> App {
    App::start(move |_, _| {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Response::new(full("late"))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_cover_attempts_and_the_whole() {
    let whole = RouteAction { timeout: millis(200), ..forward("a") };
    let each = RouteAction {
        timeout: millis(10_000),
        retry_policy: Some(RetryPolicy { per_try_timeout: millis(100), ..retry("gateway-error", 2) }),
        ..forward("a")
    };
    let routes = vec![on_prefix("/whole", whole), on_prefix("/each", each)];
    let fixture = Fixture::with(routes, slow(Duration::from_secs(30)).await, App::echo("b").await).await;
    let begun = Instant::now();
    let reply = get(local(fixture.port), "/whole", &[]).await.unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (504, "upstream request timeout"));
    assert!(begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() < Duration::from_secs(5));
    let before = fixture.a.hits();
    let reply = get(local(fixture.port), "/each", &[]).await.unwrap();
    assert_eq!((reply.status, fixture.a.hits() - before), (504, 3));
    let metrics = fixture.proxy.metrics().await;
    assert!(metrics.contains("response_flags=\"UT\"") && metrics.contains("response_flags=\"UT,URX\""), "{metrics}");
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_delay_and_abort() {
    let whole = || Some(FractionalPercent { numerator: 100, denominator: 0 });
    let delay = HttpFault {
        delay: Some(FaultDelay {
            percentage: whole(),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(millis(300).unwrap())),
        }),
        ..Default::default()
    };
    let abort = HttpFault {
        abort: Some(FaultAbort {
            percentage: whole(),
            error_type: Some(ErrorType::HttpStatus(555)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let with = |prefix: &str, fault: &HttpFault| Route {
        typed_per_filter_config: [("envoy.filters.http.fault".to_owned(), any(fault))].into(),
        ..on_prefix(prefix, forward("a"))
    };
    let fixture = Fixture::start(vec![with("/delay", &delay), with("/abort", &abort), route_to("a")]).await;
    let begun = Instant::now();
    assert_eq!(get(local(fixture.port), "/delay", &[]).await.unwrap().status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let reply = get(local(fixture.port), "/abort", &[]).await.unwrap();
    assert_eq!((reply.status, reply.body.as_str(), fixture.a.hits()), (555, "fault filter abort", 1));
    let reply = get(local(fixture.port), "/abort", &[("content-type", "application/grpc")]).await.unwrap();
    assert_eq!((reply.status, reply.headers["grpc-status"].to_str().unwrap()), (200, "2"));
    let metrics = fixture.proxy.metrics().await;
    assert!(metrics.contains("response_flags=\"DI\"") && metrics.contains("response_flags=\"FI\""), "{metrics}");
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cluster_refuses() {
    let running = Arc::new(AtomicUsize::new(0));
    let counter = running.clone();
    let busy = App::start(move |_, _| {
        counter.fetch_add(1, SeqCst);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Response::new(full("done"))
        })
    })
    .await;
    let fixture = Fixture::with(vec![route_to("a")], busy, App::echo("b").await).await;
    let thresholds = Thresholds { max_requests: number(2), ..Default::default() };
    let breakers = CircuitBreakers { thresholds: vec![thresholds], ..Default::default() };
    fixture.mesh.state.put("limited", &Cluster { circuit_breakers: Some(breakers), ..cluster("limited") });
    fixture.mesh.state.put("limited", &assignment("limited", &[fixture.a.address]));
    fixture.mesh.state.put("routes", &crate::resources::table("routes", vec![route_to("limited")]));
    eventually("the limited cluster serves", async || {
        let dump = get(fixture.proxy.admin, "/config_dump", &[]).await.unwrap().body;
        dump.contains("\"limited\"") && dump.matches("\"endpoints\": 1").count() == 3
    })
    .await;
    let port = fixture.port;
    let calls: Vec<_> =
        (0..6).map(|_| tokio::spawn(async move { get(local(port), "/", &[]).await.unwrap() })).collect();
    let mut replies = Vec::new();
    for call in calls {
        replies.push(call.await.unwrap());
    }
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
    assert_eq!((refused.len(), running.load(SeqCst)), (4, 2), "{replies:?}");
    assert!(refused[0].body.ends_with("reset reason: overflow"));
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_those_that_wait_for_it() {
    let fixture = Fixture::start(vec![route_to("one")]).await;
    let thresholds = Thresholds { max_connections: number(1), max_pending_requests: number(100), ..Default::default() };
    let breakers = CircuitBreakers { thresholds: vec![thresholds], ..Default::default() };
    fixture.mesh.state.put("one", &Cluster { circuit_breakers: Some(breakers), ..cluster("one") });
    fixture.mesh.state.put("one", &assignment("one", &[fixture.a.address]));
    eventually("the cluster serves", async || get(local(fixture.port), "/", &[]).await.unwrap().status == 200).await;
    let port = fixture.port;
    let calls: Vec<_> =
        (0..20).map(|_| tokio::spawn(async move { get(local(port), "/", &[]).await.unwrap() })).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_keeps_failing_is_left_alone() {
    let fixture = Fixture::with(vec![route_to("pair")], flaky(usize::MAX).await, App::echo("b").await).await;
    let outlier = OutlierDetection {
        consecutive_5xx: number(3),
        max_ejection_percent: number(50),
        always_eject_one_host: truth(),
        ..Default::default()
    };
    fixture.mesh.state.put("pair", &Cluster { outlier_detection: Some(outlier), ..cluster("pair") });
    fixture.mesh.state.put("pair", &assignment("pair", &[fixture.a.address, fixture.b.address]));
    eventually("the failing endpoint is ejected", async || {
        let _ = get(local(fixture.port), "/", &[]).await;
        get(fixture.proxy.admin, "/config_dump", &[]).await.unwrap().body.contains("\"ejected\": 1")
    })
    .await;
    for _ in 0..20 {
        assert_eq!(get(local(fixture.port), "/", &[]).await.unwrap().app(), "b");
    }
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_endpoints_there_is_no_healthy_upstream() {
    let fixture = Fixture::start(vec![route_to("a")]).await;
    fixture.mesh.state.put("a", &assignment("a", &[]));
    eventually("the endpoints are gone", async || {
        let reply = get(local(fixture.port), "/", &[]).await.unwrap();
        (reply.status, reply.body.as_str()) == (503, "no healthy upstream")
    })
    .await;
    fixture.proxy.stop().await;
}
