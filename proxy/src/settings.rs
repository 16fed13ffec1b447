//! What a proxy is told at start. `Default` alone holds the values that documentation names.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use types::{Namespace, ServiceAccount, SpiffeId, TrustDomain};

/// Which kind of proxy it is; the two differ only in what they tell the server about themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Stands beside one workload.
    Sidecar,
    /// Serves `Gateway` resources whose selector matches its labels.
    Gateway,
}

/// A listener for the workload's own clients: mutually authenticated as policy says, then forwarded to the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// Port name, as a Service's `targetPort` refers to it.
    pub name: String,
    /// Protocol by Kubernetes' `appProtocol` words: `http`, `http2`, `grpc`, `tcp`.
    pub protocol: String,
    /// Where the proxy listens.
    pub bind: SocketAddr,
    /// Port of 127.0.0.1 on which the workload listens.
    pub app_port: u16,
}

/// A listener that carries bytes to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOutbound {
    /// Where the proxy listens.
    pub bind: SocketAddr,
    /// The service's host name.
    pub host: String,
    /// The service's port.
    pub service_port: u16,
}

/// A single-use secret that proves who the workload is, once. Never printed.
#[derive(Clone)]
pub struct JoinToken(String);

impl JoinToken {
    /// Takes the token as it was issued; surrounding white space is not part of it.
    pub fn new(token: &str) -> Self {
        Self(token.trim().to_owned())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken([redacted])")
    }
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// Appended to a file, which is made when absent.
    File(PathBuf),
}

/// Everything that a proxy is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sidecar or gateway. Default sidecar.
    pub role: Role,
    /// The mesh server's address: ADS, authority and workload registry. Default 127.0.0.1:15012.
    pub server: SocketAddr,
    /// PEM of the roots that vouch for the server and for peers; they also name the trust domain. Required.
    pub trust_bundle: Vec<u8>,
    /// Needed once, unless the state directory holds a certificate that is still valid. Default none.
    pub token: Option<JoinToken>,
    /// Workload name. Default `proxy`.
    pub name: String,
    /// Namespace. Default `default`.
    pub namespace: Namespace,
    /// Service account. Default `default`.
    pub service_account: ServiceAccount,
    /// Labels that selectors and subsets match. Default none.
    pub labels: BTreeMap<String, String>,
    /// Address at which other proxies reach this one. Default 127.0.0.1.
    pub address: IpAddr,
    /// Inbound listeners. Default none.
    pub inbound: Vec<InboundPort>,
    /// Port of 127.0.0.1 for the workload's outgoing HTTP, as a proxy or by Host. Default none.
    pub http_outbound: Option<u16>,
    /// Listeners for the workload's outgoing TCP. Default none.
    pub tcp_outbound: Vec<TcpOutbound>,
    /// Holds certificate, key and last good configuration; made with mode 0700 when absent. Default `meshstore-proxy`.
    pub state_dir: PathBuf,
    /// Address of `/ready`, `/metrics`, `/config_dump` and `/certs`; `None` serves none. Default 127.0.0.1:15000.
    pub admin: Option<SocketAddr>,
    /// Name server that finds endpoints told by name; `None` is those of the system's resolv.conf. Default none.
    pub dns_resolver: Option<SocketAddr>,
    /// Where access log lines go; `None` writes none. Default none.
    pub access_log: Option<AccessLogTarget>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::Sidecar,
            server: SocketAddr::from((Ipv4Addr::LOCALHOST, 15012)),
            trust_bundle: Vec::new(),
            token: None,
            name: "proxy".to_owned(),
            namespace: Namespace::parse("default").expect("a valid namespace"),
            service_account: ServiceAccount::parse("default").expect("a valid service account"),
            labels: BTreeMap::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            inbound: Vec::new(),
            http_outbound: None,
            tcp_outbound: Vec::new(),
            state_dir: PathBuf::from("meshstore-proxy"),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 15000))),
            dns_resolver: None,
            access_log: None,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// The identity that the authority of `trust_domain` gives this workload.
    pub(crate) fn spiffe_id(&self, trust_domain: &TrustDomain) -> SpiffeId {
        SpiffeId::new(trust_domain.clone(), self.namespace.clone(), self.service_account.clone())
    }
}

/// The identity that the mesh server must show.
pub(crate) fn server_id(trust_domain: &TrustDomain) -> SpiffeId {
    SpiffeId::new(
        trust_domain.clone(),
        Namespace::parse("meshstore-system").expect("a valid namespace"),
        ServiceAccount::parse("server").expect("a valid service account"),
    )
}

/// Bounds of one proxy. Counts are for the whole proxy unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Worker threads; 0 is one a core. Default 0.
    pub workers: usize,
    /// Downstream connections served at once, one worker; more wait in the accept queue. Default 8 192.
    pub connections_max: usize,
    /// Headers of one request. Default 100.
    pub headers_max: usize,
    /// Bytes of an HTTP/1.1 request head. Default 32 KiB.
    pub head_bytes_max: usize,
    /// Bytes of an HTTP/2 request's decoded headers. Default 16 KiB.
    pub h2_header_bytes_max: u32,
    /// Bytes of a request target. Default 8 KiB.
    pub uri_bytes_max: usize,
    /// Concurrent streams of a downstream HTTP/2 connection. Default 100.
    pub h2_streams_max: u32,
    /// Time for a request's head to arrive. Default 10 s.
    pub head_timeout: Duration,
    /// Time for a TLS handshake. Default 5 s.
    pub tls_timeout: Duration,
    /// Time for the first byte of a connection whose protocol must be detected. Default 10 s.
    pub detect_timeout: Duration,
    /// An HTTP connection that serves no request is closed after this. Default 300 s.
    pub downstream_idle_timeout: Duration,
    /// A TCP connection without a byte in either direction is closed after this. Default 1 h.
    pub tcp_idle_timeout: Duration,
    /// Idle upstream connections are closed after this. Default 60 s.
    pub upstream_idle_timeout: Duration,
    /// Idle HTTP/1.1 connections kept, one worker and endpoint. Default 64.
    pub upstream_idle_max: usize,
    /// Streams on one upstream HTTP/2 connection before another is opened. Default 100.
    pub upstream_h2_streams_max: u32,
    /// Bytes of a request body kept for a retry; a longer body is sent once. Default 64 KiB.
    pub replay_bytes_max: usize,
    /// Bytes of one xDS message. Default 64 MiB.
    pub xds_message_bytes_max: usize,
    /// A route that names a cluster not received yet waits this long before it applies anyway. Default 15 s.
    pub warming: Duration,
    /// Endpoints of one cluster that DNS finds; more are left out. Default 1 024.
    pub dns_endpoints_max: usize,
    /// Access log lines waiting for the writer; more are dropped and counted. Default 4 096.
    pub access_log_queue: usize,
    /// Different label sets that metrics tell apart; more share one. Default 10 000.
    pub metric_label_sets_max: usize,
    /// After the signal to stop, new connections are still served for this long. Default 1 s.
    pub drain_delay: Duration,
    /// Then requests in flight may finish for this long. Default 30 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 0,
            connections_max: 8_192,
            headers_max: 100,
            head_bytes_max: 32 << 10,
            h2_header_bytes_max: 16 << 10,
            uri_bytes_max: 8 << 10,
            h2_streams_max: 100,
            head_timeout: Duration::from_secs(10),
            tls_timeout: Duration::from_secs(5),
            detect_timeout: Duration::from_secs(10),
            downstream_idle_timeout: Duration::from_mins(5),
            tcp_idle_timeout: Duration::from_hours(1),
            upstream_idle_timeout: Duration::from_mins(1),
            upstream_idle_max: 64,
            upstream_h2_streams_max: 100,
            replay_bytes_max: 64 << 10,
            xds_message_bytes_max: 64 << 20,
            warming: Duration::from_secs(15),
            dns_endpoints_max: 1_024,
            access_log_queue: 4_096,
            metric_label_sets_max: 10_000,
            drain_delay: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Worker threads to start.
    pub(crate) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let config = Config { token: Some(JoinToken::new(" s3cret\n")), ..Config::default() };
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(config.token.expect("set").reveal(), "s3cret");
    }

    #[test]
    fn the_identities_follow_from_the_names() {
        let trust_domain = TrustDomain::parse("cluster.local").expect("valid");
        let own = Config::default().spiffe_id(&trust_domain);
        assert_eq!(own.to_string(), "spiffe://cluster.local/ns/default/sa/default");
        assert_eq!(server_id(&trust_domain).to_string(), "spiffe://cluster.local/ns/meshstore-system/sa/server");
    }
}
