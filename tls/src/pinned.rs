//! The first contact with a cluster: of its authority only a hash is known, which somebody has carried over.
//!
//! - A server is accepted if the chain that it shows has the certificate of that hash, its own certificate is signed by
//!   that one, and is of the one identity that is meant. From there on it is as trusted as the hash.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    version::TLS13,
};
use types::{Namespace, ServiceAccount};

use crate::{PeerError, config, peer};

/// Names an authority: SHA-256 of its certificate, DER. Written in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AuthorityHash([u8; 32]);

impl AuthorityHash {
    /// Of a certificate, DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(digest(&SHA256, certificate).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuthorityHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// For a client that shows nothing, and accepts only servers of this account that the authority of this hash vouches
/// for; of whatever trust domain that is. `alpn`: as for [`crate::client_config`].
pub fn pinned_client_config(
    authority: AuthorityHash,
    namespace: Namespace,
    account: ServiceAccount,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(config::provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { authority, namespace, account }));
    config::finish_client(builder.with_no_client_auth(), alpn)
}

#[derive(Debug)]
struct Pinned {
    authority: AuthorityHash,
    namespace: Namespace,
    account: ServiceAccount,
}

impl Pinned {
    fn check_identity(&self, leaf: &CertificateDer<'_>) -> Result<(), PeerError> {
        let found = peer::leaf_id(&peer::parse(leaf)?)?;
        let is_meant = (found.namespace(), found.service_account()) == (&self.namespace, &self.account);
        if is_meant { Ok(()) } else { Err(PeerError::Unexpected(found)) }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|shown| AuthorityHash::of(shown) == self.authority);
        let pinned = pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut anchor = RootCertStore::empty();
        anchor.add(pinned.clone())?;
        let (parsed, algorithms) = (ParsedCertificate::try_from(leaf)?, config::provider());
        let algorithms = algorithms.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &anchor, &[], now, algorithms)?;
        let refused = |error| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))));
        self.check_identity(leaf).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &config::provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &config::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        config::provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClientAuth, Credentials, H2, Svid, server_config,
        testing::{Authority, handshake, say_hello},
    };

    /// A server that shows its authority's certificate too, and that certificate's hash.
    fn server(authority: &Authority, account: &str) -> (Credentials, AuthorityHash) {
        let issued = authority.issue(account, |_| ());
        let svid = Svid::from_pem((issued.chain + &authority.pem()).as_bytes(), issued.key.as_bytes()).unwrap();
        let hash = AuthorityHash::of(svid.chain().last().unwrap());
        (Credentials::new(authority.bundle(), Some(svid)).unwrap(), hash)
    }

    fn client(authority: AuthorityHash, account: &str) -> Arc<ClientConfig> {
        let namespace = Namespace::parse("default").unwrap();
        pinned_client_config(authority, namespace, ServiceAccount::parse(account).unwrap(), H2)
    }

    #[test]
    fn only_the_account_that_is_meant_of_the_authority_that_is_pinned_is_accepted() {
        let (ours, theirs) = (Authority::new("cluster.local"), Authority::new("cluster.local"));
        let (credentials, hash) = server(&ours, "server");
        let (_, other) = server(&theirs, "server");
        let (workload, _) = server(&ours, "reviews");
        let config = |credentials| server_config(credentials, ClientAuth::Optional, H2);
        let (mut one, mut two) = handshake(config(&credentials), client(hash, "server")).unwrap();
        say_hello(&mut one, &mut two);
        assert!(handshake(config(&credentials), client(other, "server")).is_err(), "another authority");
        assert!(handshake(config(&workload), client(hash, "server")).is_err(), "a workload");
        assert!(handshake(config(&ours.credentials("server")), client(hash, "server")).is_err(), "it is not shown");
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = AuthorityHash::of(b"certificate");
        assert_eq!(AuthorityHash::parse(&hash.to_string()), Some(hash));
        let text = hash.to_string();
        for wrong in ["", "00", &text[1..], &format!("{text}0"), &text.replace(&text[..1], "g"), &"é".repeat(32)] {
            assert_eq!(AuthorityHash::parse(wrong), None, "{wrong}");
        }
    }
}
