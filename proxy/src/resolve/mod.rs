//! Endpoints that are told by name, found by DNS.
//!
//! Owns: the resolver, and one task for each name of each cluster whose endpoints are told by name.
//! In:   which clusters there are; the answers of name servers.
//! Out:  the endpoints of each, and a word whenever they have changed.
//!
//! - A cluster has endpoints, perhaps none, once each of its names was asked; an answer that fails is one too.
//! - A failure takes nothing away. That a name has no address is an answer, and does.
//! - A request waits for no name; what it needs of one was found before. Nothing here runs on a worker.
//! - The tasks of a cluster end when it is forgotten.

mod lookups;
mod pace;
mod resolver;

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Notify;

use self::lookups::Lookups;
pub(crate) use self::resolver::Resolver;
use crate::{
    config::{Dns, EndpointConfig},
    telemetry::Telemetry,
};

/// The names of all clusters, and what was found of them.
pub(crate) struct Names {
    with: Arc<With>,
    clusters: BTreeMap<Arc<str>, Lookups>,
}

/// What all lookups share.
struct With {
    resolver: Resolver,
    telemetry: Arc<Telemetry>,
    /// Endpoints of one cluster; more are left out.
    endpoints_max: usize,
    changed: Arc<Notify>,
}

impl Names {
    pub(crate) fn new(resolver: Resolver, telemetry: Arc<Telemetry>, endpoints_max: usize) -> Self {
        let changed = Arc::new(Notify::new());
        Self { with: Arc::new(With { resolver, telemetry, endpoints_max, changed }), clusters: BTreeMap::new() }
    }

    /// Told when endpoints have changed.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        self.with.changed.clone()
    }

    /// Finds the endpoints of a cluster from now on. What is known of its names stays known when it changes.
    pub(crate) fn find(&mut self, cluster: &Arc<str>, dns: &Arc<Dns>) {
        let old = self.clusters.get(cluster);
        if old.is_some_and(|old| old.is_for(dns)) {
            return;
        }
        let lookups = Lookups::start(cluster, dns, old, &self.with);
        self.clusters.insert(cluster.clone(), lookups);
    }

    /// The endpoints of a cluster; `None` while a name was not asked yet.
    pub(crate) fn endpoints(&self, cluster: &str, dns: &Arc<Dns>) -> Option<Arc<Vec<EndpointConfig>>> {
        self.clusters.get(cluster).filter(|lookups| lookups.is_for(dns))?.endpoints()
    }

    /// Forgets the clusters that are not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Arc<str>) -> bool) {
        self.clusters.retain(|cluster, _| keep(cluster));
    }
}
