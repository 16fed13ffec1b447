//! The authority: it holds the issuing key, and signs what the ledger has.
//!
//! Owns: the issuing key in memory, and the signatures made lately.
//! In:   a place in the ledger, never bytes.
//! Out:  a certificate.
//!
//! - What is signed was committed and applied on this member: it is read from our own ledger.
//! - Every signature is checked before it leaves, so that a fault in making it gives nothing away.
//! - Apart from it stands [`MemberAuthority`], by which the cluster's members know one another: its certificates are
//!   needed before there is a ledger to ask, and are in none.
//! - Keys have neither `Debug` nor a serial form; at rest they are sealed (see [`Custody`]).

mod custody;
mod members;

use std::{collections::BTreeMap, fmt, path::PathBuf};

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use bytes::Bytes;
use parking_lot::Mutex;

pub use custody::{Custody, Handover};
pub use members::MemberAuthority;

use crate::{
    ledger::{LedgerError, LedgerView, Place},
    profile::{self, KeyId},
};

/// Certificates kept for those who ask again.
const SIGNED_MAX: usize = 1024;

/// Why the authority's keys cannot be used. Nothing of a key is in the text.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than the owner may touch it, or it is no plain file or folder.
    #[error("{path} must be {expected}, its mode is {mode:03o}")]
    Mode {
        /// Which.
        path: PathBuf,
        /// What it must be.
        expected: &'static str,
        /// Its permission bits.
        mode: u32,
    },
    /// The sealed file is damaged, or sealed with another key-encryption key.
    #[error("{0} cannot be unsealed: it is damaged, or sealed under another key")]
    Sealed(PathBuf),
    /// What is in the file is not what its name says.
    #[error("{path} is not {expected}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What it must be.
        expected: &'static str,
    },
    /// The keys were made for another trust domain.
    #[error("{path} holds the keys of trust domain {found}, not of {asked}")]
    TrustDomain {
        /// The folder of the keys.
        path: PathBuf,
        /// Theirs.
        found: types::TrustDomain,
        /// The one that is asked for.
        asked: types::TrustDomain,
    },
    /// The cryptographic library failed.
    #[error("cannot {0}")]
    Crypto(&'static str),
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Nothing was issued at that place, or it has expired.
    #[error("the ledger has no certificate at {0}")]
    NotIssued(Place),
    /// The ledger names an issuing key that this member does not hold.
    #[error("this member does not hold the issuing key")]
    NotOurKey,
    /// The signature did not verify, and was thrown away. Try again; if it stays so, the machine is faulty.
    #[error("the signature did not verify")]
    Fault,
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Signs what the ledger has.
pub struct Authority {
    key: EcdsaKeyPair,
    key_id: KeyId,
    ledger: LedgerView,
    signed: Mutex<BTreeMap<Place, Bytes>>,
}

impl Authority {
    /// Unseals the issuing key.
    pub fn open(custody: &Custody, ledger: LedgerView) -> Result<Self, AuthorityError> {
        let key = custody.issuing_key()?;
        let (_, key_id) = public_half(&key)?;
        Ok(Self { key, key_id, ledger, signed: Mutex::default() })
    }

    /// Names the issuing key, as [`crate::Issue::issuer_key`] must.
    pub fn key_id(&self) -> [u8; 20] {
        self.key_id
    }

    /// The certificate, DER, that the ledger has at `place`. Takes about 0.3 ms of processor time: call it where that
    /// blocks nobody. Asked again, it may give another signature over the same bytes.
    pub fn sign(&self, place: Place) -> Result<Bytes, SignError> {
        if let Some(certificate) = self.signed.lock().get(&place) {
            return Ok(certificate.clone());
        }
        let record = self.ledger.issued(place)?.ok_or(SignError::NotIssued(place))?;
        if record.issuer_key != self.key_id {
            return Err(SignError::NotOurKey);
        }
        let signature = sign_checked(&self.key, &record.tbs).ok_or(SignError::Fault)?;
        let certificate = Bytes::from(profile::certificate(&record.tbs, &signature));
        let mut signed = self.signed.lock();
        signed.insert(place, certificate.clone());
        if signed.len() > SIGNED_MAX {
            signed.pop_first();
        }
        Ok(certificate)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("key_id", &profile::hex(&self.key_id)).finish_non_exhaustive()
    }
}

/// Signs, and checks the signature. `None` if either fails.
fn sign_checked(key: &EcdsaKeyPair, message: &[u8]) -> Option<Vec<u8>> {
    let signature = key.sign(&SystemRandom::new(), message).ok()?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    public.verify(message, signature.as_ref()).ok()?;
    Some(signature.as_ref().to_vec())
}

/// The public key as `SubjectPublicKeyInfo`, DER, and its name.
pub(crate) fn public_half(key: &EcdsaKeyPair) -> Result<(Vec<u8>, KeyId), AuthorityError> {
    let failed = AuthorityError::Crypto("encode the public key");
    let Ok(spki) = key.public_key().as_der() else { return Err(failed) };
    let spki = spki.as_ref().to_vec();
    let key_id = profile::key_id(&spki).ok_or(failed)?;
    Ok((spki, key_id))
}

/// Makes a P-256 key: the pair, and its PKCS#8 form, which is cleared when dropped.
pub(crate) fn generate() -> Result<(EcdsaKeyPair, aws_lc_rs::pkcs8::Document), AuthorityError> {
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let made = EcdsaKeyPair::generate(algorithm).and_then(|key| key.to_pkcs8v1().map(|pkcs8| (key, pkcs8)));
    made.map_err(|_| AuthorityError::Crypto("make a key"))
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], AuthorityError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthorityError::Crypto("draw random bytes"))?;
    Ok(bytes)
}

/// A serial number: random, positive, and of sixteen octets.
pub(crate) fn random_serial() -> Result<profile::Serial, AuthorityError> {
    let mut serial: profile::Serial = random()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

#[cfg(test)]
mod tests;
