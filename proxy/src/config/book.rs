//! The resources that were accepted, and what of them serves.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::{
    envoy::config::{
        cluster::v3::Cluster as WireCluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
        route::v3::RouteConfiguration,
    },
    google::protobuf::Any,
};
use tokio::sync::Notify;

use super::{
    ClusterConfig, Discovery, EndpointConfig, Invalid, ListenerConfig, RouteTable, Snapshot, cluster, wire::unpack,
};
use crate::{
    resolve::Names,
    upstream::{Builder, Cluster},
};

/// The resource types that are taken, in the order in which one needs the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Cluster,
    Endpoints,
    Listener,
    Route,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Route];

    pub(crate) fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub(crate) fn of_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Whether all resources are wanted, or only those that others name.
    pub(crate) fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// Accepted resources and the objects that serve.
pub(crate) struct Book {
    builder: Builder,
    names: Names,
    /// How long one resource waits for another.
    warming: Duration,
    clusters: BTreeMap<Arc<str>, (Arc<ClusterConfig>, Instant)>,
    assignments: BTreeMap<Arc<str>, Arc<Vec<EndpointConfig>>>,
    routes: BTreeMap<Arc<str>, (Arc<RouteTable>, Instant)>,
    listeners: BTreeMap<Arc<str>, (Arc<ListenerConfig>, Instant)>,
    live: Arc<Snapshot>,
    live_listeners: BTreeMap<Arc<str>, Arc<ListenerConfig>>,
    /// Clusters that were waited for in vain; nothing waits for them again until they come.
    given_up: HashSet<Arc<str>>,
}

/// What serves from now on.
pub(crate) struct Published {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) listeners: Vec<Arc<ListenerConfig>>,
    /// When something that waits has waited long enough; publish again then.
    pub(crate) again: Option<Instant>,
}

impl Book {
    pub(crate) fn new(builder: Builder, names: Names, warming: Duration) -> Self {
        Self {
            builder,
            names,
            warming,
            clusters: BTreeMap::new(),
            assignments: BTreeMap::new(),
            routes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            live: Arc::default(),
            live_listeners: BTreeMap::new(),
            given_up: HashSet::new(),
        }
    }

    /// Takes a resource, or says why not; what was accepted before under its name then stays.
    pub(crate) fn accept(&mut self, kind: Kind, name: &str, any: &Any, now: Instant) -> Result<(), Invalid> {
        let named =
            |found: &str| if found == name { Ok(()) } else { Err(Invalid::bad("name", format!("is {found:?}"))) };
        match kind {
            Kind::Cluster => {
                let config = ClusterConfig::compile(unpack::<WireCluster>(any)?)?;
                named(&config.name)?;
                self.given_up.remove(&config.name);
                self.clusters.insert(config.name.clone(), (Arc::new(config), now));
            }
            Kind::Endpoints => {
                let wire: ClusterLoadAssignment = unpack(any)?;
                named(&wire.cluster_name)?;
                self.assignments.insert(name.into(), Arc::new(cluster::endpoints(wire)?));
            }
            Kind::Listener => {
                let config = ListenerConfig::compile(unpack::<Listener>(any)?)?;
                named(&config.name)?;
                self.listeners.insert(config.name.clone(), (Arc::new(config), now));
            }
            Kind::Route => {
                let table = RouteTable::compile(unpack::<RouteConfiguration>(any)?)?;
                named(&table.name)?;
                self.routes.insert(table.name.clone(), (Arc::new(table), now));
            }
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Cluster => drop(self.clusters.remove(name)),
            Kind::Endpoints => drop(self.assignments.remove(name)),
            Kind::Listener => drop(self.listeners.remove(name)),
            Kind::Route => drop(self.routes.remove(name)),
        }
    }

    /// The names that accepted resources need of a type that is not taken whole.
    pub(crate) fn wanted(&self, kind: Kind) -> HashSet<Arc<str>> {
        match kind {
            Kind::Endpoints => self.clusters.values().filter_map(|(config, _)| eds_name(config)).cloned().collect(),
            Kind::Route => self.listeners.values().flat_map(|(config, _)| config.route_names()).collect(),
            Kind::Cluster | Kind::Listener => HashSet::new(),
        }
    }

    /// Told when endpoints were found, and it is time to publish.
    pub(crate) fn found(&self) -> Arc<Notify> {
        self.names.changed()
    }

    /// Decides what serves now.
    pub(crate) fn publish(&mut self, now: Instant) -> Published {
        let mut again: Option<Instant> = None;
        let mut wait = |since: Instant| {
            let until = since + self.warming;
            if until > now {
                again = Some(again.map_or(until, |other| other.min(until)));
            }
            until > now
        };
        for (name, (config, _)) in &self.clusters {
            if let Discovery::Dns(dns) = &config.discovery {
                self.names.find(name, dns);
            }
        }
        let sources = Sources { builder: &self.builder, assignments: &self.assignments, names: &self.names };
        let mut clusters = live_clusters(&sources, &self.clusters, &self.live, &mut wait);
        let routes = live_routes(&self.routes, &clusters, &self.live, &mut self.given_up, &mut wait);
        let listeners = live_listeners(&self.listeners, &routes, &self.live_listeners, &mut wait);
        // A cluster that a serving table or listener names outlives its removal.
        let named = routes.values().flat_map(|table| table.clusters.iter().cloned());
        for name in named.chain(listeners.values().flat_map(|listener| listener.tcp_clusters())) {
            if let (false, Some(old)) = (clusters.contains_key(&name), self.live.clusters.get(&name)) {
                clusters.insert(name, sources.cluster(&old.config, Some(old)).unwrap_or_else(|| old.clone()));
            }
        }
        let by_name = |config: &ClusterConfig| matches!(config.discovery, Discovery::Dns(_));
        self.names.retain(|name| {
            let accepted = self.clusters.get(name).is_some_and(|(config, _)| by_name(config));
            accepted || clusters.get(name).is_some_and(|cluster| by_name(&cluster.config))
        });
        self.live = Arc::new(Snapshot { clusters, routes });
        self.live_listeners = listeners;
        Published { snapshot: self.live.clone(), listeners: self.live_listeners.values().cloned().collect(), again }
    }
}

fn eds_name(config: &Arc<ClusterConfig>) -> Option<&Arc<str>> {
    match &config.discovery {
        Discovery::Eds(name) => Some(name),
        Discovery::Static(_) | Discovery::Dns(_) => None,
    }
}

/// What clusters are made of.
struct Sources<'a> {
    builder: &'a Builder,
    assignments: &'a BTreeMap<Arc<str>, Arc<Vec<EndpointConfig>>>,
    names: &'a Names,
}

impl Sources<'_> {
    /// The cluster of this configuration; `None` while its endpoints are on their way.
    fn cluster(&self, config: &Arc<ClusterConfig>, old: Option<&Arc<Cluster>>) -> Option<Arc<Cluster>> {
        let endpoints = match &config.discovery {
            Discovery::Static(endpoints) => Some(endpoints.clone()),
            Discovery::Eds(service) => self.assignments.get(service).cloned(),
            Discovery::Dns(dns) => self.names.endpoints(&config.name, dns),
        };
        endpoints.map(|endpoints| self.builder.cluster(config, &endpoints, old))
    }
}

fn live_clusters(
    sources: &Sources<'_>,
    configs: &BTreeMap<Arc<str>, (Arc<ClusterConfig>, Instant)>,
    live: &Snapshot,
    wait: &mut impl FnMut(Instant) -> bool,
) -> HashMap<Arc<str>, Arc<Cluster>> {
    let mut clusters = HashMap::with_capacity(configs.len());
    for (name, (config, since)) in configs {
        let old = live.clusters.get(name);
        let cluster = match (sources.cluster(config, old), old) {
            (Some(cluster), _) => Some(cluster),
            (None, old) if wait(*since) => old.cloned(),
            (None, old) => Some(sources.builder.cluster(config, &Arc::default(), old)),
        };
        if let Some(cluster) = cluster {
            clusters.insert(name.clone(), cluster);
        }
    }
    clusters
}

fn live_routes(
    tables: &BTreeMap<Arc<str>, (Arc<RouteTable>, Instant)>,
    clusters: &HashMap<Arc<str>, Arc<Cluster>>,
    live: &Snapshot,
    given_up: &mut HashSet<Arc<str>>,
    wait: &mut impl FnMut(Instant) -> bool,
) -> HashMap<Arc<str>, Arc<RouteTable>> {
    let mut routes = HashMap::with_capacity(tables.len());
    for (name, (table, since)) in tables {
        let there = |name: &&Arc<str>| clusters.contains_key(*name) || live.clusters.contains_key(*name);
        let missing: Vec<_> =
            table.clusters.iter().filter(|name| !there(name) && !given_up.contains(*name)).cloned().collect();
        let chosen = match (missing.is_empty(), live.routes.get(name)) {
            (true, _) => Some(table),
            (false, old) if wait(*since) => old,
            (false, _) => {
                given_up.extend(missing);
                Some(table)
            }
        };
        if let Some(table) = chosen {
            routes.insert(name.clone(), table.clone());
        }
    }
    routes
}

fn live_listeners(
    configs: &BTreeMap<Arc<str>, (Arc<ListenerConfig>, Instant)>,
    routes: &HashMap<Arc<str>, Arc<RouteTable>>,
    live: &BTreeMap<Arc<str>, Arc<ListenerConfig>>,
    wait: &mut impl FnMut(Instant) -> bool,
) -> BTreeMap<Arc<str>, Arc<ListenerConfig>> {
    let mut listeners = BTreeMap::new();
    for (name, (config, since)) in configs {
        let ready = config.route_names().iter().all(|table| routes.contains_key(table));
        let chosen = if ready || !wait(*since) { Some(config) } else { live.get(name) };
        if let Some(listener) = chosen {
            listeners.insert(name.clone(), listener.clone());
        }
    }
    listeners
}
