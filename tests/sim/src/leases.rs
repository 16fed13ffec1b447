//! Leases end in time: no sooner than was promised, and no later than they must.
//!
//! Owns: for each lease, the moment before which its keys can not have gone: its time after the call that granted or renewed
//!       it last was made; and how long it was granted for, for when nobody keeps it any more.
//!
//! - That all keys of a lease go at once is what `history` holds any end of a lease against.

use std::{collections::BTreeMap, time::Duration};

use client::{Client, Get};
use tokio::time::{Instant, sleep};
use types::LeaseId;

use crate::{
    history::{Change, History, Told},
    stage::Stage,
};

/// How much later than it must a lease may end: there is a look for those that are due now and then, and a round to agree
/// on their end.
const LATE_MAX: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
/// All keys that hang on leases.
pub(crate) const KEYS: &str = "l";

/// What clients asked for, and were promised.
#[derive(Default)]
pub(crate) struct LeaseBook {
    asked: BTreeMap<LeaseId, Duration>,
    /// By key, of which none hangs on two leases.
    promised: BTreeMap<String, Duration>,
}

impl LeaseBook {
    /// Somebody is about to ask for a lease.
    pub(crate) fn ask(&mut self, lease: LeaseId, ttl: Duration) {
        self.asked.insert(lease, ttl);
    }

    /// A lease of these keys was granted or renewed, by a call made at `called`.
    pub(crate) fn promise(&mut self, keys: &[String], called: Duration, ttl: Duration) {
        for key in keys {
            let until = self.promised.entry(key.clone()).or_default();
            *until = (*until).max(called + ttl);
        }
    }

    /// Somebody ends the lease of these keys on purpose.
    pub(crate) fn release(&mut self, keys: &[String]) {
        self.promised.retain(|key, _| !keys.contains(key));
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

    /// How long a lease may still be there when nobody keeps it and nobody else takes the lead. A leader gives each lease
    /// all of its time when it takes up their timing, and an election timeout more.
    fn stays(&self, lease: LeaseId, election_timeout: Duration) -> Option<Duration> {
        Some(*self.asked.get(&lease)? + election_timeout + LATE_MAX)
    }
}

/// Returns once no lease is left, where nobody keeps any and everybody serves. Each must end in its time and a bound, counted
/// from now or from the last change of leaders, and none of its keys outlives it.
///
/// # Errors
/// Which lease, or which keys, did not end; that nobody could say by `until`.
pub(crate) async fn all_end(stage: &Stage, until: Instant) -> Result<(), String> {
    let client = stage.client(0);
    let (mut term, mut since) = (0, Instant::now());
    loop {
        match left(&client).await {
            Ok(left) if left.leases.is_empty() && left.keys.is_empty() => return Ok(()),
            Ok(left) => {
                if left.term > term {
                    (term, since) = (left.term, Instant::now());
                }
                overdue(stage, &left, since.elapsed())?;
            }
            Err(error) if Instant::now() > until => return Err(format!("nobody tells of leases: {error}")),
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// What there is of leases.
struct Left {
    /// The leader's.
    term: u64,
    leases: Vec<LeaseId>,
    /// Each with its lease, as they were after `leases`.
    keys: Vec<(String, Option<LeaseId>)>,
}

async fn left(client: &Client) -> Result<Left, client::ClientError> {
    let leases = client.leases().await?;
    let keys = client.get(Get::prefix(KEYS)).await?;
    let key = |kv: &client::KeyValue| (String::from_utf8_lossy(&kv.key).into_owned(), kv.lease);
    let term = leases.header.raft_term.max(keys.header.raft_term);
    Ok(Left { term, leases: leases.leases, keys: keys.kvs.iter().map(key).collect() })
}

/// Refuses what should have ended, `spent` after nobody kept anything any more.
fn overdue(stage: &Stage, left: &Left, spent: Duration) -> Result<(), String> {
    let election_timeout = stage.plan().election_timeout;
    for &lease in &left.leases {
        let stays = stage.leases().borrow().stays(lease, election_timeout);
        let stays = stays.ok_or_else(|| format!("nobody asked for the lease {lease}"))?;
        if spent > stays {
            return Err(format!(
                "the lease {lease}, which nobody keeps, is still there after {spent:?}, not {stays:?}"
            ));
        }
    }
    let outlives = |lease: &Option<LeaseId>| lease.is_none_or(|lease| !left.leases.contains(&lease));
    match left.keys.iter().find(|(_, lease)| outlives(lease)) {
        Some((key, lease)) => {
            Err(format!("{key} is there {spent:?} after all was calm, and its lease {lease:?} is not"))
        }
        None => Ok(()),
    }
}
