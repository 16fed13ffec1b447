//! One request for a certificate, by Istio's CSR API.

use proto::istio_ca::{IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tls::{Connector, Credentials, Expect, H2, Svid};
use tonic::metadata::{Ascii, MetadataValue};

use super::IdentityError;
use crate::{
    settings::{Config, JoinToken, server_id},
    xds::endpoint,
};

/// What the authority gave.
pub(super) struct Issued {
    pub(super) svid: Svid,
    /// Key and chain, PEM. Secret.
    pub(super) pem: String,
    /// The authority's root, PEM.
    pub(super) root: String,
}

/// Makes a new key and has it certified. With a token the token is the proof, else the current certificate.
pub(super) async fn request(
    config: &Config,
    credentials: &Credentials,
    token: Option<&JoinToken>,
) -> Result<Issued, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
    let expect = Expect::OneOf(vec![server_id(&credentials.trust_domain())]);
    let connector = Connector::tls(tls::client_config(credentials, expect, H2));
    let channel = endpoint(config.server)?.connect_with_connector(connector).await?;
    let mut request = tonic::Request::new(IstioCertificateRequest { csr, ..IstioCertificateRequest::default() });
    if let Some(token) = token {
        let mut bearer: MetadataValue<Ascii> =
            format!("Bearer {}", token.reveal()).parse().map_err(|_| IdentityError::Token)?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
    }
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner();
    let [chain @ .., root] = &answer.cert_chain[..] else { return Err(IdentityError::Empty) };
    let chain = chain.join("\n");
    let pem = format!("{}\n{chain}", key.serialize_pem());
    let svid = Svid::from_pem(chain.as_bytes(), pem.as_bytes())?;
    Ok(Issued { svid, pem, root: root.clone() })
}
