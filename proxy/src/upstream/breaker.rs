//! Circuit breakers: counts that may not pass their limits.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    Connections,
    Pending,
    Requests,
    Retries,
}

/// The counts of one cluster, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Breakers([AtomicU32; 4]);

/// One unit of a resource, given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    breakers: Arc<Breakers>,
    resource: Resource,
}

impl Breakers {
    /// Takes one unit unless `limit` are taken.
    pub(crate) fn acquire(self: &Arc<Self>, resource: Resource, limit: u32) -> Option<Permit> {
        let permit = self.acquire_regardless(resource);
        (self.active(resource) <= limit).then_some(permit)
    }

    /// Takes one unit past any limit.
    pub(crate) fn acquire_regardless(self: &Arc<Self>, resource: Resource) -> Permit {
        self.0[resource as usize].fetch_add(1, Relaxed);
        Permit { breakers: self.clone(), resource }
    }

    pub(crate) fn active(&self, resource: Resource) -> u32 {
        self.0[resource as usize].load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breakers.0[self.resource as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_what_is_dropped_is_free_again() {
        let breakers = Arc::new(Breakers::default());
        let first = breakers.acquire(Resource::Requests, 1).expect("free");
        assert!(breakers.acquire(Resource::Requests, 1).is_none());
        assert!(breakers.acquire(Resource::Retries, 1).is_some());
        drop(first);
        assert_eq!(breakers.active(Resource::Requests), 0);
        assert!(breakers.acquire(Resource::Requests, 1).is_some());
        assert!(breakers.acquire(Resource::Requests, 0).is_none());
    }
}
