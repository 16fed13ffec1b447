//! Ordinary TLS: certificates for host names, from files.
//!
//! Owns: what faces clients and servers outside the mesh, such as etcd's client port and a gateway's listeners.
//!
//! - Files are read again when they change, at the next handshake; what cannot be used leaves the last good in use.
//! - Clients check host names; servers may demand a certificate of a given authority, which proves no SPIFFE ID.

mod self_signed;
mod trusted;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tracing::{info, warn};

pub use self::self_signed::self_signed;
use self::trusted::Trusted;
use crate::{CredentialsError, Policy, config, peer, pem, svid};

/// How often, at most, the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The PEM files of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The leaf's key.
    pub key: PathBuf,
    /// The authorities of clients. If given, a client must show a certificate of theirs.
    pub client_ca: Option<PathBuf>,
    /// Certificates of clients that were taken back, signed by their authorities.
    pub client_crl: Option<PathBuf>,
    /// Host names or addresses, one of which a client's certificate must bear; empty: any may be borne.
    pub client_hosts: Vec<String>,
    /// Common names, one of which a client's certificate must have; empty: any.
    pub client_names: Vec<String>,
}

impl ServerFiles {
    /// Any client is served that speaks TLS.
    pub fn new(cert: PathBuf, key: PathBuf) -> Self {
        Self { cert, key, client_ca: None, client_crl: None, client_hosts: Vec::new(), client_names: Vec::new() }
    }
}

/// For servers with certificates from files. `alpn`: protocols in order of preference.
///
/// # Errors
/// If a file cannot be used, or `policy` allows nothing.
pub fn server_config(
    files: ServerFiles,
    policy: &Policy,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, CredentialsError> {
    let demands_certificates = files.client_ca.is_some();
    let loaded = Arc::new(Reloading::load(files)?);
    let builder = ServerConfig::builder_with_provider(policy.provider()?)
        .with_protocol_versions(&policy.versions()?)
        .map_err(|error| CredentialsError::Policy(error.to_string()))?;
    let builder = if demands_certificates {
        builder.with_client_cert_verifier(Arc::new(Clients::new(loaded.clone())?))
    } else {
        builder.with_no_client_auth()
    };
    Ok(config::finish_server(builder.with_cert_resolver(Arc::new(Shown(loaded))), alpn))
}

/// Whom a client outside the mesh takes for the server that it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Who proves its host name by a certificate in this PEM file, or of an authority in it.
    File(PathBuf),
    /// The same, by an authority that this machine trusts.
    System,
    /// Whoever answers. What is sent then is safe from nobody who can reach the wire.
    Anybody,
}

/// For clients of servers outside the mesh, whose host name is checked unless `trust` says otherwise. `identity`: PEM
/// files of our chain and key, shown if the server asks. The files are read once.
pub fn client_config(
    trust: &Trust,
    identity: Option<(&Path, &Path)>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, CredentialsError> {
    let builder = ClientConfig::builder_with_provider(config::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites of both");
    let builder = match trust {
        Trust::File(ca) => builder.dangerous().with_custom_certificate_verifier(Arc::new(trusted(ca)?)),
        Trust::System => builder.with_root_certificates(system_roots()?),
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked)),
    };
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified(cert, key)?))),
    };
    Ok(config::finish_client(config, alpn))
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for root in pem::certificate_file(path)? {
        roots.add(root).map_err(|error| CredentialsError::Root(format!("{}: {error}", path.display())))?;
    }
    Ok(Arc::new(roots))
}

fn trusted(path: &Path) -> Result<Trusted, CredentialsError> {
    let authorities = WebPkiServerVerifier::builder_with_provider(roots(path)?, config::provider()).build();
    let authorities = authorities.map_err(|error| CredentialsError::Root(format!("{}: {error}", path.display())))?;
    Ok(Trusted::new(pem::certificate_file(path)?, authorities))
}

/// The machine's own authorities. Those that cannot be read are left out, as long as one can.
fn system_roots() -> Result<Arc<RootCertStore>, CredentialsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "it has none".to_owned(), ToString::to_string);
        return Err(CredentialsError::Root(format!("no authority of this machine can be read: {why}")));
    }
    Ok(Arc::new(roots))
}

fn certified(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, CredentialsError> {
    svid::certified_key(pem::certificate_file(cert)?, pem::private_key_file(key)?)
}

/// Accepts every certificate; only that the server holds its key is checked.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
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

/// What was loaded from the files.
struct Loaded {
    certified: Arc<CertifiedKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Loaded {
    fn load(files: &ServerFiles) -> Result<Self, CredentialsError> {
        let crl = files.client_crl.as_deref();
        let clients = files.client_ca.as_deref().map(|ca| clients_of(ca, crl)).transpose()?;
        Ok(Self { certified: certified(&files.cert, &files.key)?, clients })
    }
}

fn clients_of(ca: &Path, crl: Option<&Path>) -> Result<Arc<dyn ClientCertVerifier>, CredentialsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots(ca)?, config::provider());
    let builder = match crl {
        None => builder,
        // As in etcd the list speaks of clients' own certificates, and of no more authorities than it names.
        Some(crl) => builder
            .with_crls(pem::revocation_file(crl)?)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status(),
    };
    builder
        .build()
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(|error| CredentialsError::Root(format!("{}: {error}", ca.display())))
}

/// What tells one state of a file from another: when it was changed, and its length.
type Stamp = (SystemTime, u64);

/// The files, what they held last, and when they were looked at.
struct Reloading {
    files: ServerFiles,
    current: ArcSwap<Loaded>,
    seen: Mutex<Seen>,
}

struct Seen {
    at: Instant,
    stamps: Vec<Option<Stamp>>,
}

impl Reloading {
    fn load(files: ServerFiles) -> Result<Self, CredentialsError> {
        // Stamped before they are read: a change in between is seen as one.
        let seen = Seen { at: Instant::now(), stamps: stamps(&files) };
        let loaded = Loaded::load(&files)?;
        Ok(Self { files, current: ArcSwap::from_pointee(loaded), seen: Mutex::new(seen) })
    }

    fn current(&self) -> Arc<Loaded> {
        if self.has_changed() {
            match Loaded::load(&self.files) {
                Ok(loaded) => {
                    info!(cert = %self.files.cert.display(), "certificate files changed, reloaded");
                    self.current.store(Arc::new(loaded));
                }
                Err(error) => warn!(%error, "certificate files changed but are unusable, keeping the last good"),
            }
        }
        self.current.load_full()
    }

    /// True once for each change, for whoever sees it first.
    fn has_changed(&self) -> bool {
        let Some(mut seen) = self.seen.try_lock() else { return false };
        if seen.at.elapsed() < CHECK_INTERVAL {
            return false;
        }
        seen.at = Instant::now();
        let stamps = stamps(&self.files);
        std::mem::replace(&mut seen.stamps, stamps) != seen.stamps
    }
}

fn stamps(files: &ServerFiles) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| -> io::Result<Stamp> {
        let metadata = fs::metadata(path)?;
        Ok((metadata.modified()?, metadata.len()))
    };
    [Some(&files.cert), Some(&files.key), files.client_ca.as_ref(), files.client_crl.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| stamp(path).ok())
        .collect()
}

impl fmt::Debug for Reloading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shown(Arc<Reloading>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current().certified.clone())
    }
}

#[derive(Debug)]
struct Clients {
    loaded: Arc<Reloading>,
    hosts: Vec<ServerName<'static>>,
}

impl Clients {
    fn new(loaded: Arc<Reloading>) -> Result<Self, CredentialsError> {
        let host = |name: &String| {
            let host = ServerName::try_from(name.clone());
            host.map_err(|_| CredentialsError::Policy(format!("{name:?} is neither a host name nor an address")))
        };
        let hosts = loaded.files.client_hosts.iter().map(host).collect::<Result<_, _>>()?;
        Ok(Self { loaded, hosts })
    }

    fn check_host(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        let mut outcomes = self.hosts.iter().map(|host| verify_server_name(&leaf, host));
        if self.hosts.is_empty() || outcomes.any(|outcome| outcome.is_ok()) {
            return Ok(());
        }
        Err(CertificateError::NotValidForName.into())
    }

    fn check_name(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let names = &self.loaded.files.client_names;
        let has_one = || peer::common_name(std::slice::from_ref(leaf)).is_some_and(|name| names.contains(&name));
        if names.is_empty() || has_one() { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }

    fn current(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let clients = self.loaded.current.load().clients.clone();
        clients.ok_or_else(|| Error::General("no client authority is loaded".to_owned()))
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.current()?.verify_client_cert(leaf, intermediates, now)?;
        self.check_host(leaf)?;
        self.check_name(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.current()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        config::provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
