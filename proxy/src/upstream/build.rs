//! Clusters made from their configuration, taking over what an earlier version of them holds.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use tls::{Credentials, Expect};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    Balancer, Breakers, Endpoint,
    balancer::Slot,
    endpoint::{Spec, SpecKey},
    outlier::{Verdict, may_eject},
};
use crate::{
    config::{ClusterConfig, Discovery, EndpointConfig, Peers, Pick, Transport, Workload},
    settings::Limits,
    telemetry::{Party, PartyId, Telemetry},
};

/// One xDS cluster at run time.
pub(crate) struct Cluster {
    pub(crate) config: Arc<ClusterConfig>,
    endpoints: Arc<Vec<EndpointConfig>>,
    pub(crate) balancer: Balancer,
    pub(crate) breakers: Arc<Breakers>,
    /// How telemetry names the service while no endpoint is known.
    pub(crate) party: PartyId,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.config.name)
            .field("endpoints", &self.endpoints.len())
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Counts what a request showed of an endpoint, and leaves the endpoint alone when it has failed too often.
    pub(crate) fn note(&self, endpoint: &Endpoint, verdict: Verdict) {
        let Some(outlier) = &self.config.outlier else { return };
        if !endpoint.health.note(outlier, verdict) {
            return;
        }
        let now = Instant::now();
        let ejected = self.balancer.endpoints().filter(|endpoint| endpoint.health.is_ejected(now)).count();
        if may_eject(outlier, ejected, self.endpoints.len()) {
            endpoint.health.eject(outlier, now);
            tracing::info!(cluster = %self.config.name, endpoint = %endpoint.address, "endpoint ejected");
        }
    }

    /// Counts a connection that could not be made.
    pub(crate) fn note_failure(&self, endpoint: &Endpoint) {
        self.note(endpoint, Verdict::NoResponse);
    }

    /// Closes connections that idle too long, on every worker.
    pub(crate) fn sweep(&self, now: Instant) {
        for endpoint in self.balancer.endpoints() {
            endpoint.pools.iter().for_each(|pool| pool.sweep(now, endpoint.spec.key.idle_timeout));
        }
    }

    /// The one endpoint of a cluster that goes wherever its name points, if it is also `config`'s.
    fn logical(&self, config: &ClusterConfig) -> Option<&Arc<Endpoint>> {
        match (&self.config.discovery, &config.discovery) {
            (Discovery::Dns(old), Discovery::Dns(new)) if old.pick == Pick::First && old == new => {
                self.balancer.endpoints().next()
            }
            _ => None,
        }
    }

    /// Endpoints, and how many of them are ejected, for people.
    pub(crate) fn health(&self) -> (usize, usize) {
        let now = Instant::now();
        let ejected = self.balancer.endpoints().filter(|endpoint| endpoint.health.is_ejected(now)).count();
        (self.endpoints.len(), ejected)
    }
}

/// Makes clusters.
pub(crate) struct Builder {
    credentials: Credentials,
    telemetry: Arc<Telemetry>,
    limits: Limits,
    epoch: Instant,
}

impl Builder {
    pub(crate) fn new(credentials: Credentials, telemetry: Arc<Telemetry>, limits: Limits) -> Self {
        Self { credentials, telemetry, limits, epoch: Instant::now() }
    }

    /// The cluster of this configuration; the very same object when nothing changed.
    pub(crate) fn cluster(
        &self,
        config: &Arc<ClusterConfig>,
        endpoints: &Arc<Vec<EndpointConfig>>,
        old: Option<&Arc<Cluster>>,
    ) -> Arc<Cluster> {
        if let Some(old) = old
            && (Arc::ptr_eq(&old.config, config) || old.config == *config)
            && (Arc::ptr_eq(&old.endpoints, endpoints) || old.endpoints == *endpoints)
        {
            return old.clone();
        }
        let kept: HashMap<SocketAddr, &Arc<Endpoint>> =
            old.iter().flat_map(|old| old.balancer.endpoints()).map(|endpoint| (endpoint.address, endpoint)).collect();
        let logical = old.and_then(|old| old.logical(config));
        let mut specs = HashMap::new();
        let mut priorities: BTreeMap<u32, Vec<Slot>> = BTreeMap::new();
        for wire in endpoints.iter() {
            let key = self.spec_key(config, config.transport_of(&wire.transport_labels));
            let same = |endpoint: &&Arc<Endpoint>| {
                endpoint.spec.key == key && endpoint.workload == wire.workload && endpoint.service == config.service
            };
            let endpoint = match kept.get(&wire.address).copied().or(logical).filter(same) {
                Some(kept) if kept.address == wire.address => kept.clone(),
                Some(kept) => Arc::new(kept.moved(wire.address, self.epoch)),
                None => {
                    let spec = specs.entry(key.clone()).or_insert_with(|| Arc::new(self.spec(key.clone())));
                    self.endpoint(config, wire, spec.clone())
                }
            };
            let slot = Slot { endpoint, weight: wire.weight, healthy: wire.healthy };
            priorities.entry(wire.priority).or_default().push(slot);
        }
        let party = Party { service: config.service.clone(), ..Party::default() };
        Arc::new(Cluster {
            balancer: Balancer::new(config.balance, config.panic_percent, priorities.into_values().collect()),
            breakers: old.map(|old| old.breakers.clone()).unwrap_or_default(),
            party: self.telemetry.party(party),
            config: config.clone(),
            endpoints: endpoints.clone(),
        })
    }

    fn endpoint(&self, config: &ClusterConfig, wire: &EndpointConfig, spec: Arc<Spec>) -> Arc<Endpoint> {
        let (service, workload): (_, Workload) = (config.service.clone(), wire.workload.clone());
        Arc::new(Endpoint::new(wire.address, spec, service, workload, self.telemetry.clone(), self.epoch))
    }

    fn spec_key(&self, config: &ClusterConfig, transport: &Transport) -> SpecKey {
        SpecKey {
            transport: transport.clone(),
            protocol: config.protocol,
            connect_timeout: config.connect_timeout,
            keepalive: config.keepalive,
            idle_timeout: config.idle_timeout.unwrap_or(self.limits.upstream_idle_timeout),
            idle_max: self.limits.upstream_idle_max,
            requests_per_connection: config.requests_per_connection,
            h2_streams_max: self.limits.upstream_h2_streams_max,
        }
    }

    fn spec(&self, key: SpecKey) -> Spec {
        let tls = match &key.transport {
            Transport::Plain => None,
            Transport::Tls(context) => {
                let expect = match &context.peers {
                    Peers::OneOf(peers) => Expect::OneOf(peers.clone()),
                    Peers::Any | Peers::Under(_) => Expect::AnyInTrustDomain,
                };
                let alpn: Vec<&[u8]> = context.alpn.iter().map(Vec::as_slice).collect();
                let client = tls::client_config(&self.credentials, expect, &alpn);
                let name = context.sni.clone().and_then(|sni| ServerName::try_from(sni).ok());
                // Peers are known by SPIFFE ID; the name only routes, and an address is not sent at all.
                let name = name.unwrap_or_else(|| ServerName::from(std::net::IpAddr::from([127, 0, 0, 1])));
                Some((TlsConnector::from(client), name))
            }
        };
        Spec { key, tls }
    }
}
