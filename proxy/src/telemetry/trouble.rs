//! Names that are asked for in vain.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::Telemetry;

/// What is in trouble now, by the number of the task that has it.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    last: u64,
    current: BTreeMap<u64, Told>,
}

/// A name without an answer, as people are told of it.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) cluster: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) reason: String,
}

impl Troubles {
    pub(super) fn list(&self) -> Vec<Told> {
        self.0.lock().current.values().cloned().collect()
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().current.len()
    }
}

/// The trouble with one name of one cluster. Logged when it begins and when it is over; shown while it lasts.
pub(crate) struct Trouble {
    telemetry: Arc<Telemetry>,
    number: u64,
    cluster: Arc<str>,
    name: Arc<str>,
    lasts: bool,
}

impl Telemetry {
    /// Follows the lookups of one name.
    pub(crate) fn trouble(self: &Arc<Self>, cluster: &Arc<str>, name: &Arc<str>) -> Trouble {
        let mut troubles = self.troubles.0.lock();
        troubles.last += 1;
        let (number, telemetry) = (troubles.last, self.clone());
        Trouble { telemetry, number, cluster: cluster.clone(), name: name.clone(), lasts: false }
    }
}

impl Trouble {
    /// A lookup gave no address.
    pub(crate) fn because(&mut self, reason: &str) {
        self.telemetry.gauges.dns_failures.add();
        let (cluster, name) = (self.cluster.clone(), self.name.clone());
        if self.lasts {
            tracing::debug!(%cluster, %name, reason, "name still not resolved");
        } else {
            tracing::warn!(%cluster, %name, reason, "name not resolved");
        }
        self.lasts = true;
        let told = Told { cluster, name, reason: reason.to_owned() };
        self.telemetry.troubles.0.lock().current.insert(self.number, told);
    }

    /// A lookup gave an address.
    pub(crate) fn over(&mut self) {
        if self.lasts {
            tracing::info!(cluster = %self.cluster, name = %self.name, "name resolved again");
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.lasts = false;
        self.telemetry.troubles.0.lock().current.remove(&self.number);
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        if self.lasts {
            self.forget();
        }
    }
}
