//! `server`: one member of the store, with etcd's flags, environment and configuration file.
//!
//! - A flag wins over its variable, and both over the default; with a configuration file only the file counts.
//! - What etcd has and this version has not is refused by name, never taken and ignored.

mod absent;
mod file;
mod founding;
mod gates;
mod history;
mod member;
mod peers;
mod ports;
mod security;
mod users;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use absent::AbsentFlags;
use founding::FoundingFlags;
use gates::GateFlags;
pub(crate) use member::MemberFlags;
use peers::PeerFlags;
use ports::PortFlags;
use security::SecurityFlags;
use server::{ServerError, TokenConfig};
use tls::CredentialsError;
use tracing::warn;
use users::AuthFlags;

use super::{
    empty,
    failure::{Exit, Failure, chain},
    logging::Logging,
    named::NamedFiles,
    signals,
};
use crate::{
    member::{self as running, ClientCertificate, Purpose, Settings},
    memory,
};

/// Runs one member: the store, and with a trust domain the mesh's authority and control plane.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples: a single member on loopback; one that other machines reach; one of three, etcd's way; one told by etcd's file
  meshstore server
  meshstore server --data-dir /var/lib/meshstore --listen-client-urls https://10.0.0.1:2379 \\
      --cert-file server.crt --key-file server.key --trusted-ca-file clients.crt --listen-mesh-addr 10.0.0.1:15012
  meshstore server --name a --initial-cluster a=https://10.0.0.1:2380,b=https://10.0.0.2:2380,c=https://10.0.0.3:2380 \\
      --initial-advertise-peer-urls https://10.0.0.1:2380 \\
      --peer-cert-file peer.crt --peer-key-file peer.key --peer-trusted-ca-file peers.crt
  meshstore server --config-file etcd.conf.yml

Each flag can also be given as ETCD_ and its name: ETCD_DATA_DIR."
)]
pub(crate) struct Args {
    /// etcd's configuration file, YAML or JSON; flags and variables do not count then
    #[arg(long, value_name = "FILE", env = "ETCD_CONFIG_FILE")]
    config_file: Option<PathBuf>,
    #[command(flatten)]
    member: MemberFlags,
    #[command(flatten)]
    auth: AuthFlags,
    #[command(flatten)]
    founding: FoundingFlags,
    #[command(flatten)]
    peers: PeerFlags,
    #[command(flatten)]
    ports: PortFlags,
    #[command(flatten)]
    security: SecurityFlags,
    #[command(flatten)]
    gates: GateFlags,
    #[command(flatten)]
    absent: AbsentFlags,
    #[command(flatten)]
    logging: Logging,
}

/// The environment variable of a flag.
fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.replace('-', "_").to_uppercase())
}

/// The name in etcd 3.5 of a flag that newer ones have without the word.
fn experimental(flag: &str) -> String {
    format!("experimental-{flag}")
}

/// The environment variable of such a flag: of its old name, if that alone is set.
fn renamed_variable(flag: &str) -> String {
    set_variable(flag, |name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn set_variable(flag: &str, is_set: impl Fn(&str) -> bool) -> String {
    let (new, old) = (variable(flag), variable(&experimental(flag)));
    if is_set(&old) && !is_set(&new) { old } else { new }
}

/// Variables of etcd's that no flag has; etcd tells them too.
fn unknown_variables(set: impl Iterator<Item = String>) -> Vec<String> {
    let command = <Args as clap::Args>::augment_args(clap::Command::new("server"));
    let flags = command.get_arguments();
    let names = flags.flat_map(|flag| flag.get_long().into_iter().chain(flag.get_all_aliases().into_iter().flatten()));
    let known: BTreeSet<_> = names.map(variable).collect();
    set.filter(|name| name.starts_with("ETCD_") && !known.contains(name)).collect()
}

/// A command line of `server` without the flags that are given empty.
pub(crate) fn without_empty_flags(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let command = <Args as clap::Args>::augment_args(clap::Command::new("server"));
    empty::without_empty_flags(&command, words)
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (args, unknown) = match &self.config_file {
            Some(path) => (file::read(path)?, Vec::new()),
            None => (self, unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))),
        };
        args.logging.start()?;
        memory::take_small_pages();
        args.gates.tell();
        for variable in &unknown {
            warn!(variable, "no flag has this variable: it is ignored");
        }
        let settings = args.resolve()?;
        let files = named_files(&settings);
        let failed = |error: anyhow::Error| {
            let text = files.blame(file_of(&error), chain(error.as_ref()));
            Failure::new(Exit::Error, text)
        };
        signals::until_stopped(|stop| async { running::run(settings, stop).await.map_err(failed) }).await
    }

    /// Lays the flags over the defaults.
    fn resolve(self) -> Result<Settings, Failure> {
        let Self { member: flags, founding, peers, ports, security, auth, absent: AbsentFlags, .. } = self;
        flags.check()?;
        let client_cert_auth = security.demands_certificates();
        let client_tls = security.resolve()?;
        let listeners = ports.listeners(client_tls.is_some())?;
        let mut member = flags.resolve();
        let mode = flags.auto_compaction_mode.unwrap_or_default();
        member.store.auto_compaction = history::kept(mode, flags.auto_compaction_retention.as_deref())?;
        member.auth = auth.resolve(client_cert_auth);
        member.peer_files = peers.files()?;
        peers.urls().iter().try_for_each(|url| ports::check_peer_url(url))?;
        let listen = peers.listen(&member.advertise_peer_urls);
        let listen_peers = listen.iter().map(|url| ports::peer_address(url)).collect::<Result<_, _>>()?;
        let mut member = founding.resolve(member)?;
        let clients: Vec<_> =
            listeners.iter().filter(|one| one.purpose != Purpose::Probes).map(|one| one.address).collect();
        if let Some(urls) = advertised(flags.advertise_client_urls, ports.listen_client_urls.clone(), &clients)? {
            member.advertise_client_urls = urls;
        }
        member.extensive_metrics = ports.extensive_metrics();
        Ok(Settings {
            member,
            listeners,
            listen_peers,
            demands_peer_port: peers.is_asked_for(),
            client_tls,
            access: ports.access(),
            gateway: ports.gateway(),
            keeping: ports.keeping(),
            insecure_plaintext: ports.insecure_plaintext(),
            listen_mesh: ports.mesh(),
        })
    }
}

/// The files of certificates and keys.
fn named_files(settings: &Settings) -> NamedFiles {
    let clients = settings.client_tls.as_ref().and_then(|(certificate, _)| match certificate {
        ClientCertificate::Files(files) => Some(files),
        ClientCertificate::SelfSigned { .. } => None,
    });
    let peers = settings.member.peer_files.as_ref();
    let tokens = match &settings.member.auth.tokens {
        TokenConfig::Jwt(keys) => Some(keys),
        TokenConfig::Simple => None,
    };
    NamedFiles::default()
        .and("--cert-file", clients.map(|files| files.cert.as_path()))
        .and("--key-file", clients.map(|files| files.key.as_path()))
        .and("--trusted-ca-file", clients.and_then(|files| files.client_ca.as_deref()))
        .and("--client-crl-file", clients.and_then(|files| files.client_crl.as_deref()))
        .and("--peer-cert-file", peers.map(|files| files.cert.as_path()))
        .and("--peer-key-file", peers.map(|files| files.key.as_path()))
        .and("--peer-trusted-ca-file", peers.map(|files| files.trusted_ca.as_path()))
        .and("--peer-crl-file", peers.and_then(|files| files.crl.as_deref()))
        .and("--auth-token pub-key", tokens.and_then(|keys| keys.public_key.as_deref()))
        .and("--auth-token priv-key", tokens.and_then(|keys| keys.private_key.as_deref()))
}

/// The certificate's or key's file that an error is about.
fn file_of(error: &anyhow::Error) -> Option<&Path> {
    let member = error.downcast_ref::<ServerError>().and_then(ServerError::file);
    member.or_else(|| error.downcast_ref::<CredentialsError>().and_then(CredentialsError::file))
}

/// What clients are told: what was said, or else what is listened on, unless that is every address of the machine.
fn advertised(
    said: Option<Vec<String>>,
    listened: Option<Vec<String>>,
    addresses: &[SocketAddr],
) -> Result<Option<Vec<String>>, Failure> {
    if said.is_none() && addresses.iter().any(|address| address.ip().is_unspecified()) {
        let failure = Failure::bad_args("clients can not be told to connect to every address of this machine");
        return Err(failure.next("say which one by --advertise-client-urls"));
    }
    Ok(said.or(listened))
}

#[cfg(test)]
mod tests;
