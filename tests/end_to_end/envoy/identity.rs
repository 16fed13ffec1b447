//! A certificate for Envoy, by join token from the CA API: what an agent beside it would do.

use std::{net::SocketAddr, path::Path};

use proto::istio_ca::{IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient};
use rcgen::{CertificateParams, KeyPair};
use tls::{Connector, Credentials, Expect, H2, TrustBundle};
use tonic::{Request, transport::Endpoint};
use types::SpiffeId;

/// Identity of the mesh server.
pub(super) const SERVER: &str = "spiffe://cluster.local/ns/meshstore-system/sa/server";

/// PEM texts.
pub(super) struct Svid {
    /// Leaf first, without the root.
    pub(super) chain: String,
    pub(super) key: String,
    /// The roots of the trust domain.
    pub(super) roots: String,
}

/// Asks the server at `mesh` for the certificate that `token` is good for.
pub(super) async fn obtain(mesh: SocketAddr, roots: &Path, token: &str) -> Svid {
    let credentials = Credentials::new(TrustBundle::from_file(roots).unwrap(), None).unwrap();
    let server = SpiffeId::parse(SERVER).unwrap();
    let connector = Connector::tls(tls::client_config(&credentials, Expect::OneOf(vec![server]), H2));
    let endpoint = Endpoint::from_shared(format!("https://{mesh}")).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();

    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let mut request = Request::new(IstioCertificateRequest { csr, validity_duration: 3_600, metadata: None });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await.unwrap().into_inner();
    let (_, chain) = answer.cert_chain.split_last().expect("a chain ends with its root");
    Svid { chain: chain.concat(), key: key.serialize_pem(), roots: std::fs::read_to_string(roots).unwrap() }
}
