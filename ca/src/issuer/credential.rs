//! What is handed out: a certificate, and where we made the key, the key.

use std::fmt;

use bytes::Bytes;
use tls::{CredentialsError, Svid, TrustBundle};
use zeroize::Zeroizing;

use crate::ledger::IssuedRecord;

/// An issued certificate and the authorities above it, DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What the ledger has of it.
    pub record: IssuedRecord,
    /// The certificate itself.
    pub leaf: Bytes,
    /// The certificate of the key that signed it.
    pub issuing: Bytes,
    /// The root above that.
    pub root: Bytes,
}

impl Certificate {
    /// One PEM text for each certificate: leaf first, root last.
    pub fn chain_pem(&self) -> Vec<String> {
        [&self.leaf, &self.issuing, &self.root].map(|der| tls::certificate_pem(der)).to_vec()
    }

    /// What a server or client shows, as one PEM text: the leaf and the issuing certificate.
    pub fn shown_pem(&self) -> String {
        tls::certificate_pem(&self.leaf) + &tls::certificate_pem(&self.issuing)
    }

    /// The root, PEM: what others must trust.
    pub fn root_pem(&self) -> String {
        tls::certificate_pem(&self.root)
    }
}

/// A certificate whose key was made here. The key is cleared when this is dropped, and never printed.
pub struct Credential {
    certificate: Certificate,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl Credential {
    pub(super) fn new(certificate: Certificate, pkcs8: &[u8]) -> Self {
        Self { certificate, pkcs8: Zeroizing::new(pkcs8.to_vec()) }
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The private key, PKCS#8 PEM; cleared when dropped.
    pub fn key_pem(&self) -> Zeroizing<String> {
        tls::private_key_pem(&self.pkcs8)
    }

    /// The same for use in this process: what to trust, and what to show.
    pub fn for_tls(&self) -> Result<(TrustBundle, Svid), CredentialsError> {
        let bundle = TrustBundle::from_pem(self.certificate.root_pem().as_bytes())?;
        let svid = Svid::from_pem(self.certificate.shown_pem().as_bytes(), self.key_pem().as_bytes())?;
        Ok((bundle, svid))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("spiffe_id", &self.certificate.record.spiffe_id).finish_non_exhaustive()
    }
}
