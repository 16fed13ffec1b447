//! The flags of the ports: where clients and probes connect, and how they are answered.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::builder::BoolishValueParser;
use server::Access;

use super::variable;
use crate::{
    cli::{duration, failure::Failure, mesh::default_mesh_address},
    member::{Keeping, Listener, Purpose},
};

/// Where etcd clients connect by default.
const CLIENT_PORT: u16 = 2379;

/// Its ports.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Ports")]
pub(super) struct PortFlags {
    /// Where etcd clients connect: gRPC, the JSON gateway, health, metrics [default: <http://127.0.0.1:2379>]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = variable("listen-client-urls"))]
    pub(super) listen_client_urls: Option<Vec<String>>,
    /// Where all but gRPC is served instead [default: on the client URLs]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = variable("listen-client-http-urls"))]
    listen_client_http_urls: Option<Vec<String>>,
    /// Where health and metrics are served as well
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = variable("listen-metrics-urls"))]
    listen_metrics_urls: Option<Vec<String>>,
    /// Where proxies and administrators connect, always by mTLS [default: 127.0.0.1:15012]
    #[arg(long, value_name = "HOST:PORT", env = variable("listen-mesh-addr"))]
    listen_mesh_addr: Option<SocketAddr>,
    /// Serve plain text beyond loopback: everybody who reaches the port may read and write everything
    #[arg(long, value_name = "BOOL", env = variable("insecure-plaintext"), value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    insecure_plaintext: Option<bool>,
    /// Serve the JSON gateway [default: true]
    #[arg(long, value_name = "BOOL", env = variable("enable-grpc-gateway"), value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_grpc_gateway: Option<bool>,
    /// Origins whose web pages may use the client port [default: *]
    #[arg(long, value_name = "ORIGIN,…", value_delimiter = ',', env = variable("cors"))]
    cors: Option<Vec<String>>,
    /// Hosts that HTTP in plain text may be asked for, against DNS rebinding [default: *]
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', env = variable("host-whitelist"))]
    host_whitelist: Option<Vec<String>>,
    /// How much /metrics tells: extensive adds how long RPCs took [default: basic]
    #[arg(long, value_enum, env = variable("metrics"))]
    metrics: Option<Detail>,
    /// Most requests at once on one connection; 0: the default [default: 10000]
    #[arg(long, value_name = "COUNT", env = variable("max-concurrent-streams"))]
    max_concurrent_streams: Option<u32>,
    /// A silent client is probed this often; 0s: never [default: 30s]
    #[arg(long, value_name = "TIME", env = variable("grpc-keepalive-interval"), value_parser = duration::parse)]
    grpc_keepalive_interval: Option<Duration>,
    /// And cut if it does not answer for this long [default: 20s]
    #[arg(long, value_name = "TIME", env = variable("grpc-keepalive-timeout"), value_parser = duration::parse)]
    grpc_keepalive_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Detail {
    Basic,
    Extensive,
}

impl PortFlags {
    /// What is listened on; `tls`: there is a certificate.
    pub(super) fn listeners(&self, tls: bool) -> Result<Vec<Listener>, Failure> {
        let default = vec![format!("http://{}", SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENT_PORT)))];
        let clients = self.listen_client_urls.as_ref().unwrap_or(&default);
        let (http, probes) = (given(self.listen_client_http_urls.as_ref()), given(self.listen_metrics_urls.as_ref()));
        let clients_want = if http.is_empty() { Purpose::Clients } else { Purpose::Grpc };
        let listeners = [(clients_want, clients.as_slice()), (Purpose::Http, http), (Purpose::Probes, probes)];
        let listeners = listeners.into_iter().flat_map(|(purpose, urls)| urls.iter().map(move |url| (purpose, url)));
        let listeners: Vec<_> =
            listeners.map(|(purpose, url)| listener(purpose, url, tls)).collect::<Result<_, Failure>>()?;
        if tls && listeners.iter().all(|listener| !listener.secure) {
            let failure = Failure::bad_args("there is a certificate, but every URL that is listened on is plain text");
            return Err(failure.next("write https://HOST:PORT in --listen-client-urls"));
        }
        Ok(listeners)
    }

    pub(super) fn access(&self) -> Access {
        let default = Access::default();
        Access {
            cors: self.cors.clone().unwrap_or(default.cors),
            host_whitelist: self.host_whitelist.clone().unwrap_or(default.host_whitelist),
        }
    }

    pub(super) fn keeping(&self) -> Keeping {
        let default = Keeping::default();
        let probe_interval = self.grpc_keepalive_interval.map_or(default.probe_interval, Some);
        Keeping {
            streams_max: self.max_concurrent_streams.filter(|streams| *streams > 0).unwrap_or(default.streams_max),
            probe_interval: probe_interval.filter(|interval| !interval.is_zero()),
            probe_timeout: self.grpc_keepalive_timeout.unwrap_or(default.probe_timeout),
        }
    }

    pub(super) fn mesh(&self) -> SocketAddr {
        self.listen_mesh_addr.unwrap_or_else(default_mesh_address)
    }

    pub(super) fn insecure_plaintext(&self) -> bool {
        self.insecure_plaintext.unwrap_or(false)
    }

    pub(super) fn gateway(&self) -> bool {
        self.enable_grpc_gateway.unwrap_or(true)
    }

    pub(super) fn extensive_metrics(&self) -> bool {
        self.metrics == Some(Detail::Extensive)
    }
}

fn given(urls: Option<&Vec<String>>) -> &[String] {
    urls.map(Vec::as_slice).unwrap_or_default()
}

/// A URL that peers would use is read as one that clients use, so that a mistake in it does not stay hidden.
pub(super) fn check_peer_url(url: &str) -> Result<(), Failure> {
    if url.starts_with("https://") { peer_address(url).map(drop) } else { listener(Purpose::Grpc, url, true).map(drop) }
}

/// Where other members are listened for. A host name is of this machine, which listens on all of its addresses then:
/// nobody is served there without a certificate.
pub(super) fn peer_address(url: &str) -> Result<SocketAddr, Failure> {
    let by_name = || {
        let (host, port) = url.strip_prefix("https://")?.trim_end_matches('/').rsplit_once(':')?;
        let is_name = !host.is_empty() && !host.contains([':', '[', ']', '/']);
        is_name.then_some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.parse().ok()?)))
    };
    listener(Purpose::Grpc, url, true).map(|listener| listener.address).or_else(|failure| by_name().ok_or(failure))
}

/// Reads `http://HOST:PORT` or, with a certificate, `https://HOST:PORT`; HOST is an IP address or `localhost`.
fn listener(purpose: Purpose, url: &str, tls: bool) -> Result<Listener, Failure> {
    let malformed = || {
        let failure = Failure::bad_args(format!("{url:?} is not a URL to listen on"));
        failure.next("write it as http://127.0.0.1:2379 or https://10.0.0.1:2379")
    };
    let (scheme, address) = url.split_once("://").ok_or_else(malformed)?;
    let secure = match (scheme, tls) {
        ("http", _) => false,
        ("https", true) => true,
        ("https", false) => {
            return Err(Failure::bad_args(format!("{url} needs a certificate"))
                .next("give --cert-file and --key-file, or --auto-tls"));
        }
        _ => return Err(malformed()),
    };
    let address = address.trim_end_matches('/');
    let address = match address.strip_prefix("localhost:") {
        Some(port) => SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().map_err(|_| malformed())?)),
        None => address.parse().map_err(|_| malformed())?,
    };
    Ok(Listener { address, secure, purpose })
}
