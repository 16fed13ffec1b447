//! From configuration at a revision to Envoy's resources: a pure function.
//!
//! Owns: what is generated, under which names, and what of it is taken over from one revision to the next.
//! In:   a [`Snapshot`] and a [`Proxy`].
//! Out:  a [`ProxyConfig`]: clusters, endpoints, listeners and routes, encoded.
//!
//! - Equal snapshots and proxies give equal bytes, on every member.
//! - Only upstream Envoy's own types are used: a stock Envoy takes the same configuration as our proxy.
//! - A host is compiled again only when it, its rules or its workloads changed; a resource whose bytes stay the same stays
//!   the same object, and is neither encoded nor sent again.

mod canonical;
mod cluster;
mod endpoint;
mod fault;
mod gateway;
mod inbound;
mod listener;
mod names;
mod outbound;
mod policy;
pub(crate) mod proxy;
mod resource;
mod retry;
mod route;
mod tls;
mod view;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use prost::Name;
use types::{Revision, TrustDomain};

use crate::{
    mesh::{Catalog, Rules, Snapshot},
    model::{Kind, virtual_service::VirtualService},
};
use view::{Pool, View};

pub(crate) use endpoint::TLS_MODE_LABEL;
pub(crate) use proxy::{Proxy, Role};
pub(crate) use resource::{Encoded, Named, ResourceType, Resources, named};

/// What the catalog is made of.
const CATALOG_KINDS: &[Kind] = &[Kind::Service, Kind::ServiceEntry, Kind::WorkloadEntry];
/// What clusters and endpoints are made of.
const VIEW_KINDS: &[Kind] = &[Kind::Service, Kind::ServiceEntry, Kind::WorkloadEntry, Kind::DestinationRule];

/// All that one proxy is to run at a revision.
#[derive(Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) revision: Revision,
    resources: BTreeMap<ResourceType, Resources>,
}

impl ProxyConfig {
    pub(crate) fn of(&self, of: ResourceType) -> &Resources {
        self.resources.get(&of).expect("every type is compiled")
    }
}

/// What a route table depends on beside the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RouteKey {
    role: Role,
    namespace: String,
    /// For a sidecar only those labels that some rule asks for.
    labels: BTreeMap<String, String>,
}

/// A revision of the mesh, ready to be compiled for any proxy.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) snapshot: Snapshot,
    trust_domain: TrustDomain,
    catalog: Arc<Catalog>,
    rules: Arc<Rules>,
    /// Hosts compiled so far, at this revision or an earlier one.
    pool: Mutex<Pool>,
    /// By the namespace of the client.
    views: Mutex<BTreeMap<String, Arc<View>>>,
    routes: Mutex<BTreeMap<RouteKey, Arc<Named>>>,
    /// Whether some rule asks for the client's labels; then routes differ between workloads.
    source_labels: Vec<String>,
}

impl Compiled {
    /// Indexes a snapshot. What did not change since `earlier` is taken over; the views in use are made at once.
    pub(crate) fn new(snapshot: Snapshot, trust_domain: &TrustDomain, earlier: Option<&Self>) -> Self {
        let shares = |kinds| earlier.filter(|earlier| earlier.snapshot.shares(&snapshot, kinds));
        let catalog =
            shares(CATALOG_KINDS).map_or_else(|| Arc::new(Catalog::new(&snapshot)), |old| old.catalog.clone());
        let rules =
            shares(&[Kind::DestinationRule]).map_or_else(|| Arc::new(Rules::new(&snapshot)), |old| old.rules.clone());
        let views = shares(VIEW_KINDS).map(|old| old.views.lock().clone());
        let compiled = Self {
            source_labels: source_labels(&snapshot),
            snapshot,
            trust_domain: trust_domain.clone(),
            catalog,
            rules,
            pool: Mutex::new(earlier.map(|earlier| earlier.pool.lock().clone()).unwrap_or_default()),
            routes: Mutex::default(),
            views: Mutex::new(views.clone().unwrap_or_default()),
        };
        if let (None, Some(earlier)) = (views, earlier) {
            let in_use: Vec<_> = earlier.views.lock().iter().map(|(name, view)| (name.clone(), view.clone())).collect();
            for (namespace, view) in in_use {
                compiled.view(&namespace, Some(&view));
            }
            compiled.pool.lock().forget(compiled.snapshot.revision);
        }
        compiled
    }

    pub(crate) fn revision(&self) -> Revision {
        self.snapshot.revision
    }

    /// Compiles for `proxy`, taking over what did not change since `last`, its configuration before.
    pub(crate) fn for_proxy(&self, proxy: &Proxy, last: Option<&ProxyConfig>) -> ProxyConfig {
        let view = self.view(&proxy.namespace, None);
        let own = |of: ResourceType| last.map(|last| &last.of(of).own);
        let (clusters, listeners) = match proxy.role {
            Role::Sidecar => {
                let mut listeners = outbound::listeners(&self.snapshot, &self.catalog, proxy);
                listeners.extend(inbound::listeners(&self.snapshot, &self.catalog, proxy, &self.trust_domain));
                (inbound::clusters(&self.catalog, proxy), listeners)
            }
            Role::Gateway => (Vec::new(), gateway::compile(&self.snapshot, &self.catalog, proxy).0),
        };
        let clusters = self.encode(&clusters, |cluster| &cluster.name, own(ResourceType::Cluster));
        let listeners = self.encode(&listeners, |listener| &listener.name, own(ResourceType::Listener));
        let routes = self.routes(proxy, last.map(|last| &last.of(ResourceType::Route).shared));
        let own_or_none = |of| own(of).cloned().unwrap_or_default();
        let no_shared = last.map_or_else(Arc::default, |last| last.of(ResourceType::Listener).shared.clone());
        let resources = [
            (ResourceType::Cluster, view.clusters.clone(), clusters),
            (ResourceType::Endpoints, view.endpoints.clone(), own_or_none(ResourceType::Endpoints)),
            (ResourceType::Listener, no_shared, listeners),
            (ResourceType::Route, routes, own_or_none(ResourceType::Route)),
        ];
        let resources = resources.map(|(of, shared, own)| (of, Resources { shared, own }));
        ProxyConfig { revision: self.revision(), resources: resources.into() }
    }

    fn encode<M: Name>(
        &self,
        messages: &[M],
        name: impl Fn(&M) -> &String,
        earlier: Option<&Arc<Named>>,
    ) -> Arc<Named> {
        named(messages.iter().map(|message| Encoded::new(name(message), message, self.revision())), earlier)
    }

    fn view(&self, namespace: &str, earlier: Option<&Arc<View>>) -> Arc<View> {
        if let Some(view) = self.views.lock().get(namespace) {
            return view.clone();
        }
        let inputs = view::Inputs {
            catalog: &self.catalog,
            rules: &self.rules,
            trust_domain: &self.trust_domain,
            revision: self.revision(),
        };
        let view = Arc::new(View::new(namespace, inputs, &mut self.pool.lock(), earlier));
        self.views.lock().insert(namespace.to_owned(), view.clone());
        view
    }

    fn routes(&self, proxy: &Proxy, earlier: Option<&Arc<Named>>) -> Arc<Named> {
        let key = self.route_key(proxy);
        if let Some(routes) = self.routes.lock().get(&key) {
            return routes.clone();
        }
        let tables = match proxy.role {
            Role::Sidecar => vec![outbound::http_proxy_routes(&self.snapshot, &self.catalog, proxy)],
            Role::Gateway => gateway::compile(&self.snapshot, &self.catalog, proxy).1,
        };
        let routes = self.encode(&tables, |table| &table.name, earlier);
        self.routes.lock().insert(key, routes.clone());
        routes
    }

    fn route_key(&self, proxy: &Proxy) -> RouteKey {
        let mut labels = proxy.labels.clone();
        if proxy.role == Role::Sidecar {
            labels.retain(|label, _| self.source_labels.contains(label));
        }
        RouteKey { role: proxy.role, namespace: proxy.namespace.clone(), labels }
    }
}

/// Every label of the client that some rule asks for.
fn source_labels(snapshot: &Snapshot) -> Vec<String> {
    let services = || snapshot.all::<VirtualService>().map(|(_, service)| service);
    let http = services().flat_map(|service| &service.http).flat_map(|route| &route.r#match);
    let labels = http.flat_map(|matched| matched.source_labels.keys());
    let mut labels: Vec<_> = labels.cloned().collect();
    labels.sort();
    labels.dedup();
    labels
}

#[cfg(test)]
mod tests;
