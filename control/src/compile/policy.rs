//! The traffic policy that holds for one port of one subset, after all overlays.
//!
//! - A port's setting replaces the whole policy of its destination: what it leaves unset goes to the defaults.
//! - A subset's policy replaces block by block.

use std::sync::Arc;

use crate::{
    mesh::Stored,
    model::{
        Typed,
        destination_rule::{
            ClientTls, ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, Subset,
            TrafficPolicy,
        },
    },
};

/// What holds for a cluster; unset blocks mean the defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    pub(super) load_balancer: LoadBalancer,
    pub(super) pool: ConnectionPool,
    pub(super) outliers: Option<OutlierDetection>,
    pub(super) tls: Option<ClientTls>,
}

/// The destination rules of one host, for one client, as one.
#[derive(Clone, Copy)]
pub(super) struct Merged<'a>(pub(super) &'a [Arc<Stored>]);

impl<'a> Merged<'a> {
    fn rules(self) -> impl Iterator<Item = &'a DestinationRule> {
        self.0.iter().filter_map(|stored| DestinationRule::of(&stored.resource.spec))
    }

    /// All subsets; of those with one name the oldest counts.
    pub(super) fn subsets(self) -> Vec<&'a Subset> {
        let mut subsets = Vec::<&Subset>::new();
        for subset in self.rules().flat_map(|rule| &rule.subsets) {
            if subsets.iter().all(|earlier| earlier.name != subset.name) {
                subsets.push(subset);
            }
        }
        subsets
    }

    /// The policy for a port, of a subset or of the whole host.
    pub(super) fn policy(self, port: u16, subset: Option<&Subset>) -> Policy {
        let mut policy = Policy::default();
        if let Some(base) = self.rules().find_map(|rule| rule.traffic_policy.as_ref()) {
            policy.lay(base, port);
        }
        if let Some(own) = subset.and_then(|subset| subset.traffic_policy.as_ref()) {
            policy.lay(own, port);
        }
        policy
    }
}

impl Policy {
    fn lay(&mut self, over: &TrafficPolicy, port: u16) {
        let is_port = |setting: &&PortPolicy| setting.port.as_ref().is_some_and(|on| on.number == u32::from(port));
        if let Some(setting) = over.port_level_settings.iter().find(is_port) {
            *self = Self {
                load_balancer: setting.load_balancer.clone().unwrap_or_default(),
                pool: setting.connection_pool.clone().unwrap_or_default(),
                outliers: setting.outlier_detection.clone(),
                tls: setting.tls.clone(),
            };
            return;
        }
        if let Some(load_balancer) = &over.load_balancer {
            self.load_balancer = load_balancer.clone();
        }
        if let Some(pool) = &over.connection_pool {
            self.pool = pool.clone();
        }
        self.outliers = over.outlier_detection.clone().or(self.outliers.take());
        self.tls = over.tls.clone().or(self.tls.take());
    }
}
