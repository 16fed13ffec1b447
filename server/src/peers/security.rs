//! What this member shows to the others, and whom it takes for one of them.
//!
//! Owns: the member's certificate among members, and its renewal.
//!
//! - With the cluster's own authority a peer is exactly one member of exactly this cluster: its certificate says which.
//! - With an operator's certificates a member is whoever holds one of the peers' authority; a server must be named by the
//!   address that it is reached by. Files are read again: by who listens when they change, by who connects each time.

use std::{path::PathBuf, sync::Arc, time::Duration};

use ca::{Custody, MemberAuthority, Time};
use raft::{ClusterId, MemberId};
use rustls::{ClientConfig, ServerConfig};
use tls::{
    ClientAuth, Credentials, CredentialsError, Expect, Policy,
    web::{self, ServerFiles, Trust},
};
use tokio::time::sleep;
use tracing::{error, info};

use super::name;
use crate::ServerError;

/// How long a member's certificate lives; it is replaced at half of that.
const TTL: Duration = Duration::from_hours(24);
/// Between two tries to replace it, when one failed.
const RETRY: Duration = Duration::from_secs(30);

/// An operator's certificates for members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFiles {
    /// PEM file of the chain, leaf first, for server and client.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authorities of members.
    pub trusted_ca: PathBuf,
    /// Names or addresses, one of which a member's certificate must bear; empty: any.
    pub allowed_hosts: Vec<String>,
    /// Common names, one of which the certificate of a member that connects must have; empty: any.
    pub allowed_names: Vec<String>,
    /// File of members' certificates that were taken back, signed by their authorities.
    pub crl: Option<PathBuf>,
}

/// How members prove who they are.
#[derive(Clone, Debug)]
pub(crate) enum PeerSecurity {
    /// By the cluster's own authority.
    Own { cluster: ClusterId, credentials: Credentials, authority: Arc<MemberAuthority>, member: MemberId },
    /// By an operator's.
    Files(PeerFiles),
}

impl PeerSecurity {
    /// With an operator's certificates if there are any, else by the cluster's authority if this member has it.
    pub(crate) fn open(
        files: Option<&PeerFiles>,
        custody: &Custody,
        (cluster, member): (ClusterId, MemberId),
    ) -> Result<Option<Self>, ServerError> {
        if let Some(files) = files {
            let security = Self::Files(files.clone());
            security.server_config()?;
            security.client_config(None)?;
            return Ok(Some(security));
        }
        let Some(authority) = MemberAuthority::open(custody)? else { return Ok(None) };
        let (of, ours) = (authority.cluster(), name::members_of(cluster));
        if *of != ours {
            return Err(ServerError::ForeignAuthority { found: of.clone(), ours });
        }
        let (bundle, svid) = authority.issue(&name::identity(cluster, member), TTL, Time::now())?;
        let credentials = Credentials::new(bundle, Some(svid))?;
        Ok(Some(Self::Own { cluster, credentials, authority: Arc::new(authority), member }))
    }

    /// For the listener: nobody without a member's certificate gets further than the handshake.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, CredentialsError> {
        match self {
            Self::Own { credentials, .. } => Ok(tls::server_config(credentials, ClientAuth::Required, tls::H2)),
            Self::Files(files) => {
                let files = ServerFiles {
                    client_ca: Some(files.trusted_ca.clone()),
                    client_crl: files.crl.clone(),
                    client_hosts: files.allowed_hosts.clone(),
                    client_names: files.allowed_names.clone(),
                    ..ServerFiles::new(files.cert.clone(), files.key.clone())
                };
                web::server_config(files, &Policy::default(), tls::H2)
            }
        }
    }

    /// For a connection to one member, or to any while it is not known who is where.
    pub(crate) fn client_config(&self, to: Option<MemberId>) -> Result<Arc<ClientConfig>, CredentialsError> {
        match self {
            Self::Own { cluster, credentials, .. } => {
                let one = |member| Expect::OneOf(vec![name::identity(*cluster, member)]);
                Ok(tls::client_config(credentials, to.map_or(Expect::AnyInTrustDomain, one), tls::H2))
            }
            Self::Files(files) => {
                let identity = Some((files.cert.as_path(), files.key.as_path()));
                web::client_config(&Trust::File(files.trusted_ca.clone()), identity, tls::H2)
            }
        }
    }

    /// Replaces the member's own certificate at half of its life, until dropped. Nobody is asked for it.
    pub(crate) async fn keep_fresh(self) {
        let Self::Own { cluster, credentials, authority, member } = self else { return };
        let id = name::identity(cluster, member);
        let mut wait = TTL / 2;
        loop {
            sleep(wait).await;
            let issued = authority.issue(&id, TTL, Time::now()).map_err(|error| error.to_string());
            let replaced = issued
                .and_then(|(bundle, svid)| credentials.replace(bundle, Some(svid)).map_err(|error| error.to_string()));
            wait = match replaced {
                Ok(()) => {
                    info!(%member, "replaced the member's certificate");
                    TTL / 2
                }
                Err(error) => {
                    error!(%member, error, "cannot replace the member's certificate, will try again");
                    RETRY
                }
            };
        }
    }
}
