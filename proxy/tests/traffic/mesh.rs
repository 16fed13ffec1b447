//! A mesh server for tests: delta ADS, Istio's CSR API and the workload registry on one mTLS port.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, StreamExt};
use prost::{Message, Name};
use proto::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
        aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
    },
    google::protobuf::Any,
    istio_ca::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
    mesh::{
        RegisterRequest, RegisterResponse, Workload, register_request,
        workloads_server::{Workloads, WorkloadsServer},
    },
};
use proxy::{Config, JoinToken, Limits};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use types::{Namespace, SpiffeId};

use crate::app::{free_port, get};

const SERVER: &str = "spiffe://cluster.local/ns/meshstore-system/sa/server";
/// Types in the order in which a server should send them.
const ORDER: [&str; 4] = [
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    "type.googleapis.com/envoy.config.listener.v3.Listener",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
];

/// By type and name: version, the one proxy that it is for (or all), and content.
type Stored = BTreeMap<String, BTreeMap<String, (u64, Option<String>, Any)>>;

/// The trust domain's authority and everything that the server knows.
pub(crate) struct State {
    issuer: CertifiedIssuer<'static, KeyPair>,
    lifetime: Duration,
    tokens: Mutex<HashMap<String, SpiffeId>>,
    resources: Mutex<Stored>,
    revision: watch::Sender<u64>,
    pub(crate) rejections: Mutex<Vec<String>>,
    pub(crate) registered: Mutex<Vec<Workload>>,
    pub(crate) issued: watch::Sender<u64>,
}

/// A running server.
pub(crate) struct Mesh {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    /// The server's own, so that it can be ended with all its connections.
    runtime: Option<Runtime>,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.kill();
    }
}

impl State {
    fn new(lifetime: Duration) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test root");
        params.subject_alt_names = vec![uri("spiffe://cluster.local")];
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            issuer,
            lifetime,
            tokens: Mutex::default(),
            resources: Mutex::default(),
            revision: watch::Sender::new(1),
            rejections: Mutex::default(),
            registered: Mutex::default(),
            issued: watch::Sender::new(0),
        }
    }

    fn profile(&self, mut params: CertificateParams, id: &str) -> CertificateParams {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(1)).into();
        params.not_after = (SystemTime::now() + self.lifetime).into();
        params
    }

    /// Credentials with a certificate made here, key included.
    pub(crate) fn credentials(&self, id: &str) -> tls::Credentials {
        let key = KeyPair::generate().unwrap();
        let chain = self.profile(CertificateParams::default(), id).signed_by(&key, &self.issuer).unwrap().pem();
        let svid = tls::Svid::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let bundle = tls::TrustBundle::from_pem(self.issuer.pem().as_bytes()).unwrap();
        tls::Credentials::new(bundle, Some(svid)).unwrap()
    }

    /// Stores a resource; every subscriber gets it.
    pub(crate) fn put<M: Message + Name>(&self, name: &str, message: &M) {
        self.store(None, name, message);
    }

    /// Stores a resource for one proxy.
    pub(crate) fn put_for<M: Message + Name>(&self, proxy: &str, name: &str, message: &M) {
        self.store(Some(proxy.to_owned()), name, message);
    }

    fn store<M: Message + Name>(&self, proxy: Option<String>, name: &str, message: &M) {
        let any = Any { type_url: M::type_url(), value: message.encode_to_vec() };
        self.change(|resources, revision| {
            resources.entry(M::type_url()).or_default().insert(name.to_owned(), (revision, proxy, any));
        });
    }

    pub(crate) fn delete<M: Message + Name>(&self, name: &str) {
        self.change(|resources, _| {
            resources.entry(M::type_url()).or_default().remove(name);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Stored, u64)) {
        self.revision.send_modify(|revision| {
            *revision += 1;
            change(&mut self.resources.lock().unwrap(), *revision);
        });
    }
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

impl Mesh {
    pub(crate) fn start() -> Self {
        Self::with_lifetime(Duration::from_hours(1))
    }

    /// A server whose certificates live so long.
    pub(crate) fn with_lifetime(lifetime: Duration) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .try_init();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut mesh = Self { state: Arc::new(State::new(lifetime)), address, runtime: None };
        mesh.resume();
        mesh
    }

    /// Ends the server and its connections; what it knows stays.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // On a thread of its own, since a runtime can not wait for another's end.
            std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5))).join().unwrap();
        }
    }

    /// Starts the server again at the same address.
    pub(crate) fn resume(&mut self) {
        let server = self.state.credentials(SERVER);
        let config = tls::server_config(&server, tls::ClientAuth::Optional, tls::H2);
        let (state, address) = (self.state.clone(), self.address);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let security = tls::Security::Mesh(config);
            let incoming = tls::Incoming::bind(address, security, tls::Limits::default()).await.unwrap();
            let face = || Face(state.clone());
            tonic::transport::Server::builder()
                .add_service(AggregatedDiscoveryServiceServer::new(face()))
                .add_service(IstioCertificateServiceServer::new(face()))
                .add_service(WorkloadsServer::new(face()))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Settings of a proxy that may join once.
    pub(crate) fn config(&self, name: &str, dir: &TempDir) -> Config {
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{name}")).unwrap();
        let token = format!("token-of-{name}");
        self.state.tokens.lock().unwrap().insert(token.clone(), id);
        Config {
            server: self.address,
            trust_bundle: self.state.issuer.pem().into_bytes(),
            token: Some(JoinToken::new(&token)),
            name: name.to_owned(),
            namespace: Namespace::parse("default").unwrap(),
            service_account: name.parse().unwrap(),
            state_dir: dir.path().join(name),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], free_port()))),
            limits: Limits {
                workers: 2,
                warming: Duration::from_secs(1),
                drain_delay: Duration::ZERO,
                drain: Duration::from_secs(2),
                ..Limits::default()
            },
            ..Config::default()
        }
    }
}

/// A proxy that runs inside the test.
pub(crate) struct Proxy {
    pub(crate) admin: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), proxy::ProxyError>>,
}

impl Proxy {
    pub(crate) fn start(config: Config) -> Self {
        let (admin, stop) = (config.admin.unwrap(), CancellationToken::new());
        let task = tokio::spawn(proxy::run(config, stop.clone()));
        Self { admin, stop, task }
    }

    /// Starts a proxy and waits until it is ready.
    pub(crate) async fn ready(config: Config) -> Self {
        let proxy = Self::start(config);
        eventually("the proxy is ready", async || get(proxy.admin, "/ready", &[]).await.is_ok_and(|r| r.status == 200))
            .await;
        proxy
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn metrics(&self) -> String {
        get(self.admin, "/metrics", &[]).await.unwrap().body
    }
}

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Face(Arc<State>);

type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Face {
    type StreamAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream = Responses;

    async fn stream_aggregated_resources(
        &self,
        _request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let peer = request.extensions().get::<tls::PeerInfo>().and_then(|peer| peer.spiffe_id.clone());
        peer.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(serve_stream(self.0.clone(), request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

#[derive(Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    sent: BTreeMap<String, u64>,
    told_missing: HashSet<String>,
}

async fn serve_stream(
    state: Arc<State>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut revisions = state.revision.subscribe();
    let mut subscriptions: BTreeMap<String, Subscription> = BTreeMap::new();
    let mut proxy = String::new();
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(Ok(request)) => {
                    if let Some(node) = &request.node {
                        let name = node.id.split('~').nth(2).unwrap_or_default();
                        name.split('.').next().unwrap_or_default().clone_into(&mut proxy);
                    }
                    take(&state, &mut subscriptions, request);
                }
                _ => return,
            },
            changed = revisions.changed() => if changed.is_err() { return },
        }
        for type_url in ORDER {
            if let Some(response) = subscriptions.get_mut(type_url).and_then(|sub| due(&state, &proxy, type_url, sub))
                && responses.send(Ok(response)).await.is_err()
            {
                return;
            }
        }
    }
}

fn take(state: &State, subscriptions: &mut BTreeMap<String, Subscription>, request: DeltaDiscoveryRequest) {
    if let Some(error) = request.error_detail {
        state.rejections.lock().unwrap().push(error.message);
    }
    let first = !subscriptions.contains_key(&request.type_url);
    let subscription = subscriptions.entry(request.type_url.clone()).or_default();
    if first {
        subscription.wildcard = request.resource_names_subscribe.is_empty();
    }
    for (name, version) in request.initial_resource_versions {
        subscription.sent.insert(name, version.parse().unwrap_or(0));
    }
    for name in request.resource_names_unsubscribe {
        subscription.names.remove(&name);
        subscription.sent.remove(&name);
    }
    subscription.names.extend(request.resource_names_subscribe);
}

fn due(state: &State, proxy: &str, type_url: &str, subscription: &mut Subscription) -> Option<DeltaDiscoveryResponse> {
    // Before the lock below: a change holds the revision while it takes that lock.
    let nonce = state.revision.borrow().to_string();
    let resources = state.resources.lock().unwrap();
    let empty = BTreeMap::new();
    let mut known = resources.get(type_url).unwrap_or(&empty).clone();
    known.retain(|_, (_, only, _)| only.as_ref().is_none_or(|only| only == proxy));
    let mut response = DeltaDiscoveryResponse { type_url: type_url.to_owned(), nonce, ..Default::default() };
    for (name, (version, _, any)) in &known {
        let wanted = subscription.wildcard || subscription.names.contains(name);
        if wanted && subscription.sent.insert(name.clone(), *version) != Some(*version) {
            let (name, version) = (name.clone(), version.to_string());
            response.resources.push(Resource { name, version, resource: Some(any.clone()), ..Default::default() });
        }
    }
    let gone: Vec<_> = subscription.sent.keys().filter(|name| !known.contains_key(*name)).cloned().collect();
    for name in gone {
        subscription.sent.remove(&name);
        response.removed_resources.push(name);
    }
    for name in &subscription.names {
        if !known.contains_key(name) && subscription.told_missing.insert(name.clone()) {
            response.removed_resources.push(name.clone());
        }
    }
    (!response.resources.is_empty() || !response.removed_resources.is_empty()).then_some(response)
}

#[tonic::async_trait]
impl IstioCertificateService for Face {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
        let id = match token {
            Some(token) => self.0.tokens.lock().unwrap().remove(token),
            None => request.extensions().get::<tls::PeerInfo>().and_then(|peer| peer.spiffe_id.clone()),
        };
        let id = id.ok_or_else(|| Status::unauthenticated("token used or unknown"))?;
        let mut csr = CertificateSigningRequestParams::from_pem(&request.get_ref().csr)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        csr.params = self.0.profile(csr.params, &id.to_string());
        let leaf = csr.signed_by(&self.0.issuer).map_err(|error| Status::internal(error.to_string()))?;
        self.0.issued.send_modify(|issued| *issued += 1);
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![leaf.pem(), self.0.issuer.pem()] }))
    }
}

#[tonic::async_trait]
impl Workloads for Face {
    type RegisterStream = Pin<Box<dyn Stream<Item = Result<RegisterResponse, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<Streaming<RegisterRequest>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let state = self.0.clone();
        let answers = request.into_inner().map(move |request| {
            if let Some(register_request::Request::Workload(workload)) = request?.request {
                state.registered.lock().unwrap().push(workload);
            }
            Ok(RegisterResponse { ttl_seconds: 3 })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
