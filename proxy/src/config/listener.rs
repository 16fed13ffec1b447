//! Listeners, as configured.

use std::{collections::HashSet, mem, net::SocketAddr, sync::Arc, time::Duration};

use prost::Name;
use proto::{
    envoy::{
        config::{
            core::v3::TrafficDirection,
            listener::v3::{
                Filter as WireFilter, FilterChain, FilterChainMatch, Listener, filter::ConfigType,
                listener_filter::ConfigType as ListenerFilterConfig,
            },
        },
        extensions::filters::{
            http::{cors::v3::Cors, fault::v3::HttpFault, router::v3::Router},
            listener::{http_inspector::v3::HttpInspector, tls_inspector::v3::TlsInspector},
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter,
                    http_connection_manager::{
                        CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                        ServerHeaderTransformation,
                    },
                    http_filter::ConfigType as HttpFilterConfig,
                },
                tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
            },
        },
    },
    google::protobuf::Any,
};

use super::{
    action,
    fault::Fault,
    route::RouteTable,
    tls_context::{self, DownstreamTls},
    wire::{Invalid, Within, flag, nothing_left, number, optional_duration, socket_address, unpack},
};

/// One listener.
#[derive(Debug)]
pub(crate) struct ListenerConfig {
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    /// Time to see which chain a connection belongs to; `None` is the proxy's own limit.
    pub(crate) detect_timeout: Option<Duration>,
    /// A connection that stays silent so long is plain; else it is closed.
    pub(crate) silent_is_plain: bool,
    chains: Vec<Arc<Chain>>,
    default_chain: Option<Arc<Chain>>,
}

/// Which side of the workload a listener is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// What happens to the connections that it matches.
#[derive(Debug)]
pub(crate) struct Chain {
    matches: Option<Wire>,
    pub(crate) tls: Option<DownstreamTls>,
    pub(crate) filter: Filter,
}

/// What a connection's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Tls,
    Raw,
}

/// The filter that ends a chain.
#[derive(Debug)]
pub(crate) enum Filter {
    Http(Arc<HttpConfig>),
    Tcp(Arc<TcpConfig>),
}

/// An HTTP connection manager.
#[derive(Debug)]
pub(crate) struct HttpConfig {
    pub(crate) routes: Routes,
    pub(crate) fault: Option<Fault>,
    pub(crate) codec: Codec,
    pub(crate) websocket: bool,
    pub(crate) client_cert: ClientCert,
    /// The peer's address is the client's: forwarded headers from outside are not believed.
    pub(crate) edge: bool,
    pub(crate) keep_escaped_slashes: bool,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) direction: Direction,
}

/// Where routes come from.
#[derive(Debug)]
pub(crate) enum Routes {
    Named(Arc<str>),
    Inline(Arc<RouteTable>),
}

/// Which HTTP a client may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Detect,
    Http1,
    Http2,
}

/// What happens to `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCert {
    /// A client's claim is removed.
    Sanitize,
    /// It is removed, and the peer's proven identity set.
    Set,
}

/// A TCP proxy.
#[derive(Debug)]
pub(crate) struct TcpConfig {
    /// Each with the sum of the weights up to and with its own; the last sum is not 0.
    targets: Vec<(u64, Arc<str>)>,
    /// `None` is the proxy's own limit.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) direction: Direction,
}

impl ListenerConfig {
    pub(crate) fn compile(mut wire: Listener) -> Result<Self, Invalid> {
        let direction = match TrafficDirection::try_from(mem::take(&mut wire.traffic_direction)) {
            Ok(TrafficDirection::Inbound) => Direction::Inbound,
            _ => Direction::Outbound,
        };
        for filter in mem::take(&mut wire.listener_filters) {
            listener_filter(&filter.name, filter.config_type)?;
        }
        let chain = |wire: FilterChain| {
            let name = wire.name.clone();
            Chain::compile(wire, direction).map(Arc::new).within(|| format!("filter chain {name:?}"))
        };
        let listener = Self {
            name: mem::take(&mut wire.name).into(),
            address: socket_address(wire.address.take())?,
            silent_is_plain: mem::take(&mut wire.continue_on_listener_filters_timeout),
            detect_timeout: optional_duration("listener_filters_timeout", wire.listener_filters_timeout.take())?,
            chains: mem::take(&mut wire.filter_chains).into_iter().map(chain).collect::<Result<_, _>>()?,
            default_chain: wire.default_filter_chain.take().map(chain).transpose()?,
        };
        // How the socket is shared between workers, and names: this proxy's own choice.
        (wire.metadata, wire.enable_reuse_port) = (None, None);
        wire.stat_prefix.clear();
        wire.per_connection_buffer_limit_bytes = None;
        nothing_left(&wire)?;
        if listener.chains.is_empty() && listener.default_chain.is_none() {
            return Err(Invalid::Missing("filter_chains"));
        }
        Ok(listener)
    }

    /// The chain of a connection that begins so.
    pub(crate) fn chain(&self, wire: Wire) -> Option<&Arc<Chain>> {
        let exact = self.chains.iter().find(|chain| chain.matches == Some(wire));
        exact.or_else(|| self.chains.iter().find(|chain| chain.matches.is_none())).or(self.default_chain.as_ref())
    }

    /// The only chain that any connection can get; `None` when the first bytes must decide.
    pub(crate) fn only_chain(&self) -> Option<&Arc<Chain>> {
        match (&self.chains[..], &self.default_chain) {
            ([only], None) if only.matches.is_none() => Some(only),
            ([], Some(only)) => Some(only),
            _ => None,
        }
    }

    /// The TLS contexts of its chains.
    pub(crate) fn tls_contexts(&self) -> impl Iterator<Item = &DownstreamTls> {
        self.chains.iter().chain(&self.default_chain).filter_map(|chain| chain.tls.as_ref())
    }

    /// The xDS clusters that its TCP chains name.
    pub(crate) fn tcp_clusters(&self) -> impl Iterator<Item = Arc<str>> {
        let targets = |chain: &Arc<Chain>| match &chain.filter {
            Filter::Tcp(tcp) => tcp.targets.iter().map(|(_, name)| name.clone()).collect(),
            Filter::Http(_) => Vec::new(),
        };
        self.chains.iter().chain(&self.default_chain).flat_map(targets)
    }

    /// The names of the route tables that it needs.
    pub(crate) fn route_names(&self) -> HashSet<Arc<str>> {
        let named = |chain: &Arc<Chain>| match &chain.filter {
            Filter::Http(http) => match &http.routes {
                Routes::Named(name) => Some(name.clone()),
                Routes::Inline(_) => None,
            },
            Filter::Tcp(_) => None,
        };
        self.chains.iter().chain(&self.default_chain).filter_map(named).collect()
    }
}

/// Detection is this proxy's own; the inspectors only ask for it.
fn listener_filter(name: &str, config: Option<ListenerFilterConfig>) -> Result<(), Invalid> {
    match config {
        Some(ListenerFilterConfig::TypedConfig(any))
            if any.type_url == TlsInspector::type_url() || any.type_url == HttpInspector::type_url() =>
        {
            Ok(())
        }
        None if matches!(name, "envoy.filters.listener.tls_inspector" | "envoy.filters.listener.http_inspector") => {
            Ok(())
        }
        _ => Err(Invalid::Unsupported(format!("listener filter {name:?}"))),
    }
}

impl Chain {
    fn compile(mut wire: FilterChain, direction: Direction) -> Result<Self, Invalid> {
        let matches = chain_match(wire.filter_chain_match.take())?;
        let tls = tls_context::downstream(wire.transport_socket.take())?;
        let mut filters = mem::take(&mut wire.filters);
        let filter = match (filters.pop(), filters.pop()) {
            (Some(filter), None) => network_filter(filter, direction)?,
            (None, _) => return Err(Invalid::Missing("filters")),
            (Some(_), Some(other)) => return Err(Invalid::Unsupported(format!("network filter {:?}", other.name))),
        };
        wire.name.clear();
        (wire.metadata, wire.transport_socket_connect_timeout) = (None, None);
        nothing_left(&wire)?;
        Ok(Self { matches, tls, filter })
    }
}

fn chain_match(wire: Option<FilterChainMatch>) -> Result<Option<Wire>, Invalid> {
    let mut wire = wire.unwrap_or_default();
    let matches = match mem::take(&mut wire.transport_protocol).as_str() {
        "" => None,
        "tls" => Some(Wire::Tls),
        "raw_buffer" => Some(Wire::Raw),
        other => return Err(Invalid::bad("transport_protocol", other)),
    };
    nothing_left(&wire)?;
    Ok(matches)
}

fn network_filter(filter: WireFilter, direction: Direction) -> Result<Filter, Invalid> {
    let Some(ConfigType::TypedConfig(any)) = filter.config_type else { return Err(Invalid::Missing("typed_config")) };
    if any.type_url == HttpConnectionManager::type_url() {
        Ok(Filter::Http(Arc::new(HttpConfig::compile(unpack(&any)?, direction)?)))
    } else if any.type_url == TcpProxy::type_url() {
        Ok(Filter::Tcp(Arc::new(TcpConfig::compile(unpack(&any)?, direction)?)))
    } else {
        Err(Invalid::Unsupported(format!("network filter {:?} of {}", filter.name, any.type_url)))
    }
}

impl HttpConfig {
    fn compile(mut wire: HttpConnectionManager, direction: Direction) -> Result<Self, Invalid> {
        let common = wire.common_http_protocol_options.take().unwrap_or_default();
        let config = Self {
            routes: routes(wire.route_specifier.take())?,
            fault: http_filters(mem::take(&mut wire.http_filters))?,
            codec: match CodecType::try_from(mem::take(&mut wire.codec_type)) {
                Ok(CodecType::Auto) => Codec::Detect,
                Ok(CodecType::Http1) => Codec::Http1,
                Ok(CodecType::Http2) => Codec::Http2,
                _ => return Err(Invalid::Unsupported("HTTP/3".to_owned())),
            },
            websocket: upgrades(&mut wire)?,
            client_cert: client_cert(&mut wire)?,
            edge: flag(wire.use_remote_address.take()),
            keep_escaped_slashes: escaped_slashes(&mut wire)?,
            idle_timeout: optional_duration("idle_timeout", common.idle_timeout)?,
            direction,
        };
        // Paths are always normalized and slashes merged; request ids are made where they are missing.
        (wire.normalize_path, wire.generate_request_id) = (None, None);
        if optional_duration("stream_idle_timeout", wire.stream_idle_timeout.take())?.is_some() {
            return Err(Invalid::Unsupported("HttpConnectionManager.stream_idle_timeout other than 0s".to_owned()));
        }
        wire.merge_slashes = false;
        // An endpoint's `server` header always passes; the proxy names itself only where it answers itself.
        match ServerHeaderTransformation::try_from(mem::take(&mut wire.server_header_transformation)) {
            Ok(ServerHeaderTransformation::PassThrough | ServerHeaderTransformation::Overwrite) => {}
            other => return Err(Invalid::Unsupported(format!("server_header_transformation {other:?}"))),
        }
        wire.stat_prefix.clear();
        (wire.http_protocol_options, wire.http2_protocol_options) = (None, None);
        nothing_left(&wire)?;
        Ok(config)
    }
}

fn routes(wire: Option<RouteSpecifier>) -> Result<Routes, Invalid> {
    match wire {
        Some(RouteSpecifier::Rds(rds)) if !rds.route_config_name.is_empty() => {
            Ok(Routes::Named(rds.route_config_name.into()))
        }
        Some(RouteSpecifier::RouteConfig(table)) => Ok(Routes::Inline(Arc::new(RouteTable::compile(table)?))),
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(Invalid::Unsupported("scoped_routes".to_owned())),
        _ => Err(Invalid::Missing("route_specifier")),
    }
}

fn http_filters(filters: Vec<HttpFilter>) -> Result<Option<Fault>, Invalid> {
    let (mut fault, mut router) = (None, false);
    for filter in filters {
        let config = match filter.config_type {
            Some(HttpFilterConfig::TypedConfig(any)) => any,
            Some(HttpFilterConfig::ConfigDiscovery(_)) => {
                return Err(Invalid::Unsupported("HTTP filters by discovery".to_owned()));
            }
            None => Any::default(),
        };
        if config.type_url == HttpFault::type_url() {
            fault = Some(Fault::compile(unpack(&config)?)?);
        } else if config.type_url == Router::type_url() {
            router = true;
        // CORS acts by route policies only, and routes that carry one are refused.
        } else if config.type_url != Cors::type_url() && !filter.is_optional {
            return Err(Invalid::Unsupported(format!("HTTP filter {:?} of {:?}", filter.name, config.type_url)));
        }
    }
    if router { Ok(fault) } else { Err(Invalid::Missing("the router filter")) }
}

fn upgrades(wire: &mut HttpConnectionManager) -> Result<bool, Invalid> {
    let mut websocket = false;
    for upgrade in mem::take(&mut wire.upgrade_configs) {
        if !upgrade.upgrade_type.eq_ignore_ascii_case("websocket") || !upgrade.filters.is_empty() {
            return Err(Invalid::Unsupported(format!("upgrade {:?}", upgrade.upgrade_type)));
        }
        websocket = action::enabled(upgrade.enabled);
    }
    Ok(websocket)
}

fn client_cert(wire: &mut HttpConnectionManager) -> Result<ClientCert, Invalid> {
    // What is set is the URI form, whatever more the details ask for would be a certificate's contents.
    let details = wire.set_current_client_cert_details.take().unwrap_or_default();
    if details.cert || details.chain {
        return Err(Invalid::Unsupported("the certificate in x-forwarded-client-cert".to_owned()));
    }
    match ForwardClientCertDetails::try_from(mem::take(&mut wire.forward_client_cert_details)) {
        Ok(ForwardClientCertDetails::Sanitize) => Ok(ClientCert::Sanitize),
        // Appending to a claim of an authenticated peer keeps only what was proven here.
        Ok(ForwardClientCertDetails::SanitizeSet | ForwardClientCertDetails::AppendForward) => Ok(ClientCert::Set),
        other => Err(Invalid::Unsupported(format!("forward_client_cert_details {other:?}"))),
    }
}

fn escaped_slashes(wire: &mut HttpConnectionManager) -> Result<bool, Invalid> {
    match PathWithEscapedSlashesAction::try_from(mem::take(&mut wire.path_with_escaped_slashes_action)) {
        Ok(
            PathWithEscapedSlashesAction::ImplementationSpecificDefault | PathWithEscapedSlashesAction::RejectRequest,
        ) => Ok(false),
        Ok(PathWithEscapedSlashesAction::KeepUnchanged) => Ok(true),
        other => Err(Invalid::Unsupported(format!("path_with_escaped_slashes_action {other:?}"))),
    }
}

impl TcpConfig {
    fn compile(mut wire: TcpProxy, direction: Direction) -> Result<Self, Invalid> {
        let mut targets: Vec<(u64, Arc<str>)> = Vec::new();
        match wire.cluster_specifier.take().ok_or(Invalid::Missing("cluster_specifier"))? {
            ClusterSpecifier::Cluster(name) => targets.push((1, name.into())),
            ClusterSpecifier::WeightedClusters(weighted) => {
                for cluster in weighted.clusters {
                    let sum = targets.last().map_or(0, |(sum, _)| *sum) + u64::from(cluster.weight);
                    targets.push((sum, cluster.name.into()));
                }
            }
        }
        if targets.last().is_none_or(|(sum, _)| *sum == 0) {
            return Err(Invalid::bad("weighted_clusters", "weights sum to 0"));
        }
        let config =
            Self { targets, idle_timeout: optional_duration("idle_timeout", wire.idle_timeout.take())?, direction };
        wire.stat_prefix.clear();
        // One attempt is made, and the client decides about more.
        if number(wire.max_connect_attempts.take()).is_some_and(|attempts| attempts > 1) {
            return Err(Invalid::Unsupported("TcpProxy.max_connect_attempts".to_owned()));
        }
        nothing_left(&wire)?;
        Ok(config)
    }

    /// Draws a cluster by weight.
    pub(crate) fn target(&self) -> &Arc<str> {
        let total = self.targets.last().map_or(1, |(sum, _)| *sum);
        let drawn = rand::random_range(0..total);
        &self.targets[self.targets.partition_point(|(sum, _)| *sum <= drawn)].1
    }
}
