//! Our own certificate and its key.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use types::SpiffeId;
use x509_parser::time::ASN1Time;

use crate::{CredentialsError, config, peer, pem};

/// When a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub not_before: SystemTime,
    /// Last moment.
    pub not_after: SystemTime,
}

impl Validity {
    /// The middle: when a certificate is due for renewal.
    pub fn half_life(&self) -> SystemTime {
        self.not_before + self.not_after.duration_since(self.not_before).unwrap_or_default() / 2
    }
}

/// An X.509-SVID: a chain, leaf first, that states one SPIFFE ID, and the leaf's private key. A clone shares both.
#[derive(Clone)]
pub struct Svid {
    id: SpiffeId,
    validity: Validity,
    pub(crate) certified: Arc<CertifiedKey>,
}

impl Svid {
    /// Checks that the leaf is one that peers accept, and that `key` is the leaf's. The chain runs from the leaf to
    /// the last intermediate; a root at its end is harmless.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, CredentialsError> {
        let leaf = peer::parse(chain.first().ok_or(peer::PeerError::Missing)?)?;
        let id = peer::leaf_id(&leaf)?;
        let validity = Validity {
            not_before: system_time(leaf.validity.not_before),
            not_after: system_time(leaf.validity.not_after),
        };
        Ok(Self { id, validity, certified: certified_key(chain, key)? })
    }

    /// Reads a PEM chain and a PEM key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CredentialsError> {
        Self::new(pem::certificates(chain, "certificate")?, pem::private_key(key, "private key")?)
    }

    /// Reads a PEM chain and a PEM key from files. The key's file must be closed to group and others.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, CredentialsError> {
        pem::check_key_mode(key)?;
        Self::new(pem::certificate_file(chain)?, pem::private_key_file(key)?)
    }

    /// Who it says we are.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When the leaf is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The chain, leaf first, DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

/// Pairs a chain with its key for `rustls`, and checks that they belong together.
pub(crate) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, CredentialsError> {
    let provider = config::provider();
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| CredentialsError::Key("not an ECDSA, Ed25519 or RSA key"))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| CredentialsError::Key("it does not belong to the certificate"))?;
    Ok(Arc::new(certified))
}

/// X.509 dates before 1970 are read as 1970: no certificate of ours has one.
fn system_time(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("validity", &self.validity).finish_non_exhaustive()
    }
}
