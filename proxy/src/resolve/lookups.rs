//! The names of one cluster.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{task::JoinSet, time::sleep};

use super::{With, pace::Pace, resolver::Answer};
use crate::{
    config::{Dns, EndpointConfig, Pick},
    telemetry::Trouble,
};

/// The lookups of one cluster. Dropping it ends them.
pub(super) struct Lookups {
    dns: Arc<Dns>,
    found: Arc<Found>,
    _tasks: JoinSet<()>,
}

impl Lookups {
    /// Begins to ask. What `old` knows of the same names holds until they have answered.
    pub(super) fn start(cluster: &Arc<str>, dns: &Arc<Dns>, old: Option<&Self>, with: &Arc<With>) -> Self {
        let alike = |old: &&Self| (old.dns.family, old.dns.pick) == (dns.family, dns.pick);
        let old = old.filter(alike).map(|old| old.found.known.lock());
        let mut known = Known::default();
        let mut tasks = JoinSet::new();
        let hosts: BTreeSet<_> = dns.endpoints.iter().map(|endpoint| endpoint.address.host.clone()).collect();
        let names: Vec<_> = hosts.iter().filter(|host| host.parse::<IpAddr>().is_err()).cloned().collect();
        for host in hosts {
            let addresses = match host.parse() {
                Ok(address) => Some(vec![address]),
                Err(_) => old.as_ref().and_then(|old| old.addresses.get(&host).cloned().flatten()),
            };
            known.addresses.insert(host, addresses);
        }
        drop(old);
        known.compose(dns, with.endpoints_max);
        let found = Arc::new(Found { cluster: cluster.clone(), dns: dns.clone(), known: Mutex::new(known) });
        for name in names {
            tasks.spawn(keep_asking(name, found.clone(), with.clone()));
        }
        Self { dns: dns.clone(), found, _tasks: tasks }
    }

    /// Whether it asks what `dns` says, as it says.
    pub(super) fn is_for(&self, dns: &Arc<Dns>) -> bool {
        Arc::ptr_eq(&self.dns, dns) || self.dns == *dns
    }

    pub(super) fn endpoints(&self) -> Option<Arc<Vec<EndpointConfig>>> {
        self.found.known.lock().endpoints.clone()
    }
}

/// What was found of a cluster's names. The lock is held to copy, and never by a request.
struct Found {
    cluster: Arc<str>,
    dns: Arc<Dns>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// By host; `None` before the first answer.
    addresses: BTreeMap<Arc<str>, Option<Vec<IpAddr>>>,
    /// `None` while a host has no answer.
    endpoints: Option<Arc<Vec<EndpointConfig>>>,
    /// Endpoints beyond the bound.
    left_out: usize,
}

impl Known {
    /// Makes endpoints of the addresses; true when they are others than before.
    fn compose(&mut self, dns: &Dns, max: usize) -> bool {
        let Some(mut endpoints) = self.all(dns) else { return false };
        let left_out = endpoints.len().saturating_sub(max);
        endpoints.truncate(max);
        if self.endpoints.as_ref().is_some_and(|old| **old == endpoints) && left_out == self.left_out {
            return false;
        }
        (self.endpoints, self.left_out) = (Some(Arc::new(endpoints)), left_out);
        true
    }

    fn all(&self, dns: &Dns) -> Option<Vec<EndpointConfig>> {
        let (mut endpoints, mut seen) = (Vec::new(), HashSet::new());
        for endpoint in &dns.endpoints {
            let addresses = self.addresses.get(&endpoint.address.host)?.as_deref()?;
            for ip in addresses {
                let address = SocketAddr::new(*ip, endpoint.address.port);
                if seen.insert(address) {
                    endpoints.push(endpoint.at(address));
                }
            }
        }
        Some(endpoints)
    }
}

impl Found {
    /// Notes what became of a lookup: `None` is a failure, and takes nothing away.
    fn learn(&self, host: &Arc<str>, addresses: Option<Vec<IpAddr>>, with: &With) {
        let mut known = self.known.lock();
        let before = known.addresses.get(host).cloned().flatten();
        let addresses = addresses.or(before).unwrap_or_default();
        known.addresses.insert(host.clone(), Some(addresses));
        if known.compose(&self.dns, with.endpoints_max) {
            let left_out = known.left_out;
            drop(known);
            if left_out > 0 {
                tracing::warn!(cluster = %self.cluster, left_out, "more addresses than one cluster may have");
            }
            with.changed.notify_one();
        }
    }
}

/// Asks for one name until it is dropped.
async fn keep_asking(host: Arc<str>, found: Arc<Found>, with: Arc<With>) {
    let dns = found.dns.clone();
    let (mut pace, mut trouble) = (Pace::new(dns.refresh), with.telemetry.trouble(&found.cluster, &host));
    loop {
        let wait = match with.resolver.lookup(&host, dns.family).await {
            Ok(Answer::Addresses(addresses, ttl)) => {
                found.learn(&host, Some(usable(dns.pick, addresses)), &with);
                trouble.over();
                pace.answered(ttl)
            }
            Ok(Answer::Nothing) => {
                // The connections of a logical endpoint are kept, whatever its name says.
                let addresses = (dns.pick == Pick::All).then(Vec::new);
                found.learn(&host, addresses, &with);
                failed(&mut trouble, &mut pace, "the name has no address")
            }
            Err(error) => {
                found.learn(&host, None, &with);
                failed(&mut trouble, &mut pace, &error.to_string())
            }
        };
        sleep(wait).await;
    }
}

fn failed(trouble: &mut Trouble, pace: &mut Pace, reason: &str) -> std::time::Duration {
    trouble.because(reason);
    pace.failed()
}

/// The addresses that count. Sorted where all do, since servers answer in any order.
fn usable(pick: Pick, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    match pick {
        Pick::First => addresses.truncate(1),
        Pick::All => {
            addresses.sort_unstable();
            addresses.dedup();
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap as Map, time::Duration};

    use super::*;
    use crate::config::{Family, HostPort, Refresh, Workload};

    fn endpoint(host: &str, port: u16, weight: u32) -> EndpointConfig<HostPort> {
        EndpointConfig {
            address: HostPort { host: host.into(), port },
            weight,
            priority: 0,
            healthy: true,
            transport_labels: Map::new(),
            workload: Workload::default(),
        }
    }

    fn dns(endpoints: Vec<EndpointConfig<HostPort>>) -> Dns {
        let refresh =
            Refresh { rate: Duration::from_secs(5), respect_ttl: false, jitter: Duration::ZERO, failure: None };
        Dns { pick: Pick::All, family: Family::V4, refresh, endpoints }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn shown(known: &Known) -> Option<Vec<String>> {
        let endpoints = known.endpoints.as_ref()?;
        Some(endpoints.iter().map(|one| format!("{} {}", one.address, one.weight)).collect())
    }

    #[test]
    fn each_address_of_each_name_is_an_endpoint_once_all_have_answered() {
        let dns = dns(vec![endpoint("a", 80, 1), endpoint("b", 81, 3), endpoint("a", 82, 2)]);
        let mut known = Known::default();
        known.addresses.insert("a".into(), Some(ips(&["10.0.0.1", "10.0.0.2"])));
        known.addresses.insert("b".into(), None);
        assert!(!known.compose(&dns, 10));
        assert_eq!(shown(&known), None);
        known.addresses.insert("b".into(), Some(ips(&[])));
        assert!(known.compose(&dns, 10));
        let of_a = ["10.0.0.1:80 1", "10.0.0.2:80 1", "10.0.0.1:82 2", "10.0.0.2:82 2"];
        assert_eq!(shown(&known).expect("all answered"), of_a);
        known.addresses.insert("b".into(), Some(ips(&["10.0.0.1"])));
        assert!(known.compose(&dns, 10) && !known.compose(&dns, 10));
        assert_eq!(shown(&known).expect("all answered")[2], "10.0.0.1:81 3");
    }

    #[test]
    fn endpoints_are_bounded_and_counted_once() {
        let dns = dns(vec![endpoint("a", 80, 1), endpoint("b", 80, 1)]);
        let mut known = Known::default();
        known.addresses.insert("a".into(), Some(ips(&["10.0.0.1", "10.0.0.2"])));
        known.addresses.insert("b".into(), Some(ips(&["10.0.0.2", "10.0.0.3"])));
        known.compose(&dns, 10);
        assert_eq!(shown(&known).expect("all answered").len(), 3);
        known.compose(&dns, 2);
        assert_eq!((shown(&known).expect("all answered").len(), known.left_out), (2, 1));
    }

    #[test]
    fn the_order_of_an_answer_counts_only_for_a_logical_endpoint() {
        let answer = || ips(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
        assert_eq!(usable(Pick::All, answer()), ips(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(usable(Pick::First, answer()), ips(&["10.0.0.2"]));
    }
}
