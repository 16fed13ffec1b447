//! `server`: one member of the store, with etcd's flags and environment.

mod auth_token;

use super::{duration, failed, failure::Failure, logging::Logging, mesh::default_mesh_address, signals};
use crate::member::{self, Settings};
use server::{AuthConfig, TokenConfig};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use tls::web::ServerFiles;

/// Where etcd clients connect by default.
const CLIENT_PORT: u16 = 2379;

/// Runs one member: the store, and with a trust domain the mesh's authority and control plane.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples: a single member on loopback; and one that other machines reach
  meshstore server
  meshstore server --data-dir /var/lib/meshstore --listen-client-urls https://10.0.0.1:2379 \\
      --cert-file server.crt --key-file server.key --trusted-ca-file clients.crt --listen-mesh-addr 10.0.0.1:15012

Each flag can also be given as ETCD_ and its name: ETCD_DATA_DIR.")]
pub(crate) struct Args {
    #[command(flatten)]
    member: MemberFlags,
    #[command(flatten)]
    auth: AuthFlags,
    #[command(flatten)]
    listeners: ListenerFlags,
    #[command(flatten)]
    logging: Logging,
}

/// The member itself.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Member")]
pub(crate) struct MemberFlags {
    /// The member's name among people [default: default]
    #[arg(long, env = "ETCD_NAME")]
    name: Option<String>,
    /// Where everything is kept [default: default.meshstore]
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where clients are told to connect [default: what is listened on]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = "ETCD_ADVERTISE_CLIENT_URLS")]
    advertise_client_urls: Option<Vec<String>>,
    /// Where peers are told to connect; it makes the member's ID [default: <http://localhost:2380>]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = "ETCD_INITIAL_ADVERTISE_PEER_URLS")]
    initial_advertise_peer_urls: Option<Vec<String>>,
    /// Keeps apart clusters formed from the same addresses; it makes the member's ID [default: etcd-cluster]
    #[arg(long, value_name = "TOKEN", env = "ETCD_INITIAL_CLUSTER_TOKEN")]
    initial_cluster_token: Option<String>,
    /// Milliseconds between two heartbeats of a leader [default: 100]
    #[arg(long, value_name = "MS", env = "ETCD_HEARTBEAT_INTERVAL", value_parser = duration::parse_milliseconds)]
    heartbeat_interval: Option<Duration>,
    /// Milliseconds without a heartbeat before an election [default: 1000]
    #[arg(long, value_name = "MS", env = "ETCD_ELECTION_TIMEOUT", value_parser = duration::parse_milliseconds)]
    election_timeout: Option<Duration>,
    /// Log entries between two purges of the log [default: 10000]
    #[arg(long, value_name = "COUNT", env = "ETCD_SNAPSHOT_COUNT")]
    snapshot_count: Option<u64>,
    /// Most operations of a transaction [default: 128]
    #[arg(long, value_name = "COUNT", env = "ETCD_MAX_TXN_OPS")]
    max_txn_ops: Option<usize>,
    /// Largest request, bytes [default: 1572864]
    #[arg(long, value_name = "BYTES", env = "ETCD_MAX_REQUEST_BYTES")]
    max_request_bytes: Option<usize>,
    /// An idle watch that asked for it is told of progress this often [default: 10m]
    #[arg(long, value_name = "TIME", env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL", value_parser = duration::parse)]
    watch_progress_notify_interval: Option<Duration>,
}

/// Its users.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Users")]
pub(crate) struct AuthFlags {
    /// What is given to who has shown a password: simple, or
    /// jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=TIME [default: simple]
    #[arg(long, value_name = "FORM", env = "ETCD_AUTH_TOKEN", value_parser = auth_token::parse)]
    auth_token: Option<TokenConfig>,
    /// Seconds that a simple token lives after its last use [default: 300]
    #[arg(long, value_name = "SECONDS", env = "ETCD_AUTH_TOKEN_TTL", value_parser = clap::value_parser!(u32).range(1..))]
    auth_token_ttl: Option<u32>,
    /// Work of hashing a password; each step doubles it [default: 10]
    #[arg(long, value_name = "4-31", env = "ETCD_BCRYPT_COST", value_parser = clap::value_parser!(u32).range(4..=31))]
    bcrypt_cost: Option<u32>,
}

impl AuthFlags {
    /// `client_cert_auth`: as the ports' flag says.
    fn resolve(self, client_cert_auth: bool) -> AuthConfig {
        let default = AuthConfig::default();
        let ttl = self.auth_token_ttl.map(|seconds| Duration::from_secs(seconds.into()));
        AuthConfig {
            tokens: self.auth_token.unwrap_or(default.tokens),
            token_ttl: ttl.unwrap_or(default.token_ttl),
            bcrypt_cost: self.bcrypt_cost.unwrap_or(default.bcrypt_cost),
            client_cert_auth,
        }
    }
}

/// Its ports.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Ports")]
pub(crate) struct ListenerFlags {
    /// Where etcd clients connect [default: <http://127.0.0.1:2379>]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = "ETCD_LISTEN_CLIENT_URLS")]
    listen_client_urls: Option<Vec<String>>,
    /// Where proxies and administrators connect, always by mTLS [default: 127.0.0.1:15012]
    #[arg(long, value_name = "HOST:PORT", env = "ETCD_LISTEN_MESH_ADDR")]
    listen_mesh_addr: Option<SocketAddr>,
    /// PEM file of the client port's certificate
    #[arg(long, value_name = "FILE", env = "ETCD_CERT_FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", env = "ETCD_KEY_FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// PEM file of the authorities of clients; clients must then show a certificate
    #[arg(long, value_name = "FILE", env = "ETCD_TRUSTED_CA_FILE", requires = "cert_file")]
    trusted_ca_file: Option<PathBuf>,
    /// Demand client certificates, whose common names are users; only the latter is not said by --trusted-ca-file already
    #[arg(long, env = "ETCD_CLIENT_CERT_AUTH", requires = "trusted_ca_file")]
    client_cert_auth: bool,
    /// Serve plain text beyond loopback: everybody who reaches the port may read and write everything
    #[arg(long, env = "ETCD_INSECURE_PLAINTEXT")]
    insecure_plaintext: bool,
}

impl Args {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        self.logging.start()?;
        let settings = self.resolve()?;
        signals::until_stopped(|stop| async { member::run(settings, stop).await.map_err(failed) }).await
    }

    /// Lays the flags over the defaults.
    fn resolve(self) -> Result<Settings, Failure> {
        let ListenerFlags { listen_client_urls, listen_mesh_addr, cert_file, key_file, trusted_ca_file, .. } =
            self.listeners;
        let client_tls =
            cert_file.zip(key_file).map(|(cert, key)| ServerFiles { cert, key, client_ca: trusted_ca_file });
        let listen_client = match &listen_client_urls {
            None => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENT_PORT))],
            Some(urls) => urls.iter().map(|url| listen_address(url, client_tls.is_some())).collect::<Result<_, _>>()?,
        };
        let mut member = self.member.resolve();
        member.auth = self.auth.resolve(self.listeners.client_cert_auth);
        if let Some(urls) = advertised(self.member.advertise_client_urls, listen_client_urls, &listen_client)? {
            member.advertise_client_urls = urls;
        }
        Ok(Settings {
            member,
            listen_client,
            client_tls,
            insecure_plaintext: self.listeners.insecure_plaintext,
            listen_mesh: listen_mesh_addr.unwrap_or_else(default_mesh_address),
        })
    }
}

impl MemberFlags {
    /// All but the advertised client URLs, which follow from the ports.
    pub(super) fn resolve(&self) -> server::Config {
        let default = server::Config::default();
        let store = store_limits(self, default.store.clone());
        server::Config {
            name: self.name.clone().unwrap_or(default.name),
            data_dir: self.data_dir.clone().unwrap_or(default.data_dir),
            advertise_peer_urls: self.initial_advertise_peer_urls.clone().unwrap_or(default.advertise_peer_urls),
            cluster_token: self.initial_cluster_token.clone().unwrap_or(default.cluster_token),
            heartbeat: self.heartbeat_interval.unwrap_or(default.heartbeat),
            election_timeout: self.election_timeout.unwrap_or(default.election_timeout),
            snapshot_count: self.snapshot_count.unwrap_or(default.snapshot_count),
            auth: default.auth,
            store,
            watch_progress_interval: self.watch_progress_notify_interval.unwrap_or(default.watch_progress_interval),
            advertise_client_urls: default.advertise_client_urls,
            watches_per_stream_max: default.watches_per_stream_max,
        }
    }
}

fn store_limits(flags: &MemberFlags, mut limits: store::Limits) -> store::Limits {
    limits.txn_ops_max = flags.max_txn_ops.unwrap_or(limits.txn_ops_max);
    limits.request_bytes_max = flags.max_request_bytes.unwrap_or(limits.request_bytes_max);
    limits
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

/// Reads `http://HOST:PORT` or, with a certificate, `https://HOST:PORT`; HOST is an IP address or `localhost`.
fn listen_address(url: &str, tls: bool) -> Result<SocketAddr, Failure> {
    let malformed = || {
        let failure = Failure::bad_args(format!("{url:?} is not a URL to listen on"));
        failure.next("write it as http://127.0.0.1:2379 or https://10.0.0.1:2379")
    };
    let (scheme, address) = url.split_once("://").ok_or_else(malformed)?;
    match (scheme, tls) {
        ("http", false) | ("https", true) => {}
        ("https", false) => return Err(Failure::bad_args(format!("{url} needs --cert-file and --key-file"))),
        ("http", true) => return Err(Failure::bad_args(format!("{url} is plain text, but --cert-file is given"))),
        _ => return Err(malformed()),
    }
    let address = address.trim_end_matches('/');
    match address.strip_prefix("localhost:") {
        Some(port) => Ok(SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().map_err(|_| malformed())?))),
        None => address.parse().map_err(|_| malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(flags: &[&str]) -> Result<Settings, Failure> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let words = ["server"].iter().chain(flags);
        let line =
            <Line as clap::Parser>::try_parse_from(words).map_err(|error| Failure::bad_args(error.to_string()))?;
        line.args.resolve()
    }

    #[test]
    fn no_flag_at_all_is_the_defaults_on_loopback() {
        let settings = resolved(&[]).unwrap();
        assert_eq!(format!("{:?}", settings.member), format!("{:?}", server::Config::default()));
        assert_eq!(settings.listen_client, ["127.0.0.1:2379".parse().unwrap()]);
        assert_eq!(settings.listen_mesh, "127.0.0.1:15012".parse().unwrap());
        assert!(settings.client_tls.is_none() && !settings.insecure_plaintext);
    }

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let config = server::Config::default();
        let help = |id: &str| {
            let command = <MemberFlags as clap::Args>::augment_args(clap::Command::new("server"));
            let argument = command.get_arguments().find(|one| one.get_id() == id).expect("a flag").clone();
            argument.get_help().expect("help").to_string()
        };
        let cases = [
            ("name", config.name),
            ("data_dir", config.data_dir.display().to_string()),
            ("initial_cluster_token", config.cluster_token),
            ("initial_advertise_peer_urls", format!("<{}>", config.advertise_peer_urls[0])),
            ("heartbeat_interval", config.heartbeat.as_millis().to_string()),
            ("election_timeout", config.election_timeout.as_millis().to_string()),
            ("snapshot_count", config.snapshot_count.to_string()),
            ("max_txn_ops", config.store.txn_ops_max.to_string()),
            ("max_request_bytes", config.store.request_bytes_max.to_string()),
            ("watch_progress_notify_interval", format!("{}m", config.watch_progress_interval.as_secs() / 60)),
        ];
        for (id, default) in cases {
            assert!(help(id).ends_with(&format!("[default: {default}]")), "{id}: {}", help(id));
        }
    }

    #[test]
    fn a_port_is_plain_or_tls_and_says_so() {
        let tls = ["--cert-file", "c", "--key-file", "k"];
        let cases: [(&[&str], &[&str], bool); 8] = [
            (&["--listen-client-urls", "http://localhost:1"], &[], true),
            (&["--listen-client-urls", "http://127.0.0.1:1,http://[::1]:2"], &[], true),
            (&["--listen-client-urls", "https://127.0.0.1:1"], &tls, true),
            (&["--listen-client-urls", "https://127.0.0.1:1"], &[], false),
            (&["--listen-client-urls", "http://127.0.0.1:1"], &tls, false),
            (&["--listen-client-urls", "127.0.0.1:1"], &[], false),
            (&["--listen-client-urls", "http://0.0.0.0:1"], &[], false),
            (&["--listen-client-urls", "http://0.0.0.0:1", "--advertise-client-urls", "http://10.0.0.1:1"], &[], true),
        ];
        for (urls, more, valid) in cases {
            let flags: Vec<_> = urls.iter().chain(more).copied().collect();
            assert_eq!(resolved(&flags).is_ok(), valid, "{flags:?}");
        }
        let told = resolved(&["--listen-client-urls", "http://127.0.0.1:7"]).unwrap().member.advertise_client_urls;
        assert_eq!(told, ["http://127.0.0.1:7"]);
        assert!(resolved(&["--client-cert-auth"]).is_err());
        assert!(resolved(&["--cert-file", "c"]).is_err());
    }

    #[test]
    fn users_are_recognized_as_the_flags_say() {
        let flags = ["--auth-token", "jwt,sign-method=HS256,priv-key=k", "--auth-token-ttl", "9", "--bcrypt-cost", "4"];
        let auth = resolved(&flags).unwrap().member.auth;
        assert!(matches!(auth.tokens, TokenConfig::Jwt(_)) && !auth.client_cert_auth);
        assert_eq!((auth.token_ttl, auth.bcrypt_cost), (Duration::from_secs(9), 4));
        let tls = ["--cert-file", "c", "--key-file", "k", "--trusted-ca-file", "ca", "--client-cert-auth"];
        let tls = [&tls[..], &["--listen-client-urls", "https://127.0.0.1:1"]].concat();
        assert!(resolved(&tls).unwrap().member.auth.client_cert_auth);
        assert!(resolved(&["--bcrypt-cost", "3"]).is_err() && resolved(&["--auth-token", "?"]).is_err());
    }

    #[test]
    fn flags_reach_the_member() {
        let flags = ["--name", "a", "--data-dir", "/d", "--heartbeat-interval", "50", "--max-txn-ops", "9"];
        let member = resolved(&flags).unwrap().member;
        assert_eq!((member.name.as_str(), member.data_dir), ("a", PathBuf::from("/d")));
        assert_eq!((member.heartbeat, member.store.txn_ops_max), (Duration::from_millis(50), 9));
    }
}
