//! Listeners and their filters.

use std::net::IpAddr;

use proto::{
    envoy::{
        config::{
            core::v3::{TrafficDirection, TransportSocket},
            endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
            listener::v3::{Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter},
            route::v3::{Route, RouteConfiguration, VirtualHost},
        },
        extensions::filters::{
            http::{fault::v3::HttpFault, router::v3::Router},
            listener::tls_inspector::v3::TlsInspector,
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds, http_connection_manager, http_filter,
                },
                tcp_proxy::v3::{TcpProxy, tcp_proxy},
            },
        },
    },
    google::protobuf::{Any, Duration},
};

use super::{
    fault::FAULT_FILTER,
    names,
    wire::{any, boolean, from_ads, ip_socket, number, socket},
};
use crate::mesh::Protocol;

/// How long a client may keep silent before its first bytes say whether it speaks TLS.
const INSPECTION: Duration = Duration { seconds: 15, nanos: 0 };

/// Where the routes of a connection manager come from.
pub(super) enum Routes {
    /// By RDS, under this name.
    Named(String),
    Inline(Box<RouteConfiguration>),
}

/// Who sends the requests that a connection manager sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The proxy's own workload.
    Outbound,
    /// Other workloads of the mesh.
    Inbound,
    /// The world.
    Edge,
}

/// A listener with one filter chain for all connections.
pub(super) fn listener(bind: IpAddr, port: u16, direction: TrafficDirection, filter: Filter) -> Listener {
    let chain = FilterChain { filters: vec![filter], ..Default::default() };
    Listener {
        name: names::listener(bind, port),
        address: Some(ip_socket(bind, port)),
        traffic_direction: direction.into(),
        filter_chains: vec![chain],
        ..Default::default()
    }
}

/// Which connections an inbound listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    Tls,
    Plain,
    Both,
}

/// Serves connections with `filter`, over TLS, plainly, or as each begins.
pub(super) fn inbound(bind: IpAddr, port: u16, accepts: Accepts, tls: TransportSocket, filter: &Filter) -> Listener {
    let chain = |name: &str, transport_protocol: &str, transport_socket: Option<TransportSocket>| FilterChain {
        name: name.to_owned(),
        filter_chain_match: (!transport_protocol.is_empty())
            .then(|| FilterChainMatch { transport_protocol: transport_protocol.to_owned(), ..Default::default() }),
        filters: vec![filter.clone()],
        transport_socket,
        ..Default::default()
    };
    let filter_chains = match accepts {
        Accepts::Tls => vec![chain("tls", "", Some(tls))],
        Accepts::Plain => vec![chain("plain", "", None)],
        Accepts::Both => vec![chain("tls", "tls", Some(tls)), chain("plain", "raw_buffer", None)],
    };
    let inspects = accepts == Accepts::Both;
    Listener {
        name: names::listener(bind, port),
        address: Some(ip_socket(bind, port)),
        traffic_direction: TrafficDirection::Inbound.into(),
        filter_chains,
        listener_filters: inspects.then(tls_inspector).into_iter().collect(),
        listener_filters_timeout: inspects.then_some(INSPECTION),
        // A server that speaks first is still reached, plainly, after the wait.
        continue_on_listener_filters_timeout: inspects,
        ..Default::default()
    }
}

fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..Default::default()
    }
}

/// The filter that reads requests and routes them.
pub(super) fn http(stat_prefix: &str, routes: Routes, side: Side) -> Filter {
    let route_specifier = match routes {
        Routes::Named(route_config_name) => {
            http_connection_manager::RouteSpecifier::Rds(Rds { config_source: Some(from_ads()), route_config_name })
        }
        Routes::Inline(routes) => http_connection_manager::RouteSpecifier::RouteConfig(*routes),
    };
    let mut filters = Vec::new();
    if side != Side::Inbound {
        filters.push(http_filter(FAULT_FILTER, any(&HttpFault::default())));
    }
    filters.push(http_filter("envoy.filters.http.router", any(&Router::default())));
    let websocket =
        http_connection_manager::UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() };
    let pass_through = http_connection_manager::ServerHeaderTransformation::PassThrough;
    // Towards the workload alone the caller's proven identity is told; what a caller claims is dropped everywhere.
    let (client_cert, details) = match side {
        Side::Inbound => (
            http_connection_manager::ForwardClientCertDetails::SanitizeSet,
            Some(http_connection_manager::SetCurrentClientCertDetails { uri: true, ..Default::default() }),
        ),
        Side::Outbound | Side::Edge => (http_connection_manager::ForwardClientCertDetails::Sanitize, None),
    };
    let manager = HttpConnectionManager {
        codec_type: http_connection_manager::CodecType::Auto.into(),
        stat_prefix: stat_prefix.to_owned(),
        http_filters: filters,
        route_specifier: Some(route_specifier),
        use_remote_address: boolean(side == Side::Edge),
        normalize_path: boolean(true),
        upgrade_configs: vec![websocket],
        // Routes say how long a request may take; an idle stream is not the proxy's to end. Source: Istio.
        stream_idle_timeout: Some(Duration::default()),
        server_header_transformation: pass_through.into(),
        forward_client_cert_details: client_cert.into(),
        set_current_client_cert_details: details,
        ..Default::default()
    };
    network_filter("envoy.filters.network.http_connection_manager", any(&manager))
}

/// The filter that moves bytes to a cluster, or to one of several by weight.
pub(super) fn tcp(stat_prefix: &str, mut clusters: Vec<(String, u32)>) -> Filter {
    let specifier = if clusters.len() == 1 {
        tcp_proxy::ClusterSpecifier::Cluster(clusters.remove(0).0)
    } else {
        let weight = |(name, weight)| tcp_proxy::weighted_cluster::ClusterWeight { name, weight, metadata_match: None };
        let clusters = clusters.into_iter().map(weight).collect();
        tcp_proxy::ClusterSpecifier::WeightedClusters(tcp_proxy::WeightedCluster { clusters })
    };
    let proxy =
        TcpProxy { stat_prefix: stat_prefix.to_owned(), cluster_specifier: Some(specifier), ..Default::default() };
    network_filter("envoy.filters.network.tcp_proxy", any(&proxy))
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    let config_type = Some(http_filter::ConfigType::TypedConfig(config));
    HttpFilter { name: name.to_owned(), config_type, ..Default::default() }
}

fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// A route table of one host that takes everything.
pub(super) fn single_route(name: String, virtual_host: String, route: Route) -> RouteConfiguration {
    let virtual_hosts = vec![VirtualHost {
        name: virtual_host,
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    }];
    RouteConfiguration { name, virtual_hosts, validate_clusters: boolean(false), ..Default::default() }
}

/// The workload behind the proxy.
pub(super) fn loopback_assignment(cluster: &str, port: u16) -> ClusterLoadAssignment {
    let endpoints = single_endpoint("127.0.0.1", port);
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, ..Default::default() }
}

pub(super) fn single_endpoint(host: &str, port: u16) -> Vec<LocalityLbEndpoints> {
    let endpoint = Endpoint { address: Some(socket(host, port)), ..Default::default() };
    let endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        load_balancing_weight: number(1),
        ..Default::default()
    };
    vec![LocalityLbEndpoints {
        locality: Some(proto::envoy::config::core::v3::Locality::default()),
        lb_endpoints: vec![endpoint],
        load_balancing_weight: number(1),
        ..Default::default()
    }]
}

/// What Envoy's statistics call a listener's requests.
pub(super) fn stat_prefix(direction: &str, bind: IpAddr, port: u16, protocol: Protocol) -> String {
    let kind = if protocol.is_http() { "http" } else { "tcp" };
    format!("{direction}_{bind}_{port}_{kind}")
}
