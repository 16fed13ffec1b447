//! How configuration comes, stays and goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use proto::envoy::config::{
    cluster::v3::{Cluster, cluster::LbPolicy},
    endpoint::v3::ClusterLoadAssignment,
    route::v3::Route,
};
use tempfile::tempdir;

use crate::{
    app::{App, free_port, get, local},
    mesh::{Mesh, Proxy, eventually},
    resources::{assignment, cluster, forward, http_listener, manager, on_prefix, route_to, table},
    routing::Fixture,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_resource_is_refused_by_name_and_the_rest_serves() {
    let fixture = Fixture::start(vec![route_to("a")]).await;
    let ring = Cluster { lb_policy: LbPolicy::RingHash.into(), ..cluster("ring") };
    fixture.mesh.state.put("ring", &ring);
    fixture.mesh.state.put("good", &cluster("good"));
    fixture.mesh.state.put("good", &assignment("good", &[fixture.b.address]));
    fixture.mesh.state.put("routes", &table("routes", vec![route_to("good")]));
    eventually("the refusal is known", async || !fixture.mesh.state.rejections.lock().unwrap().is_empty()).await;
    let reason = fixture.mesh.state.rejections.lock().unwrap()[0].clone();
    assert!(reason.starts_with("ring: ") && reason.contains("lb_policy"), "{reason}");
    eventually("the good cluster serves", async || get(local(fixture.port), "/", &[]).await.unwrap().app() == "b")
        .await;

    // A bad version of what serves leaves the good one in place.
    let bad = Route { r#match: None, ..route_to("a") };
    fixture.mesh.state.put("routes", &table("routes", vec![bad]));
    eventually("the second refusal", async || fixture.mesh.state.rejections.lock().unwrap().len() >= 2).await;
    assert_eq!(get(local(fixture.port), "/", &[]).await.unwrap().app(), "b");
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_configuration_outlives_the_server_and_a_restart() {
    let mut fixture = Fixture::start(vec![route_to("a")]).await;
    fixture.mesh.state.put("routes", &table("routes", vec![route_to("b")]));
    eventually("the change serves", async || get(local(fixture.port), "/", &[]).await.unwrap().app() == "b").await;
    fixture.mesh.kill();
    assert_eq!(get(local(fixture.port), "/", &[]).await.unwrap().app(), "b");
    fixture.proxy.stop().await;

    let mut config = fixture.mesh.config("client", &fixture.dir);
    config.token = None;
    let proxy = Proxy::ready(config).await;
    assert_eq!(get(local(fixture.port), "/", &[]).await.unwrap().app(), "b");

    // When the server is back, changes go on from there.
    fixture.mesh.state.put("routes", &table("routes", vec![route_to("a")]));
    fixture.mesh.resume();
    eventually("the new change serves", async || get(local(fixture.port), "/", &[]).await.unwrap().app() == "a").await;
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_routes_and_clusters_change() {
    let fixture = Fixture::start(vec![route_to("a")]).await;
    let (port, stop, failures) = (fixture.port, Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (stopping, failed) = (stop.clone(), failures.clone());
    let traffic = tokio::spawn(async move {
        let mut requests = 0;
        while !stopping.load(SeqCst) {
            let reply = get(local(port), "/", &[]).await;
            if !reply.is_ok_and(|reply| reply.status == 200) {
                failed.fetch_add(1, SeqCst);
            }
            requests += 1;
        }
        requests
    });
    // Each round's route comes before its cluster, and the old cluster goes before the new route serves.
    let mut old = "a".to_owned();
    for round in 0..20 {
        let name = format!("round-{round}");
        fixture.mesh.state.put("routes", &table("routes", vec![route_to(&name)]));
        fixture.mesh.state.delete::<Cluster>(&old);
        fixture.mesh.state.delete::<ClusterLoadAssignment>(&old);
        tokio::time::sleep(Duration::from_millis(20)).await;
        fixture.mesh.state.put(&name, &cluster(&name));
        fixture.mesh.state.put(&name, &assignment(&name, &[fixture.b.address]));
        eventually("the new cluster serves alone", async || {
            let dump = get(fixture.proxy.admin, "/config_dump", &[]).await.unwrap().body;
            dump.contains(&format!("\"{name}\"")) && !dump.contains(&format!("\"name\": \"{old}\""))
        })
        .await;
        old = name;
    }
    stop.store(true, SeqCst);
    assert!(traffic.await.unwrap() > 20);
    assert_eq!(failures.load(SeqCst), 0);
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_never_comes_holds_its_route_back_only_for_a_while() {
    let fixture = Fixture::start(vec![route_to("a")]).await;
    let routes = vec![on_prefix("/gone", forward("never")), route_to("b")];
    fixture.mesh.state.put("routes", &table("routes", routes.clone()));
    assert_eq!(get(local(fixture.port), "/", &[]).await.unwrap().status, 200);
    eventually("the new table serves", async || get(local(fixture.port), "/", &[]).await.unwrap().app() == "b").await;
    assert_eq!(get(local(fixture.port), "/gone", &[]).await.unwrap().status, 503);
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_come_and_go() {
    let fixture = Fixture::start(vec![route_to("a")]).await;
    let port = free_port();
    fixture.mesh.state.put("other", &http_listener("other", port, &manager("routes")));
    eventually("the new listener serves", async || get(local(port), "/", &[]).await.is_ok()).await;
    fixture.mesh.state.delete::<proto::envoy::config::listener::v3::Listener>("other");
    eventually("the listener is gone", async || get(local(port), "/", &[]).await.is_err()).await;
    assert_eq!(get(local(fixture.port), "/", &[]).await.unwrap().status, 200);
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_proxy_finishes_what_it_serves() {
    let slow = App::start(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            http::Response::new(crate::app::full("done"))
        })
    })
    .await;
    let fixture = Fixture::with(vec![route_to("a")], slow, App::echo("b").await).await;
    let port = fixture.port;
    let call = tokio::spawn(async move { get(local(port), "/", &[]).await });
    eventually("the request is under way", async || fixture.a.hits() == 1).await;
    fixture.proxy.stop().await;
    let reply = call.await.unwrap().unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "done"));
    assert!(get(local(port), "/", &[]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_holds_a_line_a_request() {
    let (mesh, dir, port) = (Mesh::start(), tempdir().unwrap(), free_port());
    let app = App::echo("a").await;
    mesh.state.put("a", &cluster("a"));
    mesh.state.put("a", &assignment("a", &[app.address]));
    mesh.state.put("http", &http_listener("http", port, &manager("routes")));
    let named = Route { name: "the-route".to_owned(), ..route_to("a") };
    mesh.state.put("routes", &table("routes", vec![named]));
    let path = dir.path().join("access.log");
    let mut config = mesh.config("client", &dir);
    config.access_log = Some(proxy::AccessLogTarget::File(path.clone()));
    let proxy = Proxy::ready(config).await;
    get(local(port), "/p?q=1", &[("user-agent", "evil\"\\")]).await.unwrap();
    eventually("the line is written", async || std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')))
        .await;
    let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (field, expected) in [
        ("method", "GET"),
        ("path", "/p?q=1"),
        ("authority", "app"),
        ("route_name", "the-route"),
        ("upstream_cluster", "a"),
        ("response_flags", "-"),
        ("user_agent", "evil\"\\"),
        ("upstream_host", &app.address.to_string()),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
    assert_eq!(line["response_code"], 200);
    proxy.stop().await;
}
