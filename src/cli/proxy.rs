//! `proxy sidecar|gateway`: the data plane.

use super::{
    failure::{Exit, Failure, chain},
    logging::Logging,
    signals,
};
use crate::memory;
use proxy::{AccessLogTarget, Config, InboundPort, JoinToken, Role, TcpOutbound};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};
use types::{Namespace, ServiceAccount};

/// The data plane: moves traffic the way the mesh says.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Proxy {
    /// Stands beside one workload
    #[command(after_help = "Example: beside an app on port 9080 that calls others by http_proxy=127.0.0.1:15001
  meshstore proxy sidecar --trust-bundle ca.crt --token-file token --name reviews-v1 \\
      --service-account bookinfo-reviews --labels app=reviews,version=v1 \\
      --inbound http=127.0.0.1:19080:9080 --http-outbound 15001")]
    Sidecar(SidecarArgs),
    /// Serves Gateway resources whose selector matches its labels
    #[command(after_help = "Example:
  meshstore proxy gateway --trust-bundle ca.crt --token-file token --name ingress \\
      --service-account gateway --labels istio=ingressgateway")]
    Gateway(ProxyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SidecarArgs {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// A port to serve the workload on; PROTOCOL is http, http2, grpc or tcp, http where left out; may be repeated
    #[arg(long, value_name = "NAME=BIND:PORT:APP_PORT[:PROTOCOL]", value_parser = inbound)]
    inbound: Vec<InboundPort>,
    /// Port of 127.0.0.1 for the workload's outgoing HTTP
    #[arg(long, value_name = "PORT")]
    http_outbound: Option<u16>,
    /// A port that carries bytes to one service; may be repeated
    #[arg(long, value_name = "BIND:PORT=HOST:SERVICE_PORT", value_parser = tcp_outbound)]
    tcp_outbound: Vec<TcpOutbound>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProxyArgs {
    /// The server's mesh port [default: 127.0.0.1:15012]
    #[arg(long, value_name = "IP:PORT")]
    server: Option<SocketAddr>,
    /// PEM file of the roots that vouch for the server and for peers
    #[arg(long, value_name = "FILE")]
    trust_bundle: PathBuf,
    /// File with the join token; needed once
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Workload name [default: proxy]
    #[arg(long)]
    name: Option<String>,
    /// Namespace [default: default]
    #[arg(long, value_parser = Namespace::parse)]
    namespace: Option<Namespace>,
    /// Service account [default: default]
    #[arg(long, value_parser = ServiceAccount::parse)]
    service_account: Option<ServiceAccount>,
    /// Labels that selectors and subsets match
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// Address at which other proxies reach this one [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Name server that finds endpoints told by name, in place of resolv.conf's
    #[arg(long, value_name = "IP:PORT")]
    dns_resolver: Option<SocketAddr>,
    /// Where certificate and last good configuration are kept [default: meshstore-proxy]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Address of /ready and /metrics [default: 127.0.0.1:15000]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// File to log requests to; - is standard output
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    #[command(flatten)]
    logging: Logging,
}

impl Proxy {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = match self {
            Self::Gateway(proxy) => Config { role: Role::Gateway, ..proxy.resolve()? },
            Self::Sidecar(SidecarArgs { proxy, inbound, http_outbound, tcp_outbound }) => {
                Config { inbound, http_outbound, tcp_outbound, ..proxy.resolve()? }
            }
        };
        memory::take_small_pages();
        let failed = |error: proxy::ProxyError| Failure::new(Exit::Error, chain(&error));
        signals::until_stopped(|stop| async { proxy::run(config, stop).await.map_err(failed) }).await
    }
}

impl ProxyArgs {
    /// Starts logging, reads the files, and lays the flags over the defaults.
    fn resolve(self) -> Result<Config, Failure> {
        self.logging.start()?;
        let trust_bundle = fs::read(&self.trust_bundle);
        let trust_bundle = trust_bundle.map_err(|error| unreadable("--trust-bundle", &self.trust_bundle, &error))?;
        let token = self.token_file.as_deref().map(|path| {
            let text = fs::read_to_string(path).map_err(|error| unreadable("--token-file", path, &error))?;
            Ok::<_, Failure>(JoinToken::new(&text))
        });
        let default = Config::default();
        Ok(Config {
            server: self.server.unwrap_or(default.server),
            trust_bundle,
            token: token.transpose()?,
            name: self.name.unwrap_or(default.name),
            namespace: self.namespace.unwrap_or(default.namespace),
            service_account: self.service_account.unwrap_or(default.service_account),
            labels: BTreeMap::from_iter(self.labels),
            address: self.address.unwrap_or(default.address),
            state_dir: self.state_dir.unwrap_or(default.state_dir),
            dns_resolver: self.dns_resolver,
            admin: self.admin.or(default.admin),
            access_log: self.access_log.map(access_log),
            ..Config::default()
        })
    }
}

fn access_log(path: PathBuf) -> AccessLogTarget {
    if path.as_os_str() == "-" { AccessLogTarget::Stdout } else { AccessLogTarget::File(path) }
}

fn unreadable(flag: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Io, format!("{flag}: cannot read {}: {error}", path.display()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    if key.is_empty() { Err(format!("{text:?} has no key")) } else { Ok((key.to_owned(), value.to_owned())) }
}

/// Reads `NAME=BIND:PORT:APP_PORT[:PROTOCOL]`.
fn inbound(text: &str) -> Result<InboundPort, String> {
    const PROTOCOLS: [&str; 4] = ["http", "http2", "grpc", "tcp"];
    let malformed = || format!("{text:?} is not NAME=BIND:PORT:APP_PORT[:PROTOCOL]");
    let (name, rest) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(malformed)?;
    let (rest, protocol) = match rest.rsplit_once(':').ok_or_else(malformed)? {
        (before, last) if last.parse::<u16>().is_err() => (before, last),
        _ => (rest, "http"),
    };
    if !PROTOCOLS.contains(&protocol) {
        return Err(format!("{protocol:?} is not one of {}", PROTOCOLS.join(", ")));
    }
    let (bind, app_port) = rest.rsplit_once(':').ok_or_else(malformed)?;
    Ok(InboundPort {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        bind: bind.parse().map_err(|_| malformed())?,
        app_port: app_port.parse().map_err(|_| malformed())?,
    })
}

/// Reads `BIND:PORT=HOST:SERVICE_PORT`.
fn tcp_outbound(text: &str) -> Result<TcpOutbound, String> {
    let malformed = || format!("{text:?} is not BIND:PORT=HOST:SERVICE_PORT");
    let (bind, service) = text.split_once('=').ok_or_else(malformed)?;
    let (host, port) = service.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(malformed)?;
    Ok(TcpOutbound {
        bind: bind.parse().map_err(|_| malformed())?,
        host: host.to_owned(),
        service_port: port.parse().map_err(|_| malformed())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbound_ports_are_read() {
        let read = |text| inbound(text).map(|one| (one.name, one.protocol, one.bind.to_string(), one.app_port)).ok();
        let port = |name: &str, protocol: &str, bind: &str, app| Some((name.into(), protocol.into(), bind.into(), app));
        let cases = [
            ("http=127.0.0.1:19080:9080", port("http", "http", "127.0.0.1:19080", 9080)),
            ("db=127.0.0.1:1:2:tcp", port("db", "tcp", "127.0.0.1:1", 2)),
            ("http=[::1]:1:2:http2", port("http", "http2", "[::1]:1", 2)),
            ("http=[::1]:1:2", port("http", "http", "[::1]:1", 2)),
            ("http=127.0.0.1:1", None),
            ("http=127.0.0.1:1:2:udp", None),
            ("=127.0.0.1:1:2", None),
            ("127.0.0.1:1:2", None),
            ("http=127.0.0.1:1:70000", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn outbound_ports_and_labels_are_read() {
        let read = |text| tcp_outbound(text).map(|one| format!("{} {} {}", one.bind, one.host, one.service_port)).ok();
        let cases = [
            ("127.0.0.1:5432=db.default:5433", Some("127.0.0.1:5432 db.default 5433")),
            ("127.0.0.1:5432=db", None),
            ("127.0.0.1=db:1", None),
            ("127.0.0.1:1=:1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
        assert_eq!(label("app=reviews"), Ok(("app".into(), "reviews".into())));
        assert!(label("app").is_err() && label("=x").is_err());
    }

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let config = Config::default();
        let command = <ProxyArgs as clap::Args>::augment_args(clap::Command::new("proxy"));
        let help = |id: &str| {
            let argument = command.get_arguments().find(|one| one.get_id() == id).expect("a flag");
            argument.get_help().expect("help").to_string()
        };
        let cases = [
            ("server", config.server.to_string()),
            ("name", config.name),
            ("namespace", config.namespace.to_string()),
            ("service_account", config.service_account.to_string()),
            ("address", config.address.to_string()),
            ("state_dir", config.state_dir.display().to_string()),
            ("admin", config.admin.expect("a default").to_string()),
        ];
        for (id, default) in cases {
            assert!(help(id).ends_with(&format!("[default: {default}]")), "{id}: {}", help(id));
        }
    }
}
