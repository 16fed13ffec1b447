//! History compacted by itself.
//!
//! Source: etcd `server/etcdserver/api/v3compactor`.
//!
//! - Every member looks on, and only the one that leads compacts: a new leader knows what to keep.
//! - By time: a revision is forgotten once it has been the past for the whole retention. By revisions: every five minutes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use store::{AutoCompaction, Command, Compact};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{auth::Caller, core::Core};

/// Between two compactions by revisions.
const BY_REVISIONS: Duration = Duration::from_mins(5);
/// Longest time between two compactions by time.
const PERIOD_MAX: Duration = Duration::from_hours(1);
/// Revisions remembered in one such time.
const SAMPLES: u32 = 10;

/// Compacts as it is configured while this member leads, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let Some(mode) = core.config.store.auto_compaction else { return };
    let mut keeper = Keeper::new(mode);
    let keep = async {
        loop {
            let due = keeper.look(core.clock.now(), core.view.revision().get());
            if let Some(revision) = due.filter(|_| core.raft.leadership().borrow().acting)
                && compact(&core, revision).await
            {
                keeper.compacted(core.clock.now(), revision);
            }
            sleep(keeper.tick()).await;
        }
    };
    stop.run_until_cancelled(keep).await;
}

/// Whether everything below the revision is compacted now.
async fn compact(core: &Core, revision: i64) -> bool {
    if core.view.compacted().is_some_and(|compacted| compacted.get() >= revision) {
        return true;
    }
    let command = Command::Compact(Compact { revision });
    match core.propose(&command, &Caller::ControlPlane, &core.config.store).await {
        Ok(_) => {
            info!(revision, "compacted history by itself");
            true
        }
        Err(error) => {
            warn!(revision, error = error.message(), "could not compact history by itself, will try again");
            false
        }
    }
}

/// What is to be compacted when.
enum Keeper {
    Periodic {
        period: Duration,
        /// The store's revisions, one a tick, of the last period; and one more.
        samples: VecDeque<i64>,
        done_at: Option<Duration>,
        done: i64,
    },
    Revisions {
        kept: i64,
        done: i64,
    },
}

impl Keeper {
    fn new(mode: AutoCompaction) -> Self {
        match mode {
            AutoCompaction::Periodic(period) => {
                Self::Periodic { period, samples: VecDeque::new(), done_at: None, done: 0 }
            }
            AutoCompaction::Revisions(kept) => {
                Self::Revisions { kept: i64::try_from(kept.get()).unwrap_or(i64::MAX), done: 0 }
            }
        }
    }

    /// How long to wait before the next look.
    fn tick(&self) -> Duration {
        match self {
            Self::Periodic { period, .. } => (*period).min(PERIOD_MAX) / SAMPLES,
            Self::Revisions { .. } => BY_REVISIONS,
        }
    }

    /// Takes note of the store's revision, and returns what is to be compacted now.
    fn look(&mut self, now: Duration, revision: i64) -> Option<i64> {
        let tick = self.tick();
        match self {
            Self::Periodic { period, samples, done_at, done } => {
                samples.push_back(revision);
                let kept = period.as_nanos() / tick.as_nanos().max(1) + 1;
                if samples.len() as u128 <= kept {
                    return None;
                }
                while samples.len() as u128 > kept {
                    samples.pop_front();
                }
                let is_time = done_at.is_none_or(|at| now.saturating_sub(at) >= (*period).min(PERIOD_MAX));
                samples.front().copied().filter(|past| is_time && past != done)
            }
            Self::Revisions { kept, done } => Some(revision - *kept).filter(|past| *past > 0 && past != done),
        }
    }

    fn compacted(&mut self, now: Duration, revision: i64) {
        match self {
            Self::Periodic { done_at, done, .. } => (*done_at, *done) = (Some(now), revision),
            Self::Revisions { done, .. } => *done = revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// Looks once a tick at a store that moves by one revision a tick, for so many ticks.
    fn compactions(mode: AutoCompaction, ticks: u32) -> Vec<(Duration, i64)> {
        let mut keeper = Keeper::new(mode);
        let mut compactions = Vec::new();
        for tick in 0..ticks {
            let (now, revision) = (keeper.tick() * tick, i64::from(tick) + 1);
            if let Some(past) = keeper.look(now, revision) {
                keeper.compacted(now, past);
                compactions.push((now, past));
            }
        }
        compactions
    }

    #[test]
    fn a_period_is_waited_out_and_then_kept() {
        let ten_minutes = compactions(AutoCompaction::Periodic(10 * MINUTE), 32);
        assert_eq!(ten_minutes, [(11 * MINUTE, 2), (21 * MINUTE, 12), (31 * MINUTE, 22)]);
    }

    #[test]
    fn a_long_period_is_kept_hour_by_hour() {
        let a_day = compactions(AutoCompaction::Periodic(Duration::from_hours(24)), 262);
        let hours = |hours: u32, ticks: u32| Duration::from_hours(1) * hours + 6 * MINUTE * ticks;
        assert_eq!(a_day, [(hours(24, 1), 2), (hours(25, 1), 12), (hours(26, 1), 22)]);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let kept = NonZeroU64::new(3).expect("positive");
        let by_revisions = compactions(AutoCompaction::Revisions(kept), 5);
        assert_eq!(by_revisions, [(15 * MINUTE, 1), (20 * MINUTE, 2)]);
        let mut keeper = Keeper::new(AutoCompaction::Revisions(kept));
        keeper.compacted(MINUTE, 7);
        assert_eq!(keeper.look(2 * MINUTE, 10), None, "nothing has happened since");
    }
}
