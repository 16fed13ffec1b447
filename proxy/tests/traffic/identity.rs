//! How the proxy comes to its certificate and keeps it.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use tempfile::tempdir;

use crate::{
    app::{App, free_port, get, local},
    mesh::{Mesh, Proxy, eventually},
    resources::{assignment, cluster, http_listener, manager, route_to, table},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_used_once_and_the_certificate_renewed_at_half_life() {
    let (mesh, dir, port) = (Mesh::with_lifetime(Duration::from_secs(4)), tempdir().unwrap(), free_port());
    let app = App::echo("a").await;
    mesh.state.put("a", &cluster("a"));
    mesh.state.put("a", &assignment("a", &[app.address]));
    mesh.state.put("http", &http_listener("http", port, &manager("routes")));
    mesh.state.put("routes", &table("routes", vec![route_to("a")]));
    let proxy = Proxy::ready(mesh.config("client", &dir)).await;
    eventually("two renewals", async || *mesh.state.issued.borrow() >= 3).await;
    assert_eq!(get(local(port), "/", &[]).await.unwrap().status, 200);
    let certs = get(proxy.admin, "/certs", &[]).await.unwrap().body;
    assert!(certs.contains("spiffe://cluster.local/ns/default/sa/client") && !certs.contains("PRIVATE"), "{certs}");
    let file = dir.path().join("client/identity.pem");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_token_or_certificate_the_proxy_does_not_start() {
    let (mesh, dir) = (Mesh::start(), tempdir().unwrap());
    let mut config = mesh.config("client", &dir);
    config.token = None;
    let error = proxy::run(config, tokio_util::sync::CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, proxy::ProxyError::Identity(_)), "{error}");
    assert!(error.to_string().contains("no join token"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_registers_its_workload_and_does_so_again() {
    let (mut mesh, dir) = (Mesh::start(), tempdir().unwrap());
    mesh.state.put("http", &http_listener("http", free_port(), &manager("routes")));
    mesh.state.put("routes", &table("routes", vec![]));
    let mut config = mesh.config("reviews", &dir);
    config.labels = [("app".to_owned(), "reviews".to_owned())].into();
    config.inbound = vec![proxy::InboundPort {
        name: "http".to_owned(),
        protocol: "http".to_owned(),
        bind: local(9_080),
        app_port: 9_081,
    }];
    let proxy = Proxy::start(config);
    eventually("registered", async || !mesh.state.registered.lock().unwrap().is_empty()).await;
    let workload = mesh.state.registered.lock().unwrap()[0].clone();
    assert_eq!((workload.name.as_str(), workload.service_account.as_str()), ("reviews", "reviews"));
    assert_eq!((workload.ports["http"], workload.labels["app"].as_str()), (9_080, "reviews"));
    mesh.kill();
    mesh.resume();
    eventually("registered again", async || mesh.state.registered.lock().unwrap().len() >= 2).await;
    proxy.stop().await;
}
