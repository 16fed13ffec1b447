//! Who the proxy is, proven.
//!
//! Owns: the proxy's key and certificate, in memory and on disk, and their renewal.
//! In:   a join token once, then the certificate itself.
//! Out:  [`Credentials`] that every TLS configuration of the proxy reads at each handshake.
//!
//! - The private key is made here and never leaves: not to the server, not into logs.
//! - Renewal starts at half life; the old certificate serves until the new one is on disk.
//! - With a valid certificate on disk neither token nor server is needed to start.

mod request;

use std::{
    io,
    time::{Duration, SystemTime},
};

use tls::{Credentials, CredentialsError, Svid, TrustBundle};
use tokio_util::sync::CancellationToken;
use types::SpiffeId;

use self::request::{Issued, request};
use crate::{
    settings::{Config, JoinToken},
    state_dir::StateDir,
    telemetry::Gauges,
};

/// Key and chain, PEM, in one file so that they change together.
const IDENTITY_FILE: &str = "identity.pem";
const ROOTS_FILE: &str = "roots.pem";
/// First and longest wait between attempts.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));
/// Renewal is spread by this share of the half life, either way.
const JITTER: f64 = 0.1;

/// Why the proxy has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The trust bundle, or what the state directory holds, is unusable.
    #[error("credentials: {0}")]
    Credentials(#[from] CredentialsError),
    /// The state directory can not be read or written.
    #[error("state directory: {0}")]
    State(#[from] io::Error),
    /// No valid certificate is on disk, and no token was given: give one.
    #[error("no valid certificate in the state directory and no join token")]
    NoToken,
    /// The key or the request for a certificate could not be made.
    #[error("certificate request: {0}")]
    Request(#[from] rcgen::Error),
    /// The server can not be reached, or is not who it should be. Another attempt may succeed.
    #[error("authority unreachable: {0:?}")]
    Connect(#[from] tonic::transport::Error),
    /// The authority refused. With a token that was used or has expired, a new one is needed.
    #[error("authority refused: {0}")]
    Refused(#[source] Box<tonic::Status>),
    /// The token has characters that a header can not carry.
    #[error("the join token is malformed")]
    Token,
    /// The authority answered with a certificate for someone else.
    #[error("the authority issued a certificate for {issued}, not for {expected}")]
    OtherIdentity {
        /// What it says.
        issued: Box<SpiffeId>,
        /// What it should say.
        expected: Box<SpiffeId>,
    },
    /// The authority's answer holds no chain.
    #[error("the authority's answer holds no certificate chain")]
    Empty,
}

impl From<tonic::Status> for IdentityError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// The proxy's identity and its renewal.
pub(crate) struct Identity {
    credentials: Credentials,
    dir: StateDir,
    config: Config,
}

impl Identity {
    /// Takes the roots, and the certificate of an earlier run if it still serves.
    pub(crate) fn load(config: &Config, dir: StateDir) -> Result<Self, IdentityError> {
        let configured = TrustBundle::from_pem(&config.trust_bundle)?;
        let bundle = match dir.read(ROOTS_FILE)? {
            Some(saved) => joined(&config.trust_bundle, &saved)?,
            None => configured,
        };
        let expected = config.spiffe_id(bundle.trust_domain());
        let svid = match dir.read(IDENTITY_FILE)? {
            Some(saved) => usable(&saved, &expected),
            None => None,
        };
        Ok(Self { credentials: Credentials::new(bundle, svid)?, dir, config: config.clone() })
    }

    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }

    /// Obtains the first certificate unless one is there, trying until told to stop.
    pub(crate) async fn ensure(&self, gauges: &Gauges, stop: &CancellationToken) -> Result<(), IdentityError> {
        if self.credentials.svid().is_some() {
            return Ok(());
        }
        let token = self.config.token.as_ref().ok_or(IdentityError::NoToken)?;
        self.obtain(Some(token), gauges, stop).await;
        Ok(())
    }

    /// Renews at half life, again and again, until told to stop.
    pub(crate) async fn renew(self, gauges: &Gauges, stop: CancellationToken) {
        while let Some(svid) = self.credentials.svid() {
            let half_life = svid.validity().half_life();
            let wait = half_life.duration_since(SystemTime::now()).unwrap_or_default();
            let factor = 1.0 + JITTER * (rand::random::<f64>() * 2.0 - 1.0);
            if stop.run_until_cancelled(tokio::time::sleep(wait.mul_f64(factor))).await.is_none() {
                return;
            }
            // An expired certificate proves nothing any more; a token that was given and not yet used still does.
            let expired = svid.validity().not_after <= SystemTime::now();
            let token = self.config.token.as_ref().filter(|_| expired);
            self.obtain(token, gauges, &stop).await;
            if stop.is_cancelled() {
                return;
            }
        }
    }

    async fn obtain(&self, token: Option<&JoinToken>, gauges: &Gauges, stop: &CancellationToken) {
        let mut wait = BACK_OFF.0;
        loop {
            let Some(result) = stop.run_until_cancelled(self.attempt(token)).await else { return };
            match result {
                Ok(()) => return gauges.certificates_issued.add(),
                Err(error) => {
                    gauges.certificate_failures.add();
                    tracing::warn!(%error, "no certificate yet");
                }
            }
            let jittered = wait.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            if stop.run_until_cancelled(tokio::time::sleep(jittered)).await.is_none() {
                return;
            }
            wait = (wait * 2).min(BACK_OFF.1);
        }
    }

    async fn attempt(&self, token: Option<&JoinToken>) -> Result<(), IdentityError> {
        let issued = request(&self.config, &self.credentials, token).await?;
        let expected = self.config.spiffe_id(&self.credentials.trust_domain());
        if *issued.svid.id() != expected {
            return Err(IdentityError::OtherIdentity {
                issued: Box::new(issued.svid.id().clone()),
                expected: Box::new(expected),
            });
        }
        let bundle = joined(&self.config.trust_bundle, issued.root.as_bytes())?;
        let validity = issued.svid.validity();
        self.credentials.replace(bundle, Some(issued.svid.clone()))?;
        self.save(issued).await?;
        tracing::info!(spiffe_id = %expected, not_after = ?validity.not_after, "certificate obtained");
        Ok(())
    }

    async fn save(&self, issued: Issued) -> io::Result<()> {
        let dir = self.dir.clone();
        let saved = tokio::task::spawn_blocking(move || {
            dir.write(ROOTS_FILE, issued.root.as_bytes())?;
            dir.write(IDENTITY_FILE, issued.pem.as_bytes())
        });
        saved.await.map_err(io::Error::other)?
    }
}

/// The configured roots and those that the authority names.
fn joined(configured: &[u8], named: &[u8]) -> Result<TrustBundle, CredentialsError> {
    let bundle = TrustBundle::from_pem(configured)?;
    let mut roots = bundle.roots().to_vec();
    for root in TrustBundle::from_pem(named)?.roots() {
        if !roots.contains(root) {
            roots.push(root.clone());
        }
    }
    TrustBundle::new(bundle.trust_domain().clone(), roots)
}

/// The saved certificate, when it is ours and still valid.
fn usable(saved: &[u8], expected: &SpiffeId) -> Option<Svid> {
    match Svid::from_pem(saved, saved) {
        Ok(svid) if svid.id() == expected && svid.validity().not_after > SystemTime::now() => Some(svid),
        Ok(svid) => {
            tracing::warn!(spiffe_id = %svid.id(), "saved certificate has expired or is someone else's");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "saved certificate is unreadable");
            None
        }
    }
}
