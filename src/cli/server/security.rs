//! The flags of the client port's TLS.

use std::{path::PathBuf, time::Duration};

use clap::builder::BoolishValueParser;
use tls::{Policy, Version, web::ServerFiles};

use super::variable;
use crate::{cli::failure::Failure, member::ClientCertificate};

const YEAR: Duration = Duration::from_hours(365 * 24);

/// TLS of the client port. Files are read again when they change.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS of the client port")]
pub(super) struct SecurityFlags {
    /// PEM file of the client port's certificate
    #[arg(long, value_name = "FILE", env = variable("cert-file"), requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", env = variable("key-file"), requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Without a certificate, make one for which nobody vouches: clients take it unseen, or are given its file
    #[arg(long, value_name = "BOOL", env = variable("auto-tls"), value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    auto_tls: Option<bool>,
    /// Years for which that one is good [default: 1]
    #[arg(long, value_name = "YEARS", env = variable("self-signed-cert-validity"),
        value_parser = clap::value_parser!(u32).range(1..=100))]
    self_signed_cert_validity: Option<u32>,
    /// PEM file of the authorities of clients; clients must then show a certificate
    #[arg(long, value_name = "FILE", env = variable("trusted-ca-file"), requires = "cert_file")]
    trusted_ca_file: Option<PathBuf>,
    /// Demand client certificates, whose common names are users; only the latter is not said by --trusted-ca-file already
    #[arg(long, value_name = "BOOL", env = variable("client-cert-auth"), value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    client_cert_auth: Option<bool>,
    /// File of client certificates that were revoked, PEM or DER, signed by their authority
    #[arg(long, value_name = "FILE", env = variable("client-crl-file"), requires = "trusted_ca_file")]
    client_crl_file: Option<PathBuf>,
    /// Host names or addresses, one of which a client's certificate must bear
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', env = variable("client-cert-allowed-hostname"),
        requires = "trusted_ca_file")]
    client_cert_allowed_hostname: Option<Vec<String>>,
    /// Cipher suites of TLS 1.2 that are spoken, by IANA's names [default: all with forward secrecy]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', env = variable("cipher-suites"))]
    cipher_suites: Option<Vec<String>>,
    /// Oldest version spoken [default: TLS1.2]
    #[arg(long, value_name = "VERSION", env = variable("tls-min-version"), value_parser = version)]
    tls_min_version: Option<Version>,
    /// Newest version spoken [default: TLS1.3]
    #[arg(long, value_name = "VERSION", env = variable("tls-max-version"), value_parser = version)]
    tls_max_version: Option<Version>,
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "TLS1.2" => Ok(Version::Tls12),
        "TLS1.3" => Ok(Version::Tls13),
        other => Err(format!("{other:?} is neither TLS1.2 nor TLS1.3")),
    }
}

impl SecurityFlags {
    /// Whether the common names of clients' certificates are users.
    pub(super) fn demands_certificates(&self) -> bool {
        self.client_cert_auth.unwrap_or(false)
    }

    /// The certificate and what is spoken, if there is one.
    pub(super) fn resolve(self) -> Result<Option<(ClientCertificate, Policy)>, Failure> {
        if self.client_cert_auth == Some(true) && self.trusted_ca_file.is_none() {
            let failure =
                Failure::bad_args("--client-cert-auth demands certificates of an authority that is not named");
            return Err(failure.next("name it by --trusted-ca-file"));
        }
        let default = Policy::default();
        let policy = Policy {
            min: self.tls_min_version.unwrap_or(default.min),
            max: self.tls_max_version.unwrap_or(default.max),
            suites: self.cipher_suites.unwrap_or_default(),
        };
        if policy.min > policy.max {
            return Err(Failure::bad_args("--tls-min-version is newer than --tls-max-version"));
        }
        policy.check().map_err(|error| Failure::bad_args(format!("--cipher-suites: {error}")))?;
        let files = self.cert_file.zip(self.key_file).map(|(cert, key)| ServerFiles {
            client_ca: self.trusted_ca_file,
            client_crl: self.client_crl_file,
            client_hosts: self.client_cert_allowed_hostname.unwrap_or_default(),
            ..ServerFiles::new(cert, key)
        });
        let validity = YEAR * self.self_signed_cert_validity.unwrap_or(1);
        let made = || ClientCertificate::SelfSigned { validity };
        let certificate = files.map(ClientCertificate::Files).or_else(|| (self.auto_tls == Some(true)).then(made));
        Ok(certificate.map(|certificate| (certificate, policy)))
    }
}
