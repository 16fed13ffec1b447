//! A real, unmodified Envoy in a sidecar's place: the same configuration, by the same protocol, without one update
//! rejected; and traffic by mutual TLS from it to one of our sidecars and back.

mod bootstrap;
mod identity;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use self::bootstrap::Bootstrap;
pub(crate) use self::bootstrap::Protocol;
use crate::harness::{Mesh, Process, eventually, free_port, tools};

/// Envoy's identity.
const ACCOUNT: &str = "bookinfo-reviews";

#[tokio::test(flavor = "multi_thread")]
async fn envoy_takes_our_configuration_by_delta_xds() {
    envoy_takes_our_configuration(Protocol::Delta).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_takes_our_configuration_by_state_of_the_world_xds() {
    envoy_takes_our_configuration(Protocol::StateOfTheWorld).await;
}

async fn envoy_takes_our_configuration(protocol: Protocol) {
    let mut mesh = Mesh::start(&["bookinfo-ratings", ACCOUNT]).await;
    mesh.apply_examples(&["services.yaml", "destination-rules.yaml", "peer-authentication.yaml"]).await;
    let ratings = mesh.start_pod("ratings", "bookinfo-ratings").await;
    let envoy = Envoy::start(&mut mesh, protocol).await;

    // Out of Envoy, into our sidecar.
    let path = "/ratings/0";
    eventually("Envoy's way to ratings", || async {
        (get(envoy.outbound, "ratings:9080", path).await?.0 == 200).then_some(())
    })
    .await;
    let metrics = get(ratings.admin, "ratings", "/metrics").await.expect("the sidecar's metrics").1;
    let caller = format!("source_principal=\"spiffe://cluster.local/ns/default/sa/{ACCOUNT}\"");
    assert!(
        metrics
            .lines()
            .any(|line| line.contains(&caller) && line.contains("connection_security_policy=\"mutual_tls\"")),
        "{metrics}"
    );

    // Out of our sidecar, into Envoy.
    mesh.apply_text("envoy.yaml", &workload_entry(envoy.inbound.port())).await;
    eventually("our sidecar's way to Envoy", || async {
        let (status, body) = get(ratings.outbound, "reviews:9080", "/reviews/0").await?;
        (status == 200 && body.contains("reviews-v1")).then_some(())
    })
    .await;

    // Out of either to a service outside, which DNS finds.
    let details = mesh.start_app("details", envoy.outbound).await;
    mesh.apply_text("outside.yaml", &service_entry(details.port())).await;
    for outbound in [envoy.outbound, ratings.outbound] {
        eventually("the way to a service outside", || async {
            (get(outbound, "details.example.com", "/details/0").await?.0 == 200).then_some(())
        })
        .await;
    }

    // A route change, and what a stock Envoy makes of a fault and a header match.
    mesh.apply_examples(&["routes/all-v1.yaml"]).await;
    mesh.apply_examples(&["routes/ratings-abort.yaml"]).await;
    eventually("jason's fault", || async {
        (as_jason(envoy.outbound, "ratings:9080", path).await? == 500).then_some(())
    })
    .await;
    assert_eq!(get(envoy.outbound, "ratings:9080", path).await.map(|(status, _)| status), Some(200));

    envoy.rejected_nothing().await;
}

/// A service outside the mesh, whose one endpoint has a name and no address.
fn service_entry(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: details-outside, namespace: default}}\n\
         spec:\n\
         \x20 hosts: [details.example.com]\n\
         \x20 location: MESH_EXTERNAL\n\
         \x20 resolution: DNS\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
         \x20 endpoints: [{{address: localhost, ports: {{http: {port}}}}}]\n"
    )
}

/// Envoy as a workload of reviews, for the other sidecars.
fn workload_entry(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: WorkloadEntry\n\
         metadata:\n  name: envoy\n  namespace: default\n\
         spec:\n  address: 127.0.0.1\n  ports: {{http: {port}}}\n  serviceAccount: {ACCOUNT}\n  \
         labels: {{app: reviews, version: v1, security.istio.io/tlsMode: istio}}\n"
    )
}

pub(crate) struct Envoy {
    /// Where its app's calls go.
    pub(crate) outbound: SocketAddr,
    inbound: SocketAddr,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts one beside the app reviews; returns when it has its listeners.
    pub(crate) async fn start(mesh: &mut Mesh, protocol: Protocol) -> Self {
        let envoy = Self { outbound: free_port(), inbound: free_port(), admin: free_port() };
        let app = mesh.start_app("reviews", envoy.outbound).await;
        let token = std::fs::read_to_string(mesh.token_file(ACCOUNT)).unwrap();
        let svid = identity::obtain(mesh.address(), &mesh.roots(), token.trim()).await;
        let bootstrap = Bootstrap { protocol, server: mesh.address(), app, envoy: &envoy, svid: &svid };
        let file = mesh.path("envoy.json");
        std::fs::write(&file, bootstrap.json().to_string()).unwrap();
        let arguments = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
        let folder = PathBuf::from(mesh.path(""));
        mesh.adopt(Process::start("envoy", program(), arguments, &folder));
        let ready = || async { (get(envoy.admin, "envoy", "/ready").await?.0 == 200).then_some(()) };
        eventually("Envoy's readiness", ready).await;
        envoy
    }

    /// Every kind of update was taken at least once, and none was ever rejected.
    async fn rejected_nothing(&self) {
        let text = get(self.admin, "envoy", "/stats?filter=update_(success|rejected)").await.expect("Envoy's stats").1;
        let stats: BTreeMap<&str, u64> = text
            .lines()
            .filter_map(|line| line.rsplit_once(": "))
            .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
            .collect();
        let rejected: Vec<_> = stats.iter().filter(|(name, count)| name.ends_with("rejected") && **count > 0).collect();
        assert!(rejected.is_empty(), "{rejected:?}");
        for kind in ["cluster_manager.cds.update_success", "listener_manager.lds.update_success"] {
            assert!(stats[kind] > 0, "{kind} in {text}");
        }
        for kind in [".rds.", "ratings.default.svc.cluster.local.update_success"] {
            let taken =
                stats.iter().any(|(name, count)| name.contains(kind) && name.ends_with("success") && *count > 0);
            assert!(taken, "{kind} in {text}");
        }
    }
}

/// Where `scripts/setup.sh test` puts it, or the one that `MESHSTORE_ENVOY` names.
fn program() -> PathBuf {
    std::env::var("MESHSTORE_ENVOY").map_or_else(|_| tools().join("envoy"), PathBuf::from)
}

/// Status and body; `None` when there was no answer.
async fn get(to: SocketAddr, host: &str, path: &str) -> Option<(u16, String)> {
    request(to, host, path, None).await
}

async fn as_jason(to: SocketAddr, host: &str, path: &str) -> Option<u16> {
    Some(request(to, host, path, Some("jason")).await?.0)
}

async fn request(to: SocketAddr, host: &str, path: &str, user: Option<&str>) -> Option<(u16, String)> {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let request = http::Request::get(format!("http://{to}{path}")).header(http::header::HOST, host);
    let request = user.into_iter().fold(request, |request, user| request.header("end-user", user));
    let answer = client.request(request.body(Empty::new()).unwrap()).await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}
