//! Leases do not end early.
//!
//! Owns: for each lease, the moment before which it can not have ended: its time after the call that granted or renewed it
//!       last was made.

use std::{collections::BTreeMap, time::Duration};

use crate::history::{Change, History, Told};

/// What clients were promised.
#[derive(Default)]
pub(crate) struct LeaseBook {
    /// By key, of which each hangs on a lease of its own.
    promised: BTreeMap<String, Duration>,
}

impl LeaseBook {
    /// A lease of this key was granted or renewed, by a call made at `called`.
    pub(crate) fn promise(&mut self, key: &str, called: Duration, ttl: Duration) {
        let until = self.promised.entry(key.to_owned()).or_default();
        *until = (*until).max(called + ttl);
    }

    /// Somebody ends the lease of this key on purpose.
    pub(crate) fn release(&mut self, key: &str) {
        self.promised.remove(key);
    }

    /// What watchers were told of too early.
    pub(crate) fn check(&self, history: &History) -> Vec<String> {
        let mut early = Vec::new();
        for (at, told) in history.watches.iter().flat_map(|watch| &watch.told) {
            let Told::Events { events, .. } = told else { continue };
            for event in events {
                let Change::Delete(key) = &event.change else { continue };
                let told_at = Duration::from_nanos(at.ns);
                if let Some(until) = self.promised.get(key).filter(|until| told_at < **until) {
                    let revision = event.revision;
                    early.push(format!(
                        "{key} was gone at {told_at:?} (revision {revision}), but promised until {until:?}"
                    ));
                }
            }
        }
        early
    }
}
