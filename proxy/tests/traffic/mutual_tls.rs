//! Two proxies, and the identities between them.

use tempfile::{TempDir, tempdir};

use crate::{
    app::{App, free_port, get, local},
    mesh::{Mesh, Proxy, eventually},
    resources::{
        Mode, assignment, cluster, h2_cluster, http_listener, inbound_listener, manager, mesh_assignment, mesh_cluster,
        route_to, table,
    },
};

const SERVER: &str = "spiffe://cluster.local/ns/default/sa/server";

struct Pair {
    mesh: Mesh,
    client: Proxy,
    server: Proxy,
    outbound: u16,
    inbound: u16,
    _app: App,
    _dir: TempDir,
}

/// A client's proxy, and the proxy of an application that accepts its clients by `mode`.
async fn pair(mode: Mode, peers: &[&str], h2: bool) -> Pair {
    let (mesh, dir, app) = (Mesh::start(), tempdir().unwrap(), App::echo("app").await);
    let (outbound, inbound) = (free_port(), free_port());
    mesh.state.put_for("server", "local", &cluster("local"));
    mesh.state.put_for("server", "local", &assignment("local", &[app.address]));
    mesh.state.put_for("server", "inbound", &inbound_listener("inbound", inbound, "in", mode));
    mesh.state.put_for("server", "in", &table("in", vec![route_to("local")]));
    let (base, alpn) = if h2 { (h2_cluster("remote"), "h2") } else { (cluster("remote"), "http/1.1") };
    mesh.state.put_for("client", "remote", &mesh_cluster("remote", peers, base, &[alpn]));
    mesh.state.put_for("client", "remote", &mesh_assignment("remote", &[local(inbound)]));
    mesh.state.put_for("client", "out", &table("out", vec![route_to("remote")]));
    mesh.state.put_for("client", "outbound", &http_listener("outbound", outbound, &manager("out")));
    let server = Proxy::ready(mesh.config("server", &dir)).await;
    let client = Proxy::ready(mesh.config("client", &dir)).await;
    Pair { mesh, client, server, outbound, inbound, _app: app, _dir: dir }
}

impl Pair {
    async fn stop(self) {
        self.client.stop().await;
        self.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_knows_the_other() {
    for h2 in [false, true] {
        let pair = pair(Mode::Strict, &[SERVER], h2).await;
        let reply = get(local(pair.outbound), "/", &[("x-forwarded-client-cert", "By=liar")]).await.unwrap();
        let claim = format!("x-forwarded-client-cert: By={SERVER};URI=spiffe://cluster.local/ns/default/sa/client");
        assert!(reply.status == 200 && reply.has_line(&claim), "{reply:?}");

        let inbound = pair.server.metrics().await;
        let sample = inbound.lines().find(|line| line.starts_with("istio_requests_total")).unwrap();
        for label in [
            "reporter=\"destination\"",
            "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"",
            "connection_security_policy=\"mutual_tls\"",
            "response_code=\"200\"",
        ] {
            assert!(sample.contains(label), "{label} {sample}");
        }
        let outbound = pair.client.metrics().await;
        let sample = outbound.lines().find(|line| line.starts_with("istio_requests_total")).unwrap();
        for label in [
            "reporter=\"source\"",
            "source_workload=\"client\"",
            "destination_workload=\"reviews-v1\"",
            "destination_version=\"v1\"",
            &format!("destination_principal=\"{SERVER}\""),
        ] {
            assert!(sample.contains(label), "{label} {sample}");
        }
        assert!(outbound.contains("istio_request_duration_milliseconds_bucket{le=\"0.5\""), "{outbound}");
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_refuses_plain_text_and_permissive_takes_it() {
    let strict = pair(Mode::Strict, &[SERVER], false).await;
    assert!(get(local(strict.inbound), "/", &[]).await.is_err());
    strict.stop().await;
    let permissive = pair(Mode::Permissive, &[SERVER], false).await;
    let reply = get(local(permissive.inbound), "/", &[("x-forwarded-client-cert", "By=liar")]).await.unwrap();
    assert!(reply.status == 200 && !reply.body.contains("x-forwarded-client-cert"), "{reply:?}");
    assert_eq!(get(local(permissive.outbound), "/", &[]).await.unwrap().status, 200);
    permissive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_another_identity_is_not_spoken_to() {
    let pair = pair(Mode::Strict, &["spiffe://cluster.local/ns/default/sa/someone-else"], false).await;
    let reply = get(local(pair.outbound), "/", &[]).await.unwrap();
    assert_eq!(reply.status, 503);
    assert!(pair.client.metrics().await.contains("response_flags=\"UF\""));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_policy_ends_plain_connections() {
    let pair = pair(Mode::Permissive, &[SERVER], false).await;
    assert_eq!(get(local(pair.inbound), "/", &[]).await.unwrap().status, 200);
    let strict = inbound_listener("inbound", pair.inbound, "in", Mode::Strict);
    pair.mesh.state.put_for("server", "inbound", &strict);
    eventually("plain text is refused", async || get(local(pair.inbound), "/", &[]).await.is_err()).await;
    eventually("mTLS goes on", async || get(local(pair.outbound), "/", &[]).await.unwrap().status == 200).await;
    pair.stop().await;
}
