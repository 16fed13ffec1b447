use std::net::SocketAddr;

use proto::{
    ca::certificate_authority_client::CertificateAuthorityClient,
    istio_ca::istio_certificate_service_client::IstioCertificateServiceClient,
};
use rcgen::{CertificateParams, KeyPair};
use tls::{ClientAuth, Connector, Credentials, Expect, Incoming, Limits, Security, Svid, TrustBundle};
use tokio::task::JoinHandle;
use tonic::{
    Code,
    transport::{Channel, Endpoint, Server},
};

use super::*;
use crate::testing::{House, csr, csr_of, id, trust_domain};

/// The faces behind real mutual TLS, as a server shows them.
struct Served {
    house: House,
    addr: SocketAddr,
    bundle: TrustBundle,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start() -> Self {
        let house = House::new();
        let day = Duration::from_hours(24);
        let own = house.issuer.issue_own(Issuer::server_id(&trust_domain()), vec![], vec![], day).await.unwrap();
        let (bundle, svid) = own.for_tls().unwrap();
        let credentials = Credentials::new(bundle.clone(), Some(svid)).unwrap();
        let security = Security::Mesh(tls::server_config(&credentials, ClientAuth::Optional, tls::H2));
        let incoming = Incoming::bind("127.0.0.1:0".parse().unwrap(), security, Limits::default()).await.unwrap();
        let addr = incoming.local_addr().unwrap();
        let faces = Server::builder()
            .add_service(issuing_face(house.issuer.clone()))
            .add_service(admin_face(house.issuer.clone()));
        let task = tokio::spawn(faces.serve_with_incoming(incoming));
        Self { house, addr, bundle, task }
    }

    /// A channel of a caller who shows `svid`.
    fn channel(&self, svid: Option<Svid>) -> Channel {
        let credentials = Credentials::new(self.bundle.clone(), svid).unwrap();
        let server = Expect::OneOf(vec![Issuer::server_id(&trust_domain())]);
        let connector = Connector::tls(tls::client_config(&credentials, server, tls::H2));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.addr)).unwrap();
        endpoint.connect_with_connector_lazy(connector)
    }

    async fn admin(&self) -> CertificateAuthorityClient<Channel> {
        let admin = Issuer::admin_id(&trust_domain());
        let own = self.house.issuer.issue_own(admin, vec![], vec![], Duration::from_hours(1)).await.unwrap();
        CertificateAuthorityClient::new(self.channel(Some(own.for_tls().unwrap().1)))
    }

    async fn token(&self) -> String {
        self.admin().await.create_join_token(for_reviews()).await.unwrap().into_inner().token
    }

    async fn ask(&self, request: Request<IstioCertificateRequest>, svid: Option<Svid>) -> Result<Vec<String>, Status> {
        let mut client = IstioCertificateServiceClient::new(self.channel(svid));
        client.create_certificate(request).await.map(|response| response.into_inner().cert_chain)
    }
}

fn for_reviews() -> CreateJoinTokenRequest {
    CreateJoinTokenRequest { namespace: "default".into(), service_account: "reviews".into(), ttl_seconds: 0 }
}

fn asking(csr: String, token: Option<&str>) -> Request<IstioCertificateRequest> {
    let mut request = Request::new(IstioCertificateRequest { csr, validity_duration: 3600, metadata: None });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

fn svid(chain: &[String], key: &KeyPair) -> Svid {
    let shown = chain[..chain.len() - 1].concat();
    Svid::from_pem(shown.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

#[tokio::test]
async fn a_workload_joins_by_token_and_renews_by_certificate() {
    let served = Served::start().await;
    let token = served.token().await;
    let key = KeyPair::generate().unwrap();
    let csr_pem = csr_of(&key, &CertificateParams::default());
    let chain = served.ask(asking(csr_pem, Some(&token)), None).await.unwrap();
    assert_eq!(chain.len(), 3);
    assert_eq!(chain[2], served.bundle.to_pem());
    assert!(chain.iter().all(|pem| pem.matches("BEGIN").count() == 1));
    let first = svid(&chain, &key);
    assert_eq!(*first.id(), id("default", "reviews"));

    let new_key = KeyPair::generate().unwrap();
    let csr_pem = csr_of(&new_key, &CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap());
    let chain = served.ask(asking(csr_pem, None), Some(first)).await.unwrap();
    let renewed = svid(&chain, &new_key);
    assert_eq!(*renewed.id(), id("default", "reviews"));
    served.ask(asking(csr(), None), Some(renewed)).await.expect("what was renewed renews again");
}

#[tokio::test]
async fn a_caller_without_proof_is_refused() {
    let served = Served::start().await;
    let token = served.token().await;
    served.ask(asking(csr(), Some(&token)), None).await.unwrap();
    let huge = " ".repeat(CSR_BYTES_MAX + 1);
    let fresh = served.token().await;
    let cases = [
        (asking(csr(), None), Code::Unauthenticated),
        (asking(csr(), Some("")), Code::Unauthenticated),
        (asking(csr(), Some("guess")), Code::Unauthenticated),
        (asking(csr(), Some(JoinToken::random().unwrap().reveal())), Code::Unauthenticated),
        (asking(csr(), Some(&token)), Code::Unauthenticated),
        (asking(huge, Some(&fresh)), Code::InvalidArgument),
        (asking(" ".repeat(MESSAGE_BYTES_MAX), Some(&fresh)), Code::OutOfRange),
        (asking("no request".into(), Some(&fresh)), Code::InvalidArgument),
    ];
    for (number, (request, expected)) in cases.into_iter().enumerate() {
        let status = served.ask(request, None).await.unwrap_err();
        assert_eq!(status.code(), expected, "{number}: {status}");
        assert!(!status.message().contains(&token), "{status}");
    }
    served.ask(asking(csr(), Some(&fresh)), None).await.expect("no refusal consumes a token");
}

#[tokio::test]
async fn nobody_is_issued_another_identity() {
    let served = Served::start().await;
    let token = served.token().await;
    let mut request = asking(csr(), Some(&token));
    let name = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("spiffe://x".into())) };
    request.get_mut().metadata = Some(prost_types::Struct { fields: [(IMPERSONATED.to_owned(), name)].into() });
    assert_eq!(served.ask(request, None).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn administration_is_for_the_administrator() {
    let served = Served::start().await;
    let workload = served.house.issuer.renew(id("default", "a"), csr(), None).await.unwrap();
    let member = Issuer::server_id(&trust_domain());
    let member = served.house.issuer.issue_own(member, vec![], vec![], Duration::from_hours(1)).await.unwrap();
    let member = member.for_tls().unwrap().1;
    for (svid, expected) in [(None, Code::Unauthenticated), (Some(member), Code::PermissionDenied)] {
        let mut client = CertificateAuthorityClient::new(served.channel(svid));
        assert_eq!(client.create_join_token(for_reviews()).await.unwrap_err().code(), expected);
        assert_eq!(client.list_issued(ListIssuedRequest { limit: 0 }).await.unwrap_err().code(), expected);
    }
    let mut admin = served.admin().await;
    let listed = admin.list_issued(ListIssuedRequest { limit: 3 }).await.unwrap().into_inner().certificates;
    assert_eq!(listed.len(), 3);
    let row = listed.iter().find(|row| row.spiffe_id == workload.record.spiffe_id.to_string()).unwrap();
    assert_eq!(row.serial, profile::hex(&workload.record.serial));
    assert!(listed.windows(2).all(|pair| pair[0].log_index > pair[1].log_index), "newest first");

    let refused = [
        CreateJoinTokenRequest { namespace: "a/b".into(), ..for_reviews() },
        CreateJoinTokenRequest { service_account: String::new(), ..for_reviews() },
        CreateJoinTokenRequest { ttl_seconds: -1, ..for_reviews() },
        CreateJoinTokenRequest { ttl_seconds: i64::MAX, ..for_reviews() },
    ];
    for request in refused {
        assert_eq!(admin.create_join_token(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let system = CreateJoinTokenRequest { namespace: "meshstore-system".into(), ..for_reviews() };
    assert_eq!(admin.create_join_token(system).await.unwrap_err().code(), Code::PermissionDenied);
}
