//! Clusters whose endpoints are told by name, as configured. Who asks, and when, is `resolve`'s.

use std::{sync::Arc, time::Duration};

use proto::envoy::config::cluster::v3::{
    Cluster,
    cluster::{DnsLookupFamily, RefreshRate},
};

use super::{
    EndpointConfig, Invalid,
    cluster::endpoints_at,
    wire::{host_port, nothing_left, optional_duration},
};

/// How often names are asked when nothing is said. Source: Envoy's `dns_refresh_rate`.
const RATE: Duration = Duration::from_secs(5);
/// The most often. Source: Envoy.
const RATE_MIN: Duration = Duration::from_millis(1);
/// The longest wait after a failure, in first ones. Source: Envoy's `RefreshRate`.
const FAILURE_FACTOR: u32 = 10;
/// Longest DNS name, bytes.
const NAME_BYTES_MAX: usize = 253;

/// How the names of a cluster's endpoints become addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dns {
    pub(crate) pick: Pick,
    pub(crate) family: Family,
    pub(crate) refresh: Refresh,
    pub(crate) endpoints: Vec<EndpointConfig<HostPort>>,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Each is an endpoint. Envoy's `STRICT_DNS`.
    All,
    /// New connections go to the first; those that exist stay. Envoy's `LOGICAL_DNS`.
    First,
}

/// Which addresses of a name are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    /// IPv6 only where there is no IPv4.
    V4Preferred,
    V6Preferred,
    All,
}

/// When a name is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refresh {
    pub(crate) rate: Duration,
    /// An answer's time to live comes before `rate`.
    pub(crate) respect_ttl: bool,
    /// At most so much is added to each wait.
    pub(crate) jitter: Duration,
    /// First and longest wait after a failure; `rate` where absent.
    pub(crate) failure: Option<(Duration, Duration)>,
}

/// An IP address or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl Dns {
    /// Takes what is about DNS out of a cluster.
    pub(super) fn compile(pick: Pick, wire: &mut Cluster) -> Result<Self, Invalid> {
        let endpoints = endpoints_at(wire.load_assignment.take().unwrap_or_default(), |address| {
            let (host, port) = host_port(address)?;
            if host.is_empty() || host.len() > NAME_BYTES_MAX {
                return Err(Invalid::bad("address", format!("{host:?} is neither an IP address nor a DNS name")));
            }
            Ok(HostPort { host: host.into(), port })
        })?;
        if pick == Pick::First && endpoints.len() != 1 {
            return Err(Invalid::bad("load_assignment", "LOGICAL_DNS takes exactly one endpoint"));
        }
        let family = match DnsLookupFamily::try_from(std::mem::take(&mut wire.dns_lookup_family)) {
            Ok(DnsLookupFamily::Auto) => Family::V6Preferred,
            Ok(DnsLookupFamily::V4Only) => Family::V4,
            Ok(DnsLookupFamily::V6Only) => Family::V6,
            Ok(DnsLookupFamily::V4Preferred) => Family::V4Preferred,
            Ok(DnsLookupFamily::All) => Family::All,
            Err(error) => return Err(Invalid::bad("dns_lookup_family", error)),
        };
        Ok(Self { pick, family, refresh: Refresh::compile(wire)?, endpoints })
    }
}

impl Refresh {
    #[expect(deprecated, reason = "control planes still send the old forms")]
    fn compile(wire: &mut Cluster) -> Result<Self, Invalid> {
        let rate = optional_duration("dns_refresh_rate", wire.dns_refresh_rate.take())?.unwrap_or(RATE);
        if rate < RATE_MIN {
            return Err(Invalid::bad("dns_refresh_rate", "is under 1 ms"));
        }
        Ok(Self {
            rate,
            respect_ttl: std::mem::take(&mut wire.respect_dns_ttl),
            jitter: optional_duration("dns_jitter", wire.dns_jitter.take())?.unwrap_or_default(),
            failure: wire.dns_failure_refresh_rate.take().map(failure).transpose()?,
        })
    }
}

fn failure(mut wire: RefreshRate) -> Result<(Duration, Duration), Invalid> {
    let base = optional_duration("base_interval", wire.base_interval.take())?;
    let base = base.filter(|base| *base >= RATE_MIN).ok_or(Invalid::Missing("base_interval"))?;
    let max = optional_duration("max_interval", wire.max_interval.take())?;
    nothing_left(&wire)?;
    let max = max.unwrap_or_else(|| base.saturating_mul(FAILURE_FACTOR));
    if max < base {
        return Err(Invalid::bad("max_interval", "is under base_interval"));
    }
    Ok((base, max))
}

#[cfg(test)]
mod tests {
    use proto::{
        envoy::config::{
            cluster::v3::{
                UpstreamConnectionOptions,
                cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType},
            },
            core::v3::{
                Address, SocketAddress, TcpKeepalive, TypedExtensionConfig, address, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
        },
        google::protobuf::{Duration as WireDuration, UInt32Value},
    };

    use super::*;
    use crate::config::{ClusterConfig, Discovery, Keepalive};

    fn endpoint(host: &str) -> LbEndpoint {
        let address = SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(80)),
            ..Default::default()
        };
        let address = Some(Address { address: Some(address::Address::SocketAddress(address)) });
        LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address, ..Default::default() })),
            ..Default::default()
        }
    }

    fn cluster(kind: DiscoveryType, hosts: &[&str]) -> Cluster {
        let group = LocalityLbEndpoints {
            lb_endpoints: hosts.iter().map(|host| endpoint(host)).collect(),
            ..Default::default()
        };
        Cluster {
            name: "books".to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
            load_assignment: Some(ClusterLoadAssignment { endpoints: vec![group], ..Default::default() }),
            ..Default::default()
        }
    }

    fn dns(wire: Cluster) -> Result<Arc<Dns>, Invalid> {
        match ClusterConfig::compile(wire)?.discovery {
            Discovery::Dns(dns) => Ok(dns),
            other => Err(Invalid::bad("type", format!("{other:?}"))),
        }
    }

    fn refused(wire: Cluster) -> String {
        ClusterConfig::compile(wire).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_not_said_is_as_in_envoy() {
        let found = dns(cluster(DiscoveryType::StrictDns, &["a.example", "10.0.0.1"])).expect("valid");
        assert_eq!((found.pick, found.family), (Pick::All, Family::V6Preferred));
        let refresh = Refresh { rate: RATE, respect_ttl: false, jitter: Duration::ZERO, failure: None };
        assert_eq!(found.refresh, refresh);
        let hosts: Vec<_> = found.endpoints.iter().map(|one| (&*one.address.host, one.address.port)).collect();
        assert_eq!(hosts, [("a.example", 80), ("10.0.0.1", 80)]);
    }

    #[test]
    #[expect(deprecated, reason = "control planes still send the old forms")]
    fn refresh_rates_are_read_and_checked() {
        let seconds = |seconds| Some(WireDuration { seconds, nanos: 0 });
        let failing = |base, max| Cluster {
            dns_failure_refresh_rate: Some(RefreshRate { base_interval: base, max_interval: max }),
            ..cluster(DiscoveryType::LogicalDns, &["a.example"])
        };
        let limits = |wire| dns(wire).expect("valid").refresh.failure;
        assert_eq!(limits(failing(seconds(2), None)), Some((Duration::from_secs(2), Duration::from_secs(20))));
        assert_eq!(limits(failing(seconds(2), seconds(3))), Some((Duration::from_secs(2), Duration::from_secs(3))));
        assert!(refused(failing(seconds(2), seconds(1))).contains("max_interval"));
        assert!(refused(failing(None, None)).contains("base_interval"));
        let nanos = Some(WireDuration { seconds: 0, nanos: 1 });
        let often = Cluster { dns_refresh_rate: nanos, ..cluster(DiscoveryType::StrictDns, &["a.example"]) };
        assert!(refused(often).contains("dns_refresh_rate"));
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let named = |wire, named| {
            let reason = refused(wire);
            assert!(reason.contains(named), "{reason:?} does not name {named:?}");
        };
        for (kind, hosts, what) in [
            (DiscoveryType::LogicalDns, &["a.example", "b.example"][..], "exactly one endpoint"),
            (DiscoveryType::LogicalDns, &[], "exactly one endpoint"),
            (DiscoveryType::StrictDns, &[""], "DNS name"),
            (DiscoveryType::Static, &["a.example"], "no IP address"),
            (DiscoveryType::OriginalDst, &[], "ORIGINAL_DST"),
        ] {
            named(cluster(kind, hosts), what);
        }
        let mut strict = cluster(DiscoveryType::StrictDns, &["a.example"]);
        strict.typed_dns_resolver_config = Some(TypedExtensionConfig::default());
        named(strict.clone(), "typed_dns_resolver_config");
        let custom = ClusterDiscoveryType::ClusterType(CustomClusterType::default());
        strict.cluster_discovery_type = Some(custom);
        named(strict, "cluster_type");
    }

    #[test]
    fn a_keepalive_is_read_and_kept_within_what_a_socket_takes() {
        let with = |probes, time, interval| {
            let number = |value: Option<u32>| value.map(|value| UInt32Value { value });
            let tcp_keepalive = Some(TcpKeepalive {
                keepalive_probes: number(probes),
                keepalive_time: number(time),
                keepalive_interval: number(interval),
            });
            let options = UpstreamConnectionOptions { tcp_keepalive, ..Default::default() };
            Cluster { upstream_connection_options: Some(options), ..cluster(DiscoveryType::Static, &[]) }
        };
        let read = |wire| ClusterConfig::compile(wire).expect("valid").keepalive;
        let seconds = Duration::from_secs;
        let full = Keepalive { probes: Some(3), idle: Some(seconds(60)), interval: Some(seconds(5)) };
        assert_eq!(read(with(Some(3), Some(60), Some(5))), Some(full));
        assert_eq!(read(with(None, None, None)), Some(Keepalive { probes: None, idle: None, interval: None }));
        assert_eq!(read(with(None, Some(0), None)), None);
        assert_eq!(read(cluster(DiscoveryType::Static, &[])), None);
        assert!(refused(with(Some(128), None, None)).contains("keepalive_probes"));
        assert!(refused(with(None, Some(32_768), None)).contains("keepalive_time"));
        assert!(refused(with(None, None, Some(32_768))).contains("keepalive_interval"));
    }
}
