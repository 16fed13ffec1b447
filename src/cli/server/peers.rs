//! The flags of the peer port: where the other members connect, and how they are known.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use server::PeerFiles;

use super::variable;
use crate::cli::failure::Failure;

/// Other members.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Other members")]
pub(super) struct PeerFlags {
    /// Where other members connect, always by mTLS [default: where they are told to, if that is https]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = variable("listen-peer-urls"))]
    listen_peer_urls: Option<Vec<String>>,
    /// PEM file of the certificate shown to other members [default: one of the cluster's own authority]
    #[arg(long, value_name = "FILE", env = variable("peer-cert-file"), requires = "peer_key_file")]
    peer_cert_file: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", env = variable("peer-key-file"), requires = "peer_cert_file")]
    peer_key_file: Option<PathBuf>,
    /// PEM file of the authorities of other members' certificates
    #[arg(long, value_name = "FILE", env = variable("peer-trusted-ca-file"), requires = "peer_cert_file")]
    peer_trusted_ca_file: Option<PathBuf>,
    /// Members always show certificates: taken for etcd's sake
    #[arg(long, value_name = "BOOL", env = variable("peer-client-cert-auth"), value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    peer_client_cert_auth: Option<bool>,
    /// Host names or addresses, one of which another member's certificate must bear
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', env = variable("peer-cert-allowed-hostname"),
        requires = "peer_trusted_ca_file")]
    peer_cert_allowed_hostname: Option<Vec<String>>,
    /// Common names, one of which the certificate of a member that connects must have
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', env = variable("peer-cert-allowed-cn"),
        requires = "peer_trusted_ca_file", conflicts_with = "peer_cert_allowed_hostname")]
    peer_cert_allowed_cn: Option<Vec<String>>,
    /// File of members' certificates that were revoked, PEM or DER, signed by their authority; asked of who connects
    #[arg(long, value_name = "FILE", env = variable("peer-crl-file"), requires = "peer_trusted_ca_file")]
    peer_crl_file: Option<PathBuf>,
}

impl PeerFlags {
    /// An operator's certificates, if they are given.
    pub(super) fn files(&self) -> Result<Option<PeerFiles>, Failure> {
        let Some((cert, key)) = self.peer_cert_file.clone().zip(self.peer_key_file.clone()) else { return Ok(None) };
        let trusted_ca = self.peer_trusted_ca_file.clone().ok_or_else(|| {
            let failure =
                Failure::bad_args("--peer-cert-file is given, but nothing says whose certificates members have");
            failure.next("name their authority by --peer-trusted-ca-file")
        })?;
        let allowed_hosts = self.peer_cert_allowed_hostname.clone().unwrap_or_default();
        let allowed_names = self.peer_cert_allowed_cn.clone().unwrap_or_default();
        Ok(Some(PeerFiles { cert, key, trusted_ca, allowed_hosts, allowed_names, crl: self.peer_crl_file.clone() }))
    }

    /// Where other members are listened for: what was said, or else what they are told. A plain text URL is of no use to
    /// anybody, and stands in etcd's own defaults.
    pub(super) fn listen(&self, advertised: &[String]) -> Vec<String> {
        let said = self.listen_peer_urls.as_deref().unwrap_or(advertised);
        said.iter().filter(|url| url.starts_with("https://")).cloned().collect()
    }

    /// Whether somebody has asked for a peer port.
    pub(super) fn is_asked_for(&self) -> bool {
        self.listen_peer_urls.iter().flatten().any(|url| url.starts_with("https://"))
    }

    pub(super) fn urls(&self) -> &[String] {
        self.listen_peer_urls.as_deref().unwrap_or_default()
    }
}
