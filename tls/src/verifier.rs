//! The verifier of peers, for both directions.
//!
//! - Chain, validity and extended key usage are webpki's; identity is [`crate::peer`]'s; both must hold.
//! - Roots and trust domain are those of the credentials at the moment of the handshake.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use types::SpiffeId;

use crate::{ClientAuth, Credentials, PeerError, TrustBundle, config, peer};

/// Which peers are meant, among the members of our trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Any of them.
    AnyInTrustDomain,
    /// These only; none, if the list is empty.
    OneOf(Vec<SpiffeId>),
}

impl Expect {
    fn check(&self, found: SpiffeId) -> Result<(), PeerError> {
        match self {
            Self::OneOf(ids) if !ids.contains(&found) => Err(PeerError::Unexpected(found)),
            Self::OneOf(_) | Self::AnyInTrustDomain => Ok(()),
        }
    }
}

pub(crate) struct Verifier {
    credentials: Credentials,
    expect: Expect,
    client_auth: ClientAuth,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(crate) fn of_servers(credentials: &Credentials, expect: Expect) -> Arc<Self> {
        Self::new(credentials, expect, ClientAuth::None)
    }

    pub(crate) fn of_clients(credentials: &Credentials, client_auth: ClientAuth) -> Arc<Self> {
        Self::new(credentials, Expect::AnyInTrustDomain, client_auth)
    }

    fn new(credentials: &Credentials, expect: Expect, client_auth: ClientAuth) -> Arc<Self> {
        let algorithms = config::provider().signature_verification_algorithms;
        Arc::new(Self { credentials: credentials.clone(), expect, client_auth, algorithms })
    }

    fn check_identity(&self, leaf: &CertificateDer<'_>, bundle: &TrustBundle) -> Result<(), PeerError> {
        let found = peer::leaf_id(&peer::parse(leaf)?)?;
        if found.trust_domain() != bundle.trust_domain() {
            let (found, ours) = (found.trust_domain().clone(), bundle.trust_domain().clone());
            return Err(PeerError::TrustDomain { found, ours });
        }
        self.expect.check(found)
    }
}

fn refused(error: PeerError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bundle = &self.credentials.state().bundle;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &bundle.anchors, intermediates, now, self.algorithms.all)?;
        self.check_identity(leaf, bundle).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.client_auth != ClientAuth::None
    }

    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    /// None: the roots may be replaced while a configuration lives, and mesh clients have one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bundle = &self.credentials.state().bundle;
        let verified = bundle.clients.verify_client_cert(leaf, intermediates, now)?;
        self.check_identity(leaf, bundle).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credentials, expect, client_auth, algorithms: _ } = self;
        f.debug_struct("Verifier")
            .field("credentials", credentials)
            .field("expect", expect)
            .field("client_auth", client_auth)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
