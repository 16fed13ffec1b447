//! The roots of one trust domain.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    RootCertStore, pki_types::CertificateDer, server::WebPkiClientVerifier, server::danger::ClientCertVerifier,
};
use types::TrustDomain;

use crate::{CredentialsError, config, peer, pem};

/// A trust domain and the roots that may vouch for its members; at least one. A clone shares the roots.
#[derive(Clone)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    /// The roots as webpki wants them, and its verifier of clients over them.
    pub(crate) anchors: Arc<RootCertStore>,
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
}

impl TrustBundle {
    /// The roots of `trust_domain`, as DER.
    pub fn new(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>) -> Result<Self, CredentialsError> {
        let mut anchors = RootCertStore::empty();
        for root in &roots {
            anchors.add(root.clone()).map_err(|error| CredentialsError::Root(error.to_string()))?;
        }
        let anchors = Arc::new(anchors);
        let clients = WebPkiClientVerifier::builder_with_provider(anchors.clone(), config::provider())
            .build()
            .map_err(|error| CredentialsError::Root(error.to_string()))?;
        Ok(Self { trust_domain, roots, anchors, clients })
    }

    /// Reads PEM roots. The trust domain is the one that each root states as its URI, `spiffe://TRUST_DOMAIN`.
    pub fn from_pem(text: &[u8]) -> Result<Self, CredentialsError> {
        Self::of_roots(pem::certificates(text, "trust bundle")?)
    }

    /// Reads a file of PEM roots; see [`TrustBundle::from_pem`].
    pub fn from_file(path: &Path) -> Result<Self, CredentialsError> {
        Self::of_roots(pem::certificate_file(path)?)
    }

    fn of_roots(roots: Vec<CertificateDer<'static>>) -> Result<Self, CredentialsError> {
        let mut stated: Option<TrustDomain> = None;
        for root in &roots {
            let found = peer::parse(root).and_then(|root| peer::authority_trust_domain(&root));
            let found = found.map_err(|error| CredentialsError::Root(error.to_string()))?;
            match &stated {
                Some(expected) if *expected != found => {
                    return Err(CredentialsError::TrustDomain { found, expected: expected.clone() });
                }
                _ => stated = Some(found),
            }
        }
        let trust_domain = stated.ok_or_else(|| CredentialsError::Root("none is given".to_owned()))?;
        Self::new(trust_domain, roots)
    }

    /// Whose members the roots vouch for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots as PEM, as [`TrustBundle::from_pem`] reads them.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(|root| pem::certificate_pem(root)).collect()
    }

    /// The roots, DER.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, roots, .. } = self;
        f.debug_struct("TrustBundle").field("trust_domain", trust_domain).field("roots", &roots.len()).finish()
    }
}
