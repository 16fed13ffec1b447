//! Which destination rules hold for whom.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    host::{ROOT_NAMESPACE, covers, full_name, more_specific, visible},
    snapshot::{Snapshot, Stored},
};
use crate::model::{Typed, destination_rule::DestinationRule};

/// The destination rules of a snapshot, by namespace.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The oldest first, each with its host in full.
    namespaces: BTreeMap<String, Vec<(String, Arc<Stored>)>>,
}

impl Rules {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut namespaces = BTreeMap::<String, Vec<_>>::new();
        for (stored, rule) in snapshot.oldest_first::<DestinationRule>() {
            let namespace = &stored.id().namespace;
            let host = full_name(&rule.host, namespace);
            namespaces.entry(namespace.clone()).or_default().push((host, stored.clone()));
        }
        Self { namespaces }
    }

    /// The rules that a client in `client` follows for `host`, a service of `owner`: those of the first of the client's,
    /// the service's and the root namespace that has some, for the most specific host. The oldest first.
    pub(crate) fn of(&self, host: &str, owner: &str, client: &str) -> Vec<Arc<Stored>> {
        [client, owner, ROOT_NAMESPACE]
            .into_iter()
            .map(|namespace| self.within(namespace, host, client))
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    fn within(&self, namespace: &str, host: &str, client: &str) -> Vec<Arc<Stored>> {
        let rules = self.namespaces.get(namespace).into_iter().flatten();
        let fits: Vec<_> = rules
            .filter(|(pattern, stored)| {
                let rule = DestinationRule::of(&stored.resource.spec);
                covers(pattern, host) && rule.is_some_and(|rule| visible(&rule.export_to, namespace, client))
            })
            .collect();
        let Some((best, _)) = fits.iter().min_by(|(left, _), (right, _)| more_specific(left, right)) else {
            return Vec::new();
        };
        fits.iter().filter(|(pattern, _)| pattern == best).map(|(_, stored)| stored.clone()).collect()
    }
}
