//! Registration over a real socket, against a store in memory.

use std::net::Ipv4Addr;

use proto::mesh::{KeepAlive, workloads_client::WorkloadsClient, workloads_server::WorkloadsServer};
use tls::PeerInfo;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};

use super::*;
use crate::testing::Store;

const KEY: &str = "/mesh/config/networking.istio.io/WorkloadEntry/default/reviews-1";
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry in which every caller is `caller`.
async fn serve(store: &Store, caller: &str, stop: &CancellationToken) -> String {
    let workloads = Workloads::new(store.client(), Duration::from_secs(10), stop.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let spiffe_id = Some(SpiffeId::parse(caller).expect("valid"));
    let prove = move |mut request: Request<()>| {
        request.extensions_mut().insert(PeerInfo { addr, spiffe_id: spiffe_id.clone(), common_name: None });
        Ok(request)
    };
    let serving = tonic::transport::Server::builder().add_service(WorkloadsServer::with_interceptor(workloads, prove));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    format!("http://{addr}")
}

fn workload() -> Workload {
    Workload {
        name: "reviews-1".to_owned(),
        namespace: "default".to_owned(),
        service_account: "reviews".to_owned(),
        labels: [("app".to_owned(), "reviews".to_owned())].into(),
        address: "127.0.0.1".to_owned(),
        ports: [("http".to_owned(), 20001)].into(),
    }
}

fn register(workload: Workload) -> RegisterRequest {
    RegisterRequest { request: Some(register_request::Request::Workload(workload)) }
}

fn alive() -> RegisterRequest {
    RegisterRequest { request: Some(register_request::Request::KeepAlive(KeepAlive {})) }
}

/// A proxy's side of the stream.
struct Peer {
    requests: mpsc::Sender<RegisterRequest>,
    responses: Streaming<RegisterResponse>,
}

impl Peer {
    async fn open(server: &str, first: RegisterRequest) -> Result<Self, Status> {
        let mut client = WorkloadsClient::connect(server.to_owned()).await.expect("connected");
        let (requests, outgoing) = mpsc::channel(8);
        requests.send(first).await.expect("open");
        let responses = client.register(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn answer(&mut self) -> Result<Option<i64>, Status> {
        let next = timeout(PATIENCE, self.responses.message()).await.expect("in time");
        next.map(|response| response.map(|response| response.ttl_seconds))
    }
}

const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";

#[tokio::test]
async fn a_workload_is_there_for_as_long_as_it_says_so() {
    let (store, stop) = (Store::new(), CancellationToken::new());
    let server = serve(&store, REVIEWS, &stop).await;
    let mut peer = Peer::open(&server, register(workload())).await.expect("opened");
    assert_eq!(peer.answer().await.expect("registered"), Some(10));
    let (json, lease) = store.get(KEY).expect("stored");
    assert!(
        json.contains(r#""security.istio.io/tlsMode":"istio""#) && json.contains(r#""serviceAccount":"reviews""#),
        "{json}"
    );
    assert_eq!(lease, 1);

    peer.requests.send(alive()).await.expect("open");
    assert_eq!(peer.answer().await.expect("renewed"), Some(10));
    store.expire(lease);
    assert_eq!(store.get(KEY), None);
    peer.requests.send(alive()).await.expect("open");
    assert_eq!(peer.answer().await.expect("put back"), Some(10));
    assert_eq!(store.get(KEY).expect("again").1, 2);

    let Peer { requests, mut responses } = peer;
    drop(requests);
    assert!(timeout(PATIENCE, responses.message()).await.expect("in time").expect("in good order").is_none());
    assert_eq!(store.get(KEY), None, "it left");
}

#[tokio::test]
async fn a_restarted_server_takes_the_registration_over() {
    let (store, stop) = (Store::new(), CancellationToken::new());
    let server = serve(&store, REVIEWS, &stop).await;
    let mut first = Peer::open(&server, register(workload())).await.expect("opened");
    first.answer().await.expect("registered");
    stop.cancel();
    assert_eq!(first.answer().await.expect_err("the server stops").code(), Code::Unavailable);
    let (before, _) = store.get(KEY).expect("the registration outlives the server");

    let server = serve(&store, REVIEWS, &CancellationToken::new()).await;
    let mut second = Peer::open(&server, register(workload())).await.expect("opened");
    second.answer().await.expect("registered");
    let (after, lease) = store.get(KEY).expect("still there");
    assert_eq!((after, lease), (before, 2));
    store.expire(1);
    assert!(store.get(KEY).is_some(), "the old lease has no say any more");
}

#[tokio::test]
async fn nobody_registers_another() {
    let (store, stop) = (Store::new(), CancellationToken::new());
    let server = serve(&store, REVIEWS, &stop).await;
    let mut owner = Peer::open(&server, register(workload())).await.expect("opened");
    owner.answer().await.expect("registered");

    let other = serve(&store, "spiffe://cluster.local/ns/default/sa/ratings", &stop).await;
    let same_name = Workload { service_account: "ratings".to_owned(), ..workload() };
    let bad_address =
        Workload { address: "reviews.example.com".to_owned(), name: "r2".to_owned(), ..same_name.clone() };
    let cases = [
        (register(workload()), Code::PermissionDenied),
        (register(same_name), Code::AlreadyExists),
        (register(bad_address), Code::InvalidArgument),
        (alive(), Code::FailedPrecondition),
    ];
    for (request, code) in cases {
        let outcome = match Peer::open(&other, request).await {
            Ok(mut peer) => peer.answer().await.expect_err("refused"),
            Err(status) => status,
        };
        assert_eq!(outcome.code(), code, "{outcome}");
    }
    assert_eq!(store.get(KEY).expect("still there").1, 1);
}
