//! First contacts, and how the others are.
//!
//! - Every member greets every other one soon after it started, and now and then from there on: whoever starts later on
//!   another disk under the same id is known to it, or to somebody it asks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use openraft::{async_runtime::watch::WatchReceiver, metrics::RaftServerMetrics, type_config::alias::WatchReceiverOf};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::client::{Caught, Peers};
use crate::{MemberId, Node, types::Types};

/// How often a member that answers is greeted again.
const AGAIN: Duration = Duration::from_secs(10);

/// What the others said last, by member; only of those who answered the last greeting.
pub(crate) type Contacts = Arc<Mutex<BTreeMap<u64, Caught>>>;

/// Greets until `stop`.
pub(crate) async fn greet(
    peers: Arc<Peers>,
    server: WatchReceiverOf<Types, RaftServerMetrics<Types>>,
    contacts: Contacts,
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
    let greetings = others.iter().map(|(member, node)| async move {
        let caught = peers.greet(*member, Some(node), deadline).await;
        if let Err(error) = &caught {
            debug!(member = %MemberId(*member), %error, "cannot greet");
        }
        caught.ok().map(|caught| (*member, caught))
    });
    let caught: BTreeMap<u64, Caught> = join_all(greetings).await.into_iter().flatten().collect();
    let all = caught.len() == others.len();
    *contacts.lock() = caught;
    all
}
