//! Envoy resources, as short as tests want them.
#![expect(clippy::unnecessary_wraps, reason = "most fields of Envoy's messages are optional")]

use std::net::SocketAddr;

use prost::{Message, Name};
use proto::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{
                    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, RefreshRate,
                    TransportSocketMatch,
                },
            },
            core::v3::{
                Address, AggregatedConfigSource, ConfigSource, Http2ProtocolOptions, Locality, Metadata, SocketAddress,
                TrafficDirection, TransportSocket, address, config_source::ConfigSourceSpecifier,
                socket_address::PortSpecifier, transport_socket,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, filter},
            route::v3::{
                Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action::ClusterSpecifier,
                route_match::PathSpecifier,
            },
        },
        extensions::{
            filters::{
                http::{fault::v3::HttpFault, router::v3::Router},
                network::{
                    http_connection_manager::v3::{
                        HttpConnectionManager, HttpFilter, Rds,
                        http_connection_manager::{
                            ForwardClientCertDetails, RouteSpecifier, SetCurrentClientCertDetails, UpgradeConfig,
                        },
                        http_filter,
                    },
                    tcp_proxy::v3::{TcpProxy, tcp_proxy},
                },
            },
            transport_sockets::{
                raw_buffer::v3::RawBuffer,
                tls::v3::{
                    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                    SubjectAltNameMatcher, UpstreamTlsContext,
                    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
                    subject_alt_name_matcher::SanType,
                },
            },
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Any, BoolValue, Duration, Struct, UInt32Value, Value, value::Kind},
};

pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(crate) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn truth() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(crate) fn millis(millis: i64) -> Option<Duration> {
    Some(Duration { seconds: millis / 1_000, nanos: i32::try_from(millis % 1_000).unwrap() * 1_000_000 })
}

fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
        ..Default::default()
    })
}

fn socket(socket: SocketAddr) -> Option<Address> {
    place(&socket.ip().to_string(), socket.port())
}

fn place(host: &str, port: u16) -> Option<Address> {
    let address = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    Some(Address { address: Some(address::Address::SocketAddress(address)) })
}

/// An EDS cluster.
pub(crate) fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: ads(), ..Default::default() }),
        connect_timeout: millis(1_000),
        ..Default::default()
    }
}

/// The same, over HTTP/2.
pub(crate) fn h2_cluster(name: &str) -> Cluster {
    let explicit = ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned();
    Cluster { typed_extension_protocol_options: [(key, any(&options))].into(), ..cluster(name) }
}

/// A cluster whose one endpoint is told by name, which is asked for twenty times a second.
#[expect(deprecated, reason = "control planes still send the old forms")]
pub(crate) fn dns_cluster(name: &str, kind: DiscoveryType, host: &str, port: u16) -> Cluster {
    let mut load = assignment(name, &[]);
    load.endpoints[0].lb_endpoints = vec![endpoint_at(place(host, port), None)];
    Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        eds_cluster_config: None,
        load_assignment: Some(load),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        dns_refresh_rate: millis(50),
        dns_failure_refresh_rate: Some(RefreshRate { base_interval: millis(20), max_interval: millis(50) }),
        ..cluster(name)
    }
}

pub(crate) fn assignment(cluster: &str, endpoints: &[SocketAddr]) -> ClusterLoadAssignment {
    let group = LocalityLbEndpoints {
        locality: Some(Locality::default()),
        lb_endpoints: endpoints.iter().map(|address| lb_endpoint(*address, None)).collect(),
        load_balancing_weight: number(1),
        ..Default::default()
    };
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: vec![group], ..Default::default() }
}

/// The same, behind proxies that speak mTLS.
pub(crate) fn mesh_assignment(cluster: &str, endpoints: &[SocketAddr]) -> ClusterLoadAssignment {
    let metadata = Metadata {
        filter_metadata: [
            ("envoy.transport_socket_match".to_owned(), strings(&[("tlsMode", "istio")])),
            ("istio".to_owned(), strings(&[("workload", "reviews-v1;default;reviews;v1;")])),
        ]
        .into(),
        ..Default::default()
    };
    let mut assignment = assignment(cluster, &[]);
    assignment.endpoints[0].lb_endpoints =
        endpoints.iter().map(|address| lb_endpoint(*address, Some(metadata.clone()))).collect();
    assignment
}

fn lb_endpoint(address: SocketAddr, metadata: Option<Metadata>) -> LbEndpoint {
    endpoint_at(socket(address), metadata)
}

fn endpoint_at(address: Option<Address>, metadata: Option<Metadata>) -> LbEndpoint {
    let endpoint = Endpoint { address, ..Default::default() };
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), metadata, ..Default::default() }
}

pub(crate) fn strings(pairs: &[(&str, &str)]) -> Struct {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    Struct { fields: pairs.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect() }
}

/// A route for every path.
pub(crate) fn route_to(cluster: &str) -> Route {
    on_prefix("/", forward(cluster))
}

pub(crate) fn on_prefix(prefix: &str, action: RouteAction) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
            ..Default::default()
        }),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    }
}

pub(crate) fn forward(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: Some(Duration::default()),
        ..Default::default()
    }
}

pub(crate) fn table(name: &str, routes: Vec<Route>) -> RouteConfiguration {
    hosts_table(name, vec![("*", routes)])
}

pub(crate) fn hosts_table(name: &str, hosts: Vec<(&str, Vec<Route>)>) -> RouteConfiguration {
    let host = |(domain, routes): (&str, Vec<Route>)| VirtualHost {
        name: domain.to_owned(),
        domains: vec![domain.to_owned()],
        routes,
        ..Default::default()
    };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: hosts.into_iter().map(host).collect(),
        ..Default::default()
    }
}

/// A connection manager with the fault filter, whose routes come by RDS.
pub(crate) fn manager(routes: &str) -> HttpConnectionManager {
    let filter = |name: &str, config| HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::Rds(Rds { config_source: ads(), route_config_name: routes.to_owned() })),
        http_filters: vec![
            filter("envoy.filters.http.fault", any(&HttpFault::default())),
            filter("envoy.filters.http.router", any(&Router::default())),
        ],
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        ..Default::default()
    }
}

fn network(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

fn listener(name: &str, port: u16, chains: Vec<FilterChain>, direction: TrafficDirection) -> Listener {
    Listener {
        name: name.to_owned(),
        address: socket(SocketAddr::from(([127, 0, 0, 1], port))),
        filter_chains: chains,
        traffic_direction: direction.into(),
        ..Default::default()
    }
}

pub(crate) fn http_listener(name: &str, port: u16, manager: &HttpConnectionManager) -> Listener {
    let chain = FilterChain { filters: vec![network("http", any(manager))], ..Default::default() };
    listener(name, port, vec![chain], TrafficDirection::Outbound)
}

pub(crate) fn tcp_listener(name: &str, port: u16, clusters: &[(&str, u32)]) -> Listener {
    let weight = |(name, weight): &(&str, u32)| tcp_proxy::weighted_cluster::ClusterWeight {
        name: (*name).to_owned(),
        weight: *weight,
        metadata_match: None,
    };
    let weighted = tcp_proxy::WeightedCluster { clusters: clusters.iter().map(weight).collect() };
    let proxy = TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)),
        ..Default::default()
    };
    let chain = FilterChain { filters: vec![network("tcp", any(&proxy))], ..Default::default() };
    listener(name, port, vec![chain], TrafficDirection::Outbound)
}

/// How an inbound listener takes its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Strict,
    Permissive,
}

/// An inbound listener before an application.
pub(crate) fn inbound_listener(name: &str, port: u16, routes: &str, mode: Mode) -> Listener {
    let manager = HttpConnectionManager {
        forward_client_cert_details: ForwardClientCertDetails::SanitizeSet.into(),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails { uri: true, ..Default::default() }),
        ..manager(routes)
    };
    let filters = vec![network("http", any(&manager))];
    let context = DownstreamTlsContext {
        common_tls_context: Some(tls_context(vec![], &["h2", "http/1.1"])),
        require_client_certificate: truth(),
        ..Default::default()
    };
    let secured = FilterChain {
        filters: filters.clone(),
        transport_socket: Some(transport("envoy.transport_sockets.tls", any(&context))),
        ..Default::default()
    };
    let matched = |protocol: &str, chain: FilterChain| FilterChain {
        filter_chain_match: Some(FilterChainMatch { transport_protocol: protocol.to_owned(), ..Default::default() }),
        ..chain
    };
    let chains = match mode {
        Mode::Strict => vec![secured],
        Mode::Permissive => {
            vec![matched("tls", secured), matched("raw_buffer", FilterChain { filters, ..Default::default() })]
        }
    };
    listener(name, port, chains, TrafficDirection::Inbound)
}

/// A cluster whose endpoints may speak mTLS; those that do must be one of `peers`.
pub(crate) fn mesh_cluster(name: &str, peers: &[&str], base: Cluster, alpn: &[&str]) -> Cluster {
    let san = |peer: &&str| SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact((*peer).to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(tls_context(peers.iter().map(san).collect(), alpn)),
        sni: "outbound_.9080_._.reviews.default.svc.cluster.local".to_owned(),
        ..Default::default()
    };
    let matches = vec![
        TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(strings(&[("tlsMode", "istio")])),
            transport_socket: Some(transport("envoy.transport_sockets.tls", any(&context))),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".to_owned(),
            r#match: Some(Struct::default()),
            transport_socket: Some(transport("envoy.transport_sockets.raw_buffer", any(&RawBuffer {}))),
        },
    ];
    Cluster { name: name.to_owned(), transport_socket_matches: matches, ..base }
}

fn tls_context(names: Vec<SubjectAltNameMatcher>, alpn: &[&str]) -> CommonTlsContext {
    let secret = |name: &str| SdsSecretConfig { name: name.to_owned(), sds_config: None };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: names,
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret("ROOTCA")),
        ..Default::default()
    };
    CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![secret("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn transport(name: &str, config: Any) -> TransportSocket {
    TransportSocket { name: name.to_owned(), config_type: Some(transport_socket::ConfigType::TypedConfig(config)) }
}
