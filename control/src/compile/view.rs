//! Clusters and endpoints as one namespace sees them.
//!
//! - A host is compiled once for all namespaces that follow the same rules for it, and again only when something that
//!   it is made of was replaced.

use std::{collections::HashMap, sync::Arc};

use types::{Revision, TrustDomain};

use super::{
    cluster, endpoint,
    names::outbound_cluster,
    policy::Merged,
    resource::{Encoded, Named, named},
};
use crate::{
    mesh::{Catalog, Host, Resolution, Rules, Stored},
    model::destination_rule::Subset,
};

/// Every cluster and its endpoints, for clients of one namespace.
#[derive(Debug)]
pub(super) struct View {
    pub(super) clusters: Arc<Named>,
    pub(super) endpoints: Arc<Named>,
}

/// What a view is made of.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) rules: &'a Rules,
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) revision: Revision,
}

/// A host compiled, with what it was compiled from.
#[derive(Debug)]
struct CompiledHost {
    declared: Arc<Stored>,
    rules: Vec<Arc<Stored>>,
    workloads: Vec<Arc<Stored>>,
    clusters: Vec<Arc<Encoded>>,
    endpoints: Vec<Arc<Encoded>>,
}

impl CompiledHost {
    /// Whether it was made from these very resources.
    fn is_of(&self, host: &Host, rules: &[Arc<Stored>]) -> bool {
        let same = |left: &[Arc<Stored>], right: &[Arc<Stored>]| {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| Arc::ptr_eq(left, right))
        };
        Arc::ptr_eq(&self.declared, &host.stored) && same(&self.rules, rules) && same(&self.workloads, &host.workloads)
    }
}

/// Hosts compiled so far, by name: mostly one of each, more where namespaces follow different rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(HashMap<String, Vec<(Revision, Arc<CompiledHost>)>>);

impl Pool {
    fn get(&mut self, host: &Host, rules: Vec<Arc<Stored>>, inputs: Inputs<'_>) -> Arc<CompiledHost> {
        let known = self.0.entry(host.name.clone()).or_default();
        if let Some((used, compiled)) = known.iter_mut().find(|(_, compiled)| compiled.is_of(host, &rules)) {
            *used = inputs.revision;
            return compiled.clone();
        }
        let compiled = Arc::new(compile_host(host, rules, inputs));
        known.push((inputs.revision, compiled.clone()));
        compiled
    }

    /// Drops what was not used at `revision`.
    pub(super) fn forget(&mut self, revision: Revision) {
        self.0.retain(|_, compiled| {
            compiled.retain(|(used, _)| *used == revision);
            !compiled.is_empty()
        });
    }
}

impl View {
    /// What clients of `namespace` see, taking over what did not change since `earlier`.
    pub(super) fn new(namespace: &str, inputs: Inputs<'_>, pool: &mut Pool, earlier: Option<&Arc<Self>>) -> Self {
        let (mut clusters, mut endpoints) = (Vec::new(), Vec::new());
        for host in inputs.catalog.seen_by(namespace) {
            let rules = inputs.rules.of(&host.name, host.namespace(), namespace);
            let compiled = pool.get(host, rules, inputs);
            clusters.extend(compiled.clusters.iter().cloned());
            endpoints.extend(compiled.endpoints.iter().cloned());
        }
        Self {
            clusters: named(clusters, earlier.map(|earlier| &earlier.clusters)),
            endpoints: named(endpoints, earlier.map(|earlier| &earlier.endpoints)),
        }
    }
}

fn compile_host(host: &Host, rules: Vec<Arc<Stored>>, inputs: Inputs<'_>) -> CompiledHost {
    let merged = Merged(&rules);
    let subsets: Vec<Option<&Subset>> = std::iter::once(None).chain(merged.subsets().into_iter().map(Some)).collect();
    let (mut clusters, mut endpoints) = (Vec::new(), Vec::new());
    for port in &host.ports {
        for subset in &subsets {
            let policy = merged.policy(port.number, *subset);
            let message = cluster::outbound(host, port, *subset, &policy, inputs.trust_domain);
            clusters.push(Encoded::new(&message.name, &message, inputs.revision));
            if host.resolution == Resolution::Static {
                let name = outbound_cluster(port.number, subset.map_or("", |subset| &subset.name), &host.name);
                let labels = subset.map(|subset| subset.labels.clone()).unwrap_or_default();
                let message = endpoint::assignment(&name, host, port, &labels);
                endpoints.push(Encoded::new(&name, &message, inputs.revision));
            }
        }
    }
    let (declared, workloads) = (host.stored.clone(), host.workloads.clone());
    CompiledHost { declared, rules, workloads, clusters, endpoints }
}
