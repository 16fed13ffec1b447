//! The proxies that are connected to this member, and how far each has come.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use types::SpiffeId;

use super::session::{Progress, Protocol};
use crate::compile::ResourceType;

/// What is known of a connected proxy.
#[derive(Clone, Debug)]
pub(crate) struct ProxyStatus {
    /// The xDS node id; empty until the first request.
    pub(crate) node: String,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) client_version: String,
    pub(crate) protocol: Protocol,
    pub(crate) types: BTreeMap<ResourceType, Progress>,
}

/// All connected proxies. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<Mutex<Proxies>>);

#[derive(Debug, Default)]
struct Proxies {
    entered: u64,
    proxies: BTreeMap<u64, ProxyStatus>,
}

impl Registry {
    pub(super) fn enter(&self, spiffe_id: SpiffeId, protocol: Protocol) -> Entry {
        let (node, client_version, types) = (String::new(), String::new(), BTreeMap::new());
        let status = ProxyStatus { node, spiffe_id, client_version, protocol, types };
        let mut proxies = self.0.lock();
        proxies.entered += 1;
        let key = proxies.entered;
        proxies.proxies.insert(key, status);
        Entry { registry: self.clone(), key }
    }

    /// Every proxy that is connected now, ordered by node id.
    pub(crate) fn list(&self) -> Vec<ProxyStatus> {
        let mut all: Vec<_> = self.0.lock().proxies.values().cloned().collect();
        all.sort_by(|left, right| left.node.cmp(&right.node));
        all
    }
}

/// A proxy's place in the registry, left when its stream ends.
#[derive(Debug)]
pub(super) struct Entry {
    registry: Registry,
    key: u64,
}

impl Entry {
    fn with(&self, change: impl FnOnce(&mut ProxyStatus)) {
        if let Some(status) = self.registry.0.lock().proxies.get_mut(&self.key) {
            change(status);
        }
    }

    pub(super) fn introduce(&self, node: &str, client_version: &str) {
        self.with(|status| (status.node, status.client_version) = (node.to_owned(), client_version.to_owned()));
    }

    pub(super) fn update<'a>(&self, progress: impl Iterator<Item = (ResourceType, &'a Progress)>) {
        self.with(|status| {
            for (of, progress) in progress {
                if status.types.get(&of) != Some(progress) {
                    status.types.insert(of, progress.clone());
                }
            }
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.0.lock().proxies.remove(&self.key);
    }
}
