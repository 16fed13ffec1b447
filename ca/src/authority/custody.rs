//! The authority's keys at rest.
//!
//! Owns: a folder with the root key and the issuing key, each sealed with AES-256-GCM, and their certificates; and the
//! file of the key-encryption key, which belongs on another disk or into the machine's secret store.
//!
//! - The folder appears complete or not at all: it is made beside its place, synced, and renamed.
//! - Files are created anew, never opened to be overwritten; files 0600, the folder 0700; other modes are refused.
//! - The root signs the issuing certificate when the keys are made, and nothing else; its key may be taken away.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use bytes::Bytes;
use types::TrustDomain;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use super::{AuthorityError, generate, public_half, random, random_serial, sign_checked};
use crate::{
    ledger::Genesis,
    profile::{self, AuthorityCertificate, KeyId, Tier},
    time::Time,
};

const DAY: Duration = Duration::from_hours(24);
/// The root outlives every issuing certificate by far; the issuing one lives as long as there is no rotation to replace
/// it within.
pub(super) const ROOT_LIFE: Duration = DAY.saturating_mul(3650);
const ISSUING_LIFE: Duration = DAY.saturating_mul(365);
/// How much earlier than they are made the certificates are valid.
const BACKDATE: Duration = Duration::from_mins(1);

const ROOT_KEY: &str = "root.key.sealed";
const ISSUING_KEY: &str = "issuing.key.sealed";
const ROOT_CERTIFICATE: &str = "root.der";
const ISSUING_CERTIFICATE: &str = "issuing.der";

/// Starts every sealed file; the digit is the version.
const MAGIC: &[u8] = b"meshstore-sealed-1\n";
const NONCE_BYTES: usize = 12;
const KEK_BYTES: usize = 32;
/// Longest file that is read, bytes.
const FILE_BYTES_MAX: usize = 16 << 10;

/// What another member needs to sign as this one does: the issuing key, and the certificates above. The root's key stays
/// where it is. For an authenticated and encrypted channel only; the key is cleared when this is dropped, and never
/// printed.
#[derive(Clone)]
pub struct Handover {
    /// The root's certificate, DER.
    pub root: Bytes,
    /// The issuing certificate, DER.
    pub issuing: Bytes,
    /// The issuing key, PKCS#8.
    pub issuing_key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handover([redacted])")
    }
}

/// Where the authority's keys are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custody {
    dir: PathBuf,
    kek: PathBuf,
}

type Kek = Zeroizing<[u8; KEK_BYTES]>;

impl Custody {
    /// `dir`: the folder of the sealed keys. `kek`: the file of the key-encryption key, 32 random bytes.
    pub fn new(dir: PathBuf, kek: PathBuf) -> Self {
        Self { dir, kek }
    }

    /// Whether there are keys.
    pub fn exists(&self) -> bool {
        self.dir.symlink_metadata().is_ok()
    }

    /// Makes the root and the issuing authority of a trust domain, and gives what the ledger must be told of them.
    /// If they are there already, as after an interrupted bootstrap, gives the same again.
    ///
    /// # Errors
    /// [`AuthorityError::TrustDomain`] if those that are there are another trust domain's; else the disk's.
    pub fn found(&self, trust_domain: &TrustDomain, now: Time) -> Result<Genesis, AuthorityError> {
        self.found_for(trust_domain, now, ISSUING_LIFE)
    }

    /// The same with an issuing certificate of this life.
    pub(super) fn found_for(
        &self,
        trust_domain: &TrustDomain,
        now: Time,
        issuing_life: Duration,
    ) -> Result<Genesis, AuthorityError> {
        if !self.exists() {
            self.make(trust_domain, now, issuing_life)?;
        }
        let genesis = self.genesis()?;
        if genesis.trust_domain == *trust_domain {
            return Ok(genesis);
        }
        let (found, asked) = (genesis.trust_domain, trust_domain.clone());
        Err(AuthorityError::TrustDomain { path: self.dir.clone(), found, asked })
    }

    /// Unseals the issuing key.
    pub(super) fn issuing_key(&self) -> Result<EcdsaKeyPair, AuthorityError> {
        let pkcs8 = self.issuing_pkcs8()?;
        let malformed = |_| AuthorityError::Content { path: self.dir.join(ISSUING_KEY), expected: "a P-256 key" };
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).map_err(malformed)
    }

    fn issuing_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
        check_dir(&self.dir)?;
        unseal(&self.read_kek()?, ISSUING_KEY, &self.dir.join(ISSUING_KEY))
    }

    /// Unseals what another member is to be given.
    pub fn hand_over(&self) -> Result<Handover, AuthorityError> {
        let Genesis { root, issuing, .. } = self.genesis()?;
        Ok(Handover { root, issuing, issuing_key: self.issuing_pkcs8()? })
    }

    /// Seals here what another member has handed over. What an interrupted try left is replaced; keys that are in use
    /// are not.
    ///
    /// # Errors
    /// [`AuthorityError::Content`] if key and certificates do not belong together; else the disk's.
    pub fn take_over(&self, given: &Handover) -> Result<(), AuthorityError> {
        let malformed = || AuthorityError::Content { path: self.dir.clone(), expected: "an authority's keys" };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &given.issuing_key);
        let (_, key) = public_half(&key.map_err(|_| malformed())?)?;
        if IssuerFacts::of(&given.issuing).is_none_or(|facts| facts.key != key) {
            return Err(malformed());
        }
        let kek = self.make_kek()?;
        self.appear(|building| {
            write_new(&building.join(ROOT_CERTIFICATE), &given.root)?;
            write_new(&building.join(ISSUING_CERTIFICATE), &given.issuing)?;
            write_new(&building.join(ISSUING_KEY), &seal(&kek, ISSUING_KEY, &given.issuing_key)?)
        })
    }

    /// What the certificates say. They are public; what matters of them is in the ledger.
    pub(super) fn genesis(&self) -> Result<Genesis, AuthorityError> {
        check_dir(&self.dir)?;
        let read = |name| read_private(&self.dir.join(name)).map(|bytes| Bytes::copy_from_slice(&bytes));
        let (root, issuing) = (read(ROOT_CERTIFICATE)?, read(ISSUING_CERTIFICATE)?);
        let malformed = |name| AuthorityError::Content { path: self.dir.join(name), expected: "our certificate" };
        let issuer = IssuerFacts::of(&issuing).ok_or_else(|| malformed(ISSUING_CERTIFICATE))?;
        let bundle = tls::TrustBundle::from_pem(tls::certificate_pem(&root).as_bytes());
        let trust_domain = bundle.map_err(|_| malformed(ROOT_CERTIFICATE))?.trust_domain().clone();
        Ok(Genesis {
            time: issuer.not_before.plus(BACKDATE),
            trust_domain,
            root,
            issuing,
            issuer_key: issuer.key,
            issuer_not_after: issuer.not_after,
        })
    }

    fn make(&self, trust_domain: &TrustDomain, now: Time, issuing_life: Duration) -> Result<(), AuthorityError> {
        let kek = self.make_kek()?;
        let (root_key, root_pkcs8) = generate()?;
        let (issuing_key, issuing_pkcs8) = generate()?;
        let certificate = |tier, life| authority_certificate((tier, life), trust_domain, now, &root_key, &issuing_key);
        self.appear(|building| {
            write_new(&building.join(ROOT_CERTIFICATE), &certificate(Tier::Root, ROOT_LIFE)?)?;
            write_new(&building.join(ISSUING_CERTIFICATE), &certificate(Tier::Issuing, issuing_life)?)?;
            write_new(&building.join(ROOT_KEY), &seal(&kek, ROOT_KEY, root_pkcs8.as_ref())?)?;
            write_new(&building.join(ISSUING_KEY), &seal(&kek, ISSUING_KEY, issuing_pkcs8.as_ref())?)
        })
    }

    /// Makes the folder whole or not at all.
    fn appear(&self, fill: impl FnOnce(&Path) -> Result<(), AuthorityError>) -> Result<(), AuthorityError> {
        let building = self.dir.with_extension("new");
        remove_leftover(&building)?;
        make_dir(&building)?;
        fill(&building)?;
        sync_dir(&building)?;
        fs::rename(&building, &self.dir).map_err(io_error(&self.dir))?;
        sync_parent(&self.dir)
    }

    /// Makes the key-encryption key, unless the operator has put one in its place.
    fn make_kek(&self) -> Result<Kek, AuthorityError> {
        if self.kek.symlink_metadata().is_err() {
            let kek: Kek = Zeroizing::new(random()?);
            write_new(&self.kek, &kek[..])?;
            sync_parent(&self.kek)?;
        }
        self.read_kek()
    }

    fn read_kek(&self) -> Result<Kek, AuthorityError> {
        let bytes = read_private(&self.kek)?;
        match <[u8; KEK_BYTES]>::try_from(&bytes[..]) {
            Ok(kek) => Ok(Zeroizing::new(kek)),
            Err(_) => Err(AuthorityError::Content { path: self.kek.clone(), expected: "a key of 32 bytes" }),
        }
    }
}

/// What the ledger needs of the issuing certificate.
struct IssuerFacts {
    key: KeyId,
    not_before: Time,
    not_after: Time,
}

impl IssuerFacts {
    fn of(der: &[u8]) -> Option<Self> {
        let ([], certificate) = X509Certificate::from_der(der).ok()? else { return None };
        let time = |timestamp| u64::try_from(timestamp).ok().and_then(Time::new);
        Some(Self {
            key: profile::key_id(certificate.public_key().raw)?,
            not_before: time(certificate.validity.not_before.timestamp())?,
            not_after: time(certificate.validity.not_after.timestamp())?,
        })
    }
}

fn authority_certificate(
    (tier, life): (Tier, Duration),
    trust_domain: &TrustDomain,
    now: Time,
    root: &EcdsaKeyPair,
    issuing: &EcdsaKeyPair,
) -> Result<Vec<u8>, AuthorityError> {
    let subject = match tier {
        Tier::Root => root,
        Tier::Issuing => issuing,
    };
    let (spki, subject_key) = public_half(subject)?;
    let (_, root_key) = public_half(root)?;
    let tbs = profile::authority_tbs(&AuthorityCertificate {
        tier,
        serial: &random_serial()?,
        trust_domain,
        not_before: now.minus(BACKDATE),
        not_after: now.plus(life),
        spki: &spki,
        subject_key: &subject_key,
        root_key: &root_key,
    });
    let signature = sign_checked(root, &tbs).ok_or(AuthorityError::Crypto("sign an authority's certificate"))?;
    Ok(profile::certificate(&tbs, &signature))
}

/// `name` is bound into the seal, so that one sealed file does not pass for another.
fn seal(kek: &Kek, name: &str, plain: &[u8]) -> Result<Vec<u8>, AuthorityError> {
    let nonce: [u8; NONCE_BYTES] = random()?;
    let mut sealed = Zeroizing::new(plain.to_vec());
    cipher(kek)
        .and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_append_tag(nonce, Aad::from(name), &mut *sealed).ok()
        })
        .ok_or(AuthorityError::Crypto("seal a key"))?;
    Ok([MAGIC, &nonce, &sealed].concat())
}

fn unseal(kek: &Kek, name: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    let file = read_private(path)?;
    let open = || {
        let (nonce, sealed) = file.strip_prefix(MAGIC)?.split_first_chunk::<NONCE_BYTES>()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = cipher(kek)?.open_in_place(nonce, Aad::from(name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    };
    open().ok_or_else(|| AuthorityError::Sealed(path.to_owned()))
}

fn cipher(kek: &Kek) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &kek[..]).ok().map(LessSafeKey::new)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    let path = path.to_owned();
    move |source| AuthorityError::Io { path, source }
}

fn make_dir(path: &Path) -> Result<(), AuthorityError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io_error(path))
}

/// Clears what an interrupted bootstrap left: keys that no ledger has ever heard of.
fn remove_leftover(path: &Path) -> Result<(), AuthorityError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_error(path))
}

fn sync_dir(path: &Path) -> Result<(), AuthorityError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error(path))
}

fn sync_parent(path: &Path) -> Result<(), AuthorityError> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent),
        None => sync_dir(Path::new(".")),
    }
}

fn check_dir(path: &Path) -> Result<(), AuthorityError> {
    let metadata = path.symlink_metadata().map_err(io_error(path))?;
    check_mode(path, &metadata, metadata.is_dir(), "a folder of mode 700")
}

/// Reads a small file that only its owner may touch. The checks are on what was opened, and a link is not followed.
fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
    const EXPECTED: &str = "a plain file of mode 600";
    let named = path.symlink_metadata().map_err(io_error(path))?;
    check_mode(path, &named, named.is_file(), EXPECTED)?;
    let file = File::open(path).map_err(io_error(path))?;
    let opened = file.metadata().map_err(io_error(path))?;
    let same = (opened.dev(), opened.ino()) == (named.dev(), named.ino());
    check_mode(path, &opened, same && opened.is_file(), EXPECTED)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
    file.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(io_error(path))?;
    Ok(bytes)
}

fn check_mode(
    path: &Path,
    metadata: &fs::Metadata,
    right_kind: bool,
    expected: &'static str,
) -> Result<(), AuthorityError> {
    let mode = metadata.mode() & 0o777;
    if !right_kind || mode & 0o077 != 0 {
        return Err(AuthorityError::Mode { path: path.to_owned(), expected, mode });
    }
    Ok(())
}
