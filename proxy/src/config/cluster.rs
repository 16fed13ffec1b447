//! xDS clusters and their endpoints, as configured. What they do at run time is `upstream`'s.

use std::{collections::BTreeMap, mem, net::SocketAddr, sync::Arc, time::Duration};

use proto::envoy::{
    config::{
        cluster::v3::{
            CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
            circuit_breakers::Thresholds as WireThresholds,
            cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbConfig, LbPolicy},
        },
        core::v3::{Address, HealthStatus, Metadata},
        endpoint::v3::{ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier},
    },
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
    },
};
use proto::google::protobuf::{UInt32Value, Value, value::Kind};

use super::{
    dns::{Dns, Pick},
    tls_context::{self, Transport},
    wire::{
        Invalid, Within, duration, flag, metadata_strings, nothing_left, number, optional_duration, socket_address,
        struct_strings, unpack,
    },
};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Envoy's default when a cluster names no connect timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Envoy's defaults of circuit breakers.
const CONNECTIONS_MAX: u32 = 1_024;
const RETRIES_MAX: u32 = 3;
/// The most that Linux takes of a TCP keepalive: probes, and seconds.
const KEEPALIVE_PROBES_MAX: u32 = 127;
const KEEPALIVE_SECONDS_MAX: u32 = 32_767;

/// One xDS cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterConfig {
    pub(crate) name: Arc<str>,
    pub(crate) discovery: Discovery,
    pub(crate) balance: Balance,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) requests_per_connection: Option<u32>,
    pub(crate) protocol: Protocol,
    /// The first whose labels an endpoint carries decides how it is spoken to.
    pub(crate) transport_matches: Vec<TransportMatch>,
    pub(crate) transport: Transport,
    pub(crate) thresholds: Thresholds,
    pub(crate) outlier: Option<Outlier>,
    /// Below this share of healthy endpoints, percent, health is ignored.
    pub(crate) panic_percent: u32,
    pub(crate) service: Service,
}

/// Labels, and how an endpoint that carries them is spoken to.
type TransportMatch = (BTreeMap<String, String>, Transport);

/// Where the endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Discovery {
    /// By EDS, under this name.
    Eds(Arc<str>),
    Static(Arc<Vec<EndpointConfig>>),
    /// By name.
    Dns(Arc<Dns>),
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    RoundRobin,
    /// The least busy of so many drawn ones.
    LeastRequest(u32),
    Random,
}

/// Which HTTP an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// What the client speaks.
    Downstream,
    /// What TLS negotiates; HTTP/1.1 without TLS.
    Negotiated,
}

/// TCP's probes on a connection that is silent; what is absent is as the system has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keepalive {
    pub(crate) probes: Option<u32>,
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
}

/// Circuit breakers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    pub(crate) connections: u32,
    pub(crate) pending: u32,
    pub(crate) requests: u32,
    pub(crate) retries: u32,
    /// Share of active requests, percent, and the number always allowed; in place of `retries`.
    pub(crate) retry_budget: Option<(f64, u32)>,
}

/// When an endpoint that fails is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlier {
    pub(crate) consecutive_5xx: Option<u32>,
    pub(crate) consecutive_gateway: Option<u32>,
    pub(crate) interval: Duration,
    pub(crate) base_ejection: Duration,
    pub(crate) max_ejection: Duration,
    pub(crate) max_ejection_percent: u32,
    pub(crate) always_eject_one: bool,
}

/// The service that a cluster stands for, as telemetry names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Service {
    pub(crate) host: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// One endpoint; `A` says where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointConfig<A = SocketAddr> {
    pub(crate) address: A,
    pub(crate) weight: u32,
    pub(crate) priority: u32,
    pub(crate) healthy: bool,
    /// What transport matches are held against.
    pub(crate) transport_labels: BTreeMap<String, String>,
    pub(crate) workload: Workload,
}

/// The workload behind an endpoint, as telemetry names it; empty fields are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) app: String,
    pub(crate) version: String,
    pub(crate) cluster: String,
}

impl ClusterConfig {
    #[expect(deprecated, reason = "control planes still send the old forms")]
    pub(crate) fn compile(mut wire: Cluster) -> Result<Self, Invalid> {
        let name: Arc<str> = mem::take(&mut wire.name).into();
        let options = http_options(&mut wire)?;
        let config = Self {
            discovery: discovery(&name, &mut wire)?,
            balance: balance(&mut wire)?,
            connect_timeout: optional_duration("connect_timeout", wire.connect_timeout.take())?
                .unwrap_or(CONNECT_TIMEOUT),
            keepalive: keepalive(wire.upstream_connection_options.take())?,
            idle_timeout: options.idle_timeout,
            requests_per_connection: number(wire.max_requests_per_connection.take())
                .or(options.requests_per_connection)
                .filter(|max| *max > 0),
            protocol: options.protocol,
            transport_matches: transport_matches(&mut wire)?,
            transport: wire.transport_socket.take().map_or(Ok(Transport::Plain), tls_context::upstream)?,
            thresholds: thresholds(wire.circuit_breakers.take())?,
            outlier: wire.outlier_detection.take().map(outlier).transpose()?,
            panic_percent: common_lb(wire.common_lb_config.take())?,
            service: service(wire.metadata.take().as_ref()),
            name,
        };
        wire.alt_stat_name.clear();
        nothing_left(&wire)?;
        Ok(config)
    }

    /// How an endpoint with these labels is spoken to.
    pub(crate) fn transport_of(&self, labels: &BTreeMap<String, String>) -> &Transport {
        let carried =
            |wanted: &BTreeMap<String, String>| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        let found = self.transport_matches.iter().find(|(wanted, _)| carried(wanted));
        found.map_or(&self.transport, |(_, transport)| transport)
    }
}

fn discovery(name: &Arc<str>, wire: &mut Cluster) -> Result<Discovery, Invalid> {
    let kind = match wire.cluster_discovery_type.take() {
        // Envoy's default type is STATIC.
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(kind).map_err(|_| Invalid::Unsupported(format!("Cluster.type {kind}")))?
        }
        Some(ClusterDiscoveryType::ClusterType(_)) => {
            return Err(Invalid::Unsupported("Cluster.cluster_type".to_owned()));
        }
    };
    match kind {
        DiscoveryType::Eds => {
            let eds = wire.eds_cluster_config.take().unwrap_or_default();
            let service = if eds.service_name.is_empty() { name.clone() } else { eds.service_name.into() };
            Ok(Discovery::Eds(service))
        }
        DiscoveryType::Static => {
            Ok(Discovery::Static(Arc::new(endpoints(wire.load_assignment.take().unwrap_or_default())?)))
        }
        DiscoveryType::StrictDns => Ok(Discovery::Dns(Arc::new(Dns::compile(Pick::All, wire)?))),
        DiscoveryType::LogicalDns => Ok(Discovery::Dns(Arc::new(Dns::compile(Pick::First, wire)?))),
        DiscoveryType::OriginalDst => Err(Invalid::Unsupported(format!("Cluster.type {}", kind.as_str_name()))),
    }
}

fn keepalive(wire: Option<UpstreamConnectionOptions>) -> Result<Option<Keepalive>, Invalid> {
    let mut options = wire.unwrap_or_default();
    let keepalive = options.tcp_keepalive.take();
    nothing_left(&options)?;
    let Some(wire) = keepalive else { return Ok(None) };
    let within = |field, value: Option<UInt32Value>, max| match number(value) {
        Some(value) if value > max => Err(Invalid::bad(field, format!("is over {max}"))),
        value => Ok(value),
    };
    let probes = within("keepalive_probes", wire.keepalive_probes, KEEPALIVE_PROBES_MAX)?;
    let idle = within("keepalive_time", wire.keepalive_time, KEEPALIVE_SECONDS_MAX)?;
    let interval = within("keepalive_interval", wire.keepalive_interval, KEEPALIVE_SECONDS_MAX)?;
    let off = [probes, idle, interval].contains(&Some(0));
    let seconds = |value: Option<u32>| value.map(|value| Duration::from_secs(value.into()));
    Ok((!off).then(|| Keepalive { probes, idle: seconds(idle), interval: seconds(interval) }))
}

fn balance(wire: &mut Cluster) -> Result<Balance, Invalid> {
    let policy = LbPolicy::try_from(mem::take(&mut wire.lb_policy));
    match (policy, wire.lb_config.take()) {
        (Ok(LbPolicy::RoundRobin), None) => Ok(Balance::RoundRobin),
        (Ok(LbPolicy::Random), None) => Ok(Balance::Random),
        (Ok(LbPolicy::LeastRequest), None) => Ok(Balance::LeastRequest(2)),
        (Ok(LbPolicy::LeastRequest), Some(LbConfig::LeastRequestLbConfig(mut config))) => {
            let choices = number(config.choice_count.take()).unwrap_or(2).clamp(2, 100);
            nothing_left(&config)?;
            Ok(Balance::LeastRequest(choices))
        }
        (policy, config) => Err(Invalid::Unsupported(format!("Cluster.lb_policy {policy:?} with {config:?}"))),
    }
}

struct HttpOptions {
    protocol: Protocol,
    idle_timeout: Option<Duration>,
    requests_per_connection: Option<u32>,
}

fn http_options(wire: &mut Cluster) -> Result<HttpOptions, Invalid> {
    let Some(any) = wire.typed_extension_protocol_options.remove(HTTP_OPTIONS) else {
        return Ok(HttpOptions { protocol: Protocol::Http1, idle_timeout: None, requests_per_connection: None });
    };
    let mut options: HttpProtocolOptions = unpack(&any)?;
    let mut common = options.common_http_protocol_options.take().unwrap_or_default();
    let idle_timeout = optional_duration("idle_timeout", common.idle_timeout.take())?;
    let requests_per_connection = number(common.max_requests_per_connection.take());
    nothing_left(&common)?;
    let protocol = match options.upstream_protocol_options.take() {
        None => Protocol::Http1,
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
            None | Some(ProtocolConfig::HttpProtocolOptions(_)) => Protocol::Http1,
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => Protocol::Http2,
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return Err(Invalid::Unsupported("HTTP/3".to_owned()));
            }
        },
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => Protocol::Downstream,
        Some(UpstreamProtocolOptions::AutoConfig(_)) => Protocol::Negotiated,
    };
    nothing_left(&options)?;
    Ok(HttpOptions { protocol, idle_timeout, requests_per_connection })
}

fn transport_matches(wire: &mut Cluster) -> Result<Vec<TransportMatch>, Invalid> {
    let matches = mem::take(&mut wire.transport_socket_matches).into_iter();
    let compile = matches.map(|wire| {
        let labels = wire.r#match.as_ref().map(struct_strings).unwrap_or_default();
        if labels.len() != wire.r#match.map_or(0, |labels| labels.fields.len()) {
            return Err(Invalid::Unsupported("a transport socket match by more than strings".to_owned()));
        }
        let socket = wire.transport_socket.ok_or(Invalid::Missing("transport_socket"))?;
        Ok((labels, tls_context::upstream(socket).within(|| format!("transport_socket_matches {:?}", wire.name))?))
    });
    compile.collect()
}

fn thresholds(wire: Option<CircuitBreakers>) -> Result<Thresholds, Invalid> {
    let mut breakers = wire.unwrap_or_default();
    let mut wire = match breakers.thresholds.len() {
        0 => WireThresholds::default(),
        1 => breakers.thresholds.remove(0),
        _ => return Err(Invalid::Unsupported("thresholds of more than one priority".to_owned())),
    };
    nothing_left(&breakers)?;
    let budget = wire.retry_budget.take().map(|budget| {
        let percent = budget.budget_percent.map_or(20.0, |percent| percent.value);
        (percent, number(budget.min_retry_concurrency).unwrap_or(3))
    });
    let thresholds = Thresholds {
        connections: number(wire.max_connections.take()).unwrap_or(CONNECTIONS_MAX),
        pending: number(wire.max_pending_requests.take()).unwrap_or(CONNECTIONS_MAX),
        requests: number(wire.max_requests.take()).unwrap_or(CONNECTIONS_MAX),
        retries: number(wire.max_retries.take()).unwrap_or(RETRIES_MAX),
        retry_budget: budget,
    };
    wire.track_remaining = false;
    nothing_left(&wire)?;
    Ok(thresholds)
}

fn outlier(mut wire: OutlierDetection) -> Result<Outlier, Invalid> {
    let enforced = |percent: Option<u32>, default: u32| match percent.unwrap_or(default) {
        0 => Ok(false),
        100 => Ok(true),
        _ => Err(Invalid::Unsupported("outlier enforcement other than 0 and 100 percent".to_owned())),
    };
    let five = number(wire.consecutive_5xx.take()).unwrap_or(5);
    let gateway = number(wire.consecutive_gateway_failure.take()).unwrap_or(5);
    let enforce_five = enforced(number(wire.enforcing_consecutive_5xx.take()), 100)?;
    let enforce_gateway = enforced(number(wire.enforcing_consecutive_gateway_failure.take()), 0)?;
    if number(wire.enforcing_success_rate.take()).unwrap_or(0) != 0 {
        return Err(Invalid::Unsupported("OutlierDetection.enforcing_success_rate".to_owned()));
    }
    let seconds = |wire: Option<_>, field, default| {
        optional_duration(field, wire).map(|given| given.unwrap_or(Duration::from_secs(default)))
    };
    let base_ejection = seconds(wire.base_ejection_time.take(), "base_ejection_time", 30)?;
    let outlier = Outlier {
        consecutive_5xx: Some(five).filter(|count| enforce_five && *count > 0),
        consecutive_gateway: Some(gateway).filter(|count| enforce_gateway && *count > 0),
        interval: seconds(wire.interval.take(), "interval", 10)?,
        base_ejection,
        max_ejection: seconds(wire.max_ejection_time.take(), "max_ejection_time", 300)?.max(base_ejection),
        max_ejection_percent: number(wire.max_ejection_percent.take()).unwrap_or(10),
        always_eject_one: flag(wire.always_eject_one_host.take()),
    };
    nothing_left(&wire)?;
    Ok(outlier)
}

/// The panic threshold, percent.
fn common_lb(wire: Option<CommonLbConfig>) -> Result<u32, Invalid> {
    let mut wire = wire.unwrap_or_default();
    let percent = wire.healthy_panic_threshold.take().map_or(50.0, |percent| percent.value);
    wire.update_merge_window = None;
    nothing_left(&wire)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100")]
    let percent = percent.clamp(0.0, 100.0) as u32;
    Ok(percent)
}

/// The first service of Istio's `istio` metadata.
fn service(metadata: Option<&Metadata>) -> Service {
    let services = metadata.and_then(|metadata| metadata.filter_metadata.get("istio")?.fields.get("services"));
    let Some(Value { kind: Some(Kind::ListValue(list)) }) = services else { return Service::default() };
    let Some(Value { kind: Some(Kind::StructValue(first)) }) = list.values.first() else { return Service::default() };
    let mut fields = struct_strings(first);
    let mut take = |name| fields.remove(name).unwrap_or_default();
    Service { host: take("host"), name: take("name"), namespace: take("namespace") }
}

/// Reads a load assignment whose endpoints are IP addresses.
pub(crate) fn endpoints(wire: ClusterLoadAssignment) -> Result<Vec<EndpointConfig>, Invalid> {
    endpoints_at(wire, socket_address)
}

/// Reads a load assignment; `place` reads where an endpoint is.
pub(super) fn endpoints_at<A>(
    mut wire: ClusterLoadAssignment,
    place: impl Fn(Option<Address>) -> Result<A, Invalid>,
) -> Result<Vec<EndpointConfig<A>>, Invalid> {
    let mut endpoints = Vec::new();
    for locality in mem::take(&mut wire.endpoints) {
        if locality.lb_config.is_some() {
            return Err(Invalid::Unsupported("LocalityLbEndpoints.lb_config".to_owned()));
        }
        for endpoint in locality.lb_endpoints {
            endpoints.push(endpoint_config(endpoint, locality.priority, &place)?);
        }
    }
    wire.cluster_name.clear();
    if let Some(mut policy) = wire.policy.take() {
        policy.overprovisioning_factor = None;
        nothing_left(&policy)?;
    }
    nothing_left(&wire)?;
    Ok(endpoints)
}

fn endpoint_config<A>(
    wire: LbEndpoint,
    priority: u32,
    place: impl Fn(Option<Address>) -> Result<A, Invalid>,
) -> Result<EndpointConfig<A>, Invalid> {
    let Some(HostIdentifier::Endpoint(endpoint)) = wire.host_identifier else {
        return Err(Invalid::Missing("endpoint"));
    };
    let health = HealthStatus::try_from(wire.health_status).map_err(|error| Invalid::bad("health_status", error))?;
    let metadata = wire.metadata.as_ref();
    Ok(EndpointConfig {
        address: place(endpoint.address)?,
        weight: number(wire.load_balancing_weight).unwrap_or(1).max(1),
        priority,
        healthy: matches!(health, HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded),
        transport_labels: metadata_strings(metadata, "envoy.transport_socket_match"),
        workload: Workload::parse(metadata_strings(metadata, "istio").remove("workload").as_deref()),
    })
}

impl<A> EndpointConfig<A> {
    /// The same endpoint, found at an address.
    pub(crate) fn at(&self, address: SocketAddr) -> EndpointConfig {
        EndpointConfig {
            address,
            weight: self.weight,
            priority: self.priority,
            healthy: self.healthy,
            transport_labels: self.transport_labels.clone(),
            workload: self.workload.clone(),
        }
    }
}

impl Workload {
    /// Reads Istio's `NAME;NAMESPACE;APP;VERSION;CLUSTER`.
    fn parse(text: Option<&str>) -> Self {
        let mut parts = text.unwrap_or_default().split(';').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { name: next(), namespace: next(), app: next(), version: next(), cluster: next() }
    }
}

/// A route's timeout: Envoy's default when it is absent, none when it is 0.
pub(crate) fn route_timeout(wire: Option<proto::google::protobuf::Duration>) -> Result<Option<Duration>, Invalid> {
    match wire {
        None => Ok(Some(Duration::from_secs(15))),
        Some(wire) => Ok(Some(duration("timeout", wire)?).filter(|timeout| !timeout.is_zero())),
    }
}
