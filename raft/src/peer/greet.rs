//! First contacts, and how the others are.
//!
//! - Every member greets every other one soon after it started, and now and then from there on: whoever starts later on
//!   another disk under the same id is known to it, or to somebody it asks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use openraft::{async_runtime::watch::WatchReceiver, metrics::RaftServerMetrics, type_config::alias::WatchReceiverOf};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use types::Durations;

use super::client::{Caught, Peers};
use crate::{MemberId, Node, types::Types};

/// How often a member that answers is greeted again.
const AGAIN: Duration = Duration::from_secs(10);

/// What the others said when they were greeted.
#[derive(Debug, Default)]
pub(crate) struct Contacts {
    /// By member; only of those who answered the last greeting.
    last: Mutex<BTreeMap<u64, Caught>>,
    /// How long each member took to answer, since this one started.
    round_trips: Mutex<BTreeMap<u64, Arc<Durations>>>,
}

impl Contacts {
    /// The last greeting of these members was answered so.
    fn note(&self, greeted: &[u64], caught: BTreeMap<u64, Caught>) {
        let mut round_trips = self.round_trips.lock();
        round_trips.retain(|member, _| greeted.contains(member));
        for (member, caught) in &caught {
            let taken = round_trips.entry(*member).or_insert_with(|| Arc::new(Durations::new(Durations::NETWORK)));
            taken.record(caught.round_trip);
        }
        *self.last.lock() = caught;
    }

    pub(crate) fn last(&self) -> BTreeMap<u64, Caught> {
        self.last.lock().clone()
    }

    pub(crate) fn round_trips(&self) -> BTreeMap<u64, Arc<Durations>> {
        self.round_trips.lock().clone()
    }
}

/// Greets until `stop`.
pub(crate) async fn greet(
    peers: Arc<Peers>,
    server: WatchReceiverOf<Types, RaftServerMetrics<Types>>,
    contacts: Arc<Contacts>,
    stop: CancellationToken,
) {
    let pause = peers.config.election_timeout.min(AGAIN);
    loop {
        let others = others(&peers, &server);
        let all = contact(&peers, &others, &contacts).await;
        // Those who answered are left in peace for a while; until all did, the round is repeated soon.
        let pause = if all { AGAIN } else { pause };
        let mut server = server.clone();
        let changed = async {
            // Another member may be there now.
            let before = others.len();
            loop {
                if server.changed().await.is_err() {
                    return std::future::pending().await;
                }
                if self::others(&peers, &server).len() != before {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = changed => {}
        }
    }
}

fn others(peers: &Peers, server: &WatchReceiverOf<Types, RaftServerMetrics<Types>>) -> Vec<(u64, Node)> {
    let membership = Arc::clone(&server.borrow_watched().membership_config);
    let me = peers.config.member.0;
    membership.nodes().filter(|(member, _)| **member != me).map(|(member, node)| (*member, node.clone())).collect()
}

/// Greets all of them at once; whether all answered.
async fn contact(peers: &Peers, others: &[(u64, Node)], contacts: &Contacts) -> bool {
    let deadline = peers.config.election_timeout.min(AGAIN);
    let before = contacts.last();
    let greetings = others.iter().map(|(member, node)| {
        let (was_there, name) = (before.contains_key(member), &node.name);
        async move {
            let caught = peers.greet(*member, Some(node), deadline).await;
            let id = MemberId(*member);
            match &caught {
                Ok(_) if was_there => {}
                Ok(_) => info!(member = %id, name, "a member answers"),
                Err(error) if was_there => warn!(member = %id, name, %error, "a member answers no more"),
                Err(error) => debug!(member = %id, name, %error, "cannot greet"),
            }
            caught.ok().map(|caught| (*member, caught))
        }
    });
    let caught: BTreeMap<u64, Caught> = join_all(greetings).await.into_iter().flatten().collect();
    let all = caught.len() == others.len();
    peers.acquaintances.keep().await;
    contacts.note(&others.iter().map(|(member, _)| *member).collect::<Vec<_>>(), caught);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_is_measured_for_as_long_as_it_is_a_member() {
        let contacts = Contacts::default();
        let caught = |millis| Caught { round_trip: Duration::from_millis(millis), applied_index: 1 };
        contacts.note(&[2, 3], BTreeMap::from([(2, caught(1)), (3, caught(2))]));
        contacts.note(&[2, 3], BTreeMap::from([(2, caught(3))]));
        assert!(contacts.last().keys().eq(&[2]), "only the last greeting counts");
        let measured = |member| contacts.round_trips().get(&member).map(|taken| taken.counted());
        let [second, third] = [2, 3].map(|member| measured(member).unwrap());
        assert_eq!((second.count, second.sum, third.count), (2, Duration::from_millis(4), 1));
        contacts.note(&[3], BTreeMap::new());
        assert!(measured(2).is_none() && measured(3).is_some());
    }
}
