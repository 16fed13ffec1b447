//! The face on a real socket: with a client of the generated code, and with a stock Envoy where there is one.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use proto::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
            aggregated_discovery_service_server::AggregatedDiscoveryServiceServer,
        },
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use tls::PeerInfo;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use types::{Revision, SpiffeId};

use super::*;
use crate::{
    compile::ResourceType,
    mesh::Snapshot,
    testing::{BOOKINFO, mesh, trust_domain, with},
};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An ADS server on loopback that takes every caller for one workload.
struct Bench {
    snapshot: Snapshot,
    publish: watch::Sender<Option<Arc<Compiled>>>,
    registry: Registry,
    stop: CancellationToken,
    addr: SocketAddr,
}

impl Bench {
    async fn start(caller: &str) -> Self {
        let snapshot = mesh(&BOOKINFO.replace("8080", &free_port().to_string()));
        let (publish, compiled) = watch::channel(None);
        let (registry, stop) = (Registry::default(), CancellationToken::new());
        let ads = Ads::new(compiled, registry.clone(), stop.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let spiffe_id = Some(SpiffeId::parse(caller).expect("valid"));
        let prove = move |mut request: Request<()>| {
            request.extensions_mut().insert(PeerInfo { addr, spiffe_id: spiffe_id.clone(), common_name: None });
            Ok(request)
        };
        let service = AggregatedDiscoveryServiceServer::with_interceptor(ads, prove);
        let serving = tonic::transport::Server::builder().add_service(service);
        let until = stop.clone().cancelled_owned();
        tokio::spawn(serving.serve_with_incoming_shutdown(TcpListenerStream::new(listener), until));
        let mut bench = Self { snapshot, publish, registry, stop, addr };
        bench.publish(bench.snapshot.clone());
        bench
    }

    fn publish(&mut self, snapshot: Snapshot) {
        let earlier = self.publish.borrow().clone();
        self.snapshot = snapshot.clone();
        self.publish.send_replace(Some(Arc::new(Compiled::new(snapshot, &trust_domain(), earlier.as_deref()))));
    }

    /// Waits until every type of the one proxy is at the newest revision.
    async fn in_step(&self) {
        let wanted = self.snapshot.revision;
        let wait = async {
            while !self.is_in_step(wanted) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in step: {:#?}", self.registry.list()));
    }

    fn is_in_step(&self, wanted: Revision) -> bool {
        let proxies = self.registry.list();
        for (of, progress) in proxies.iter().flat_map(|proxy| &proxy.types) {
            assert_eq!(progress.rejected, None, "{of:?}");
        }
        let done = |proxy: &ProxyStatus| proxy.types.values().all(|progress| progress.acknowledged == Some(wanted));
        proxies.len() == 1 && proxies[0].types.len() == ResourceType::ALL.len() && proxies.iter().all(done)
    }
}

const RATINGS: &str = "spiffe://cluster.local/ns/default/sa/bookinfo-ratings";
const FLIP: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v3}}]}]}\n";
const LIMITS: &str = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: details}\nspec: {host: details, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}\n";

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn node(account: &str) -> Node {
    let fields =
        [("NAMESPACE", text("default")), ("SERVICE_ACCOUNT", text(account)), ("HTTP_PROXY_PORT", text("15001"))];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let id = "sidecar~127.0.0.1~ratings.default~default.svc.cluster.local".to_owned();
    Node { id, metadata: Some(Struct { fields }), ..Default::default() }
}

fn delta(of: ResourceType, names: &[&str], node: Option<Node>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node,
        type_url: of.type_url().to_owned(),
        resource_names_subscribe: names.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_change_reaches_a_client_that_subscribed() {
    let mut bench = Bench::start(RATINGS).await;
    let mut client =
        AggregatedDiscoveryServiceClient::connect(format!("http://{}", bench.addr)).await.expect("connected");
    let (requests, outgoing) = mpsc::channel(8);
    requests.send(delta(ResourceType::Route, &["http_proxy"], Some(node("bookinfo-ratings")))).await.expect("sent");
    let mut responses =
        client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await.expect("opened").into_inner();
    let first = timeout(PATIENCE, responses.message()).await.expect("in time").expect("a response").expect("one");
    assert_eq!((first.resources.len(), &*first.resources[0].name), (1, "http_proxy"));
    assert_eq!(first.system_version_info, bench.snapshot.revision.to_string());

    bench.publish(with(&bench.snapshot, FLIP));
    let second = timeout(PATIENCE, responses.message()).await.expect("in time").expect("a response").expect("one");
    assert_ne!(second.resources[0].version, first.resources[0].version);
    assert_eq!(second.system_version_info, bench.snapshot.revision.to_string());
    assert_eq!(bench.registry.list().len(), 1);

    bench.stop.cancel();
    assert!(timeout(PATIENCE, responses.message()).await.expect("in time").is_err());
}

#[tokio::test]
async fn a_node_must_be_what_its_certificate_says() {
    let bench = Bench::start(RATINGS).await;
    let mut client =
        AggregatedDiscoveryServiceClient::connect(format!("http://{}", bench.addr)).await.expect("connected");
    for (request, code) in [
        (delta(ResourceType::Cluster, &[], Some(node("bookinfo-reviews"))), tonic::Code::PermissionDenied),
        (delta(ResourceType::Cluster, &[], None), tonic::Code::InvalidArgument),
    ] {
        let (requests, outgoing) = mpsc::channel(8);
        requests.send(request).await.expect("sent");
        let outcome = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await;
        let status = match outcome {
            Ok(response) => response.into_inner().message().await.expect_err("refused"),
            Err(status) => status,
        };
        assert_eq!(status.code(), code, "{status}");
    }
}

/// A running Envoy, ended with the test.
struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where `scripts/setup.sh test` puts it, or the one that `MESHSTORE_ENVOY` names.
fn envoy() -> PathBuf {
    let installed = || PathBuf::from(std::env::var("HOME").expect("a home")).join(".cache/meshstore/bin/envoy");
    std::env::var("MESHSTORE_ENVOY").map_or_else(|_| installed(), PathBuf::from)
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("bound").port()
}

fn bootstrap(directory: &Path, addr: SocketAddr, api_type: &str, role: &str) -> PathBuf {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec![]).expect("valid").self_signed(&key).expect("signed");
    let secret = |text: String| serde_json::json!({ "inline_string": text });
    let inbound = |name: &str, app_port: u16| serde_json::json!({"name": name, "bind": "127.0.0.1", "port": free_port(), "app_port": app_port});
    let metadata = serde_json::json!({
        "NAMESPACE": "default", "SERVICE_ACCOUNT": "bookinfo-ratings", "HTTP_PROXY_PORT": free_port().to_string(),
        "LABELS": {"app": "ratings", "istio": "ingressgateway"},
        "MESHSTORE_INBOUND": [inbound("http", 9080), inbound("tcp-db", 27017), inbound("http-other", 9999)],
        "MESHSTORE_TCP_OUTBOUND":
            [{"bind": "127.0.0.1", "port": free_port(), "host": "ratings", "service_port": 27017}],
    });
    let http2 = serde_json::json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}});
    let address = serde_json::json!({"socket_address": {"address": "127.0.0.1", "port_value": addr.port()}});
    let config = serde_json::json!({
        "node": {"id": format!("{role}~127.0.0.1~ratings.default~default.svc.cluster.local"), "cluster": "ratings.default", "metadata": metadata},
        "dynamic_resources": {
            "ads_config": {"api_type": api_type, "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}]},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {
            "clusters": [{"name": "ads", "type": "STATIC", "typed_extension_protocol_options": http2,
                "load_assignment": {"cluster_name": "ads", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}}],
            "secrets": [
                {"name": "default", "tls_certificate": {"certificate_chain": secret(certificate.pem()), "private_key": secret(key.serialize_pem())}},
                {"name": "ROOTCA", "validation_context": {"trusted_ca": secret(certificate.pem())}},
            ],
        },
    });
    let path = directory.join("envoy.json");
    std::fs::write(&path, config.to_string()).expect("written");
    path
}

async fn drive(api_type: &str, role: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::start(RATINGS).await;
    let config = bootstrap(directory.path(), bench.addr, api_type, role);
    let log = std::fs::File::create(directory.path().join("envoy.log")).expect("created");
    let envoy = Command::new(envoy())
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("Envoy starts; scripts/setup.sh test installs it");
    let _envoy = Envoy(envoy);
    bench.in_step().await;
    bench.publish(with(&bench.snapshot, FLIP));
    bench.in_step().await;
    bench.publish(with(&bench.snapshot, LIMITS));
    let sent = std::time::Instant::now();
    bench.in_step().await;
    assert!(sent.elapsed() < Duration::from_secs(5), "a changed cluster waited for its endpoints");
}

#[tokio::test]
async fn a_stock_envoy_takes_a_sidecars_configuration() {
    drive("DELTA_GRPC", "sidecar").await;
    drive("GRPC", "sidecar").await;
}

#[tokio::test]
async fn a_stock_envoy_takes_a_gateways_configuration() {
    drive("DELTA_GRPC", "router").await;
    drive("GRPC", "router").await;
}
