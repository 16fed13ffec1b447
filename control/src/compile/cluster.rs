//! Clusters: one for each port of each host, and one more for each subset.

use proto::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions, circuit_breakers,
                cluster::{
                    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy,
                    RefreshRate, TransportSocketMatch,
                },
            },
            core::v3::{
                Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, Metadata,
                TcpKeepalive,
            },
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
            },
        },
        r#type::v3::Percent,
    },
    google::protobuf::{Any, Struct, Value},
};
use types::TrustDomain;

use super::{
    endpoint,
    names::{outbound_cluster, server_name},
    policy::Policy,
    tls::{self, Accept},
    wire::{any, duration, fields, from_ads, list, metadata, number, structure, text},
};
use crate::{
    mesh::{Host, Port, Protocol, Resolution},
    model::destination_rule::{self as rule, ClientTlsMode, ConnectionPool, H2Upgrade, SimpleLb, Subset},
};

/// How long a connection may take to be made. Source: Istio's `connectTimeout`.
pub(super) const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// How often DNS is asked. Source: Istio's `dnsRefreshRate`.
const DNS_REFRESH: std::time::Duration = std::time::Duration::from_mins(1);
/// How soon DNS is asked again after a failure, at first; at last as often as usual. Istio leaves it at the usual, by
/// which one lost packet at start costs a minute without the host.
const DNS_FAILURE_REFRESH: std::time::Duration = std::time::Duration::from_secs(1);
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The cluster of a port of `host`, for a subset or for all its workloads.
pub(super) fn outbound(
    host: &Host,
    port: &Port,
    subset: Option<&Subset>,
    policy: &Policy,
    trust_domain: &TrustDomain,
) -> Cluster {
    let subset_name = subset.map_or("", |subset| &subset.name);
    let name = outbound_cluster(port.number, subset_name, &host.name);
    let protocol = upgraded(port.protocol, &policy.pool);
    let mut cluster = Cluster {
        connect_timeout: Some(connect_timeout(&policy.pool)),
        lb_policy: lb_policy(policy.load_balancer.simple).into(),
        common_lb_config: Some(panic_at(policy.outliers.as_ref().map_or(0, |outliers| outliers.min_health_percent))),
        circuit_breakers: Some(limits(&policy.pool)),
        outlier_detection: policy.outliers.as_ref().map(outliers),
        typed_extension_protocol_options: http_options(protocol, &policy.pool),
        upstream_connection_options: keepalive(&policy.pool),
        metadata: Some(service_metadata(&[host], subset_name)),
        name,
        ..Default::default()
    };
    locate(&mut cluster, host, port, subset);
    secure(&mut cluster, host, port, subset_name, policy, protocol, trust_domain);
    cluster
}

/// The cluster of a port of the proxy's own workload, which serves `hosts`.
pub(super) fn inbound(name: String, app_port: u16, protocol: Protocol, hosts: &[&Host]) -> Cluster {
    let assignment = super::listener::loopback_assignment(&name, app_port);
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(assignment),
        connect_timeout: Some(duration(CONNECT_TIMEOUT)),
        circuit_breakers: Some(limits(&ConnectionPool::default())),
        typed_extension_protocol_options: http_options(protocol, &ConnectionPool::default()),
        metadata: Some(service_metadata(hosts, "")),
        name,
        ..Default::default()
    }
}

/// How the cluster's endpoints are found.
fn locate(cluster: &mut Cluster, host: &Host, port: &Port, subset: Option<&Subset>) {
    if host.resolution == Resolution::Static {
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
        let service_name = cluster.name.clone();
        cluster.eds_cluster_config = Some(EdsClusterConfig { eds_config: Some(from_ads()), service_name });
        return;
    }
    let labels = subset.map(|subset| subset.labels.clone()).unwrap_or_default();
    let mut assignment = endpoint::assignment(&cluster.name, host, port, &labels);
    if host.endpoints().is_empty() {
        assignment.endpoints = super::listener::single_endpoint(&host.name, target(port));
    }
    // A logical cluster without its endpoint is refused; a strict one just has none.
    let logical = host.resolution == Resolution::DnsRoundRobin && !assignment.endpoints.is_empty();
    let kind = if logical { DiscoveryType::LogicalDns } else { DiscoveryType::StrictDns };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    cluster.load_assignment = Some(assignment);
    cluster.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
    #[expect(deprecated, reason = "its replacement is a cluster extension, which proxies older than Envoy 1.33 lack")]
    {
        cluster.dns_refresh_rate = Some(duration(DNS_REFRESH));
        cluster.dns_failure_refresh_rate = Some(RefreshRate {
            base_interval: Some(duration(DNS_FAILURE_REFRESH)),
            max_interval: Some(duration(DNS_REFRESH)),
        });
        cluster.respect_dns_ttl = true;
    }
}

fn target(port: &Port) -> u16 {
    match port.target {
        crate::mesh::Target::Number(number) => number,
        crate::mesh::Target::Name(_) => port.number,
    }
}

/// mTLS to the endpoints whose proxies speak it, or what the destination rule says.
fn secure(
    cluster: &mut Cluster,
    host: &Host,
    port: &Port,
    subset: &str,
    policy: &Policy,
    protocol: Protocol,
    trust_domain: &TrustDomain,
) {
    let names = policy.tls.as_ref().map(|tls| tls.subject_alt_names.clone()).unwrap_or_default();
    let identities = if names.is_empty() { endpoint::identities(host, trust_domain) } else { names };
    // Without endpoints nobody is known yet; who comes is at least of the service's namespace.
    let accept = if identities.is_empty() {
        Accept::Under(format!("spiffe://{trust_domain}/ns/{}/sa/", host.namespace()))
    } else {
        Accept::OneOf(identities)
    };
    let sni = policy.tls.as_ref().map(|tls| tls.sni.clone()).filter(|sni| !sni.is_empty());
    let sni = sni.unwrap_or_else(|| server_name(port, subset, &host.name));
    match policy.tls.as_ref().map(|tls| tls.mode) {
        Some(ClientTlsMode::Disable) => {}
        Some(ClientTlsMode::IstioMutual) => cluster.transport_socket = Some(tls::upstream(&accept, sni, protocol)),
        None if host.external => {}
        None => {
            cluster.transport_socket_matches = vec![
                TransportSocketMatch {
                    name: "tlsMode-istio".to_owned(),
                    r#match: Some(fields([("tlsMode", text("istio"))])),
                    transport_socket: Some(tls::upstream(&accept, sni, protocol)),
                },
                TransportSocketMatch {
                    name: "tlsMode-disabled".to_owned(),
                    r#match: Some(Struct::default()),
                    transport_socket: Some(tls::plain()),
                },
            ];
        }
    }
}

fn upgraded(protocol: Protocol, pool: &ConnectionPool) -> Protocol {
    let upgrade = pool.http.as_ref().map(|http| http.h2_upgrade_policy);
    match (protocol, upgrade) {
        (Protocol::Http | Protocol::Unknown, Some(H2Upgrade::Upgrade)) => Protocol::Http2,
        _ => protocol,
    }
}

fn connect_timeout(pool: &ConnectionPool) -> proto::google::protobuf::Duration {
    let own = pool.tcp.as_ref().and_then(|tcp| tcp.connect_timeout);
    duration(own.map_or(CONNECT_TIMEOUT, |span| span.0))
}

/// Istio's default is least request, not Envoy's round robin.
fn lb_policy(simple: SimpleLb) -> LbPolicy {
    match simple {
        SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest => LbPolicy::LeastRequest,
        SimpleLb::Random => LbPolicy::Random,
        SimpleLb::RoundRobin => LbPolicy::RoundRobin,
    }
}

/// Below this share of healthy endpoints, all are used.
fn panic_at(percent: u32) -> CommonLbConfig {
    CommonLbConfig { healthy_panic_threshold: Some(Percent { value: percent.into() }), ..Default::default() }
}

/// What is not limited is given Envoy's largest limit, since its defaults are low.
fn limits(pool: &ConnectionPool) -> CircuitBreakers {
    let or_none = |limit: u32| number(if limit == 0 { u32::MAX } else { limit });
    let http = pool.http.clone().unwrap_or_default();
    let thresholds = circuit_breakers::Thresholds {
        max_connections: or_none(pool.tcp.as_ref().map_or(0, |tcp| tcp.max_connections)),
        max_pending_requests: or_none(http.http1_max_pending_requests),
        max_requests: or_none(http.http2_max_requests),
        max_retries: or_none(http.max_retries),
        track_remaining: true,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn outliers(outliers: &rule::OutlierDetection) -> OutlierDetection {
    let old = Some(outliers.consecutive_errors).filter(|errors| *errors != 0);
    let errors = outliers.consecutive_5xx_errors.or(old);
    let gateway = outliers.consecutive_gateway_errors;
    let span = |span: Option<crate::model::GoDuration>| span.map(|span| duration(span.0));
    let percent = outliers.max_ejection_percent;
    OutlierDetection {
        consecutive_5xx: errors.and_then(number),
        enforcing_consecutive_5xx: number(if errors == Some(0) { 0 } else { 100 }),
        consecutive_gateway_failure: gateway.and_then(number),
        enforcing_consecutive_gateway_failure: number(if gateway.unwrap_or(0) == 0 { 0 } else { 100 }),
        enforcing_success_rate: number(0),
        interval: span(outliers.interval),
        base_ejection_time: span(outliers.base_ejection_time),
        max_ejection_percent: (percent != 0).then_some(percent).and_then(number),
        ..Default::default()
    }
}

fn http_options(protocol: Protocol, pool: &ConnectionPool) -> std::collections::HashMap<String, Any> {
    if !protocol.is_http() {
        return std::collections::HashMap::new();
    }
    let http = pool.http.clone().unwrap_or_default();
    let requests = http.max_requests_per_connection;
    let common = CommonOptions {
        idle_timeout: http.idle_timeout.map(|span| duration(span.0)),
        max_requests_per_connection: (requests != 0).then_some(requests).and_then(number),
        ..Default::default()
    };
    let explicit = if protocol.is_http2() {
        ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
    } else {
        ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: (common != CommonOptions::default()).then_some(common),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(explicit),
        })),
        ..Default::default()
    };
    [(HTTP_OPTIONS.to_owned(), any(&options))].into()
}

fn keepalive(pool: &ConnectionPool) -> Option<UpstreamConnectionOptions> {
    let keepalive = pool.tcp.as_ref()?.tcp_keepalive.as_ref()?;
    let seconds = |span: Option<crate::model::GoDuration>| {
        span.and_then(|span| u32::try_from(span.0.as_secs()).ok()).and_then(number)
    };
    let tcp_keepalive = TcpKeepalive {
        keepalive_probes: (keepalive.probes != 0).then_some(keepalive.probes).and_then(number),
        keepalive_time: seconds(keepalive.time),
        keepalive_interval: seconds(keepalive.interval),
    };
    Some(UpstreamConnectionOptions { tcp_keepalive: Some(tcp_keepalive), ..Default::default() })
}

/// Which services a cluster stands for, as Istio's telemetry reads it.
pub(super) fn service_metadata(hosts: &[&Host], subset: &str) -> Metadata {
    let service = |host: &&Host| -> Value {
        let (name, namespace) = if host.is_service() {
            (host.stored.id().name.as_str(), host.namespace())
        } else {
            (host.name.as_str(), host.namespace())
        };
        structure(fields([("host", text(&host.name)), ("name", text(name)), ("namespace", text(namespace))]))
    };
    let mut entries = vec![("services", list(hosts.iter().map(service).collect()))];
    if !subset.is_empty() {
        entries.push(("subset", text(subset)));
    }
    metadata([("istio", fields(entries))])
}
