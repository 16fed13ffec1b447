//! What a member sees to on its own, beside what it is asked.
//!
//! - A leader whose disk is busy with one write for longer than an election timeout hands over: it can not acknowledge
//!   anything.
//! - A leader completes a change of voters that it finds begun.
//! - A member that was removed stops.
//! - A leader whose release was never meant for the cluster's version stops.

use std::{sync::Arc, time::Duration};

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Config, RaftError, change::Changes, fatal::Fatal, log::Stall, node::Roster, types::LogId};

/// Everything that needs a look now and then.
pub(crate) struct Duties {
    pub(crate) config: Config,
    pub(crate) changes: Arc<Changes>,
    pub(crate) stall: Stall,
    pub(crate) roster: watch::Receiver<Arc<Roster>>,
    pub(crate) fatal: Fatal,
}

impl Duties {
    /// Looks until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let pause = (self.config.election_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut joint = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.roster.changed() => {}
            }
            if self.was_removed() {
                // Whoever asked for it may be waiting for this member's answer.
                tokio::time::sleep(self.config.election_timeout).await;
                return self.fatal.report(RaftError::Removed);
            }
            let acting = self.changes.leadership.borrow().acting;
            if acting {
                if let Err(error) = self.changes.peers.acquaintances.may_lead() {
                    return self.fatal.report(error);
                }
                self.give_way().await;
                joint = self.complete(joint).await;
            }
        }
    }

    fn was_removed(&mut self) -> bool {
        self.roster.borrow_and_update().removed.contains(&self.config.member.0)
    }

    async fn give_way(&self) {
        let stalled = self.stall.now();
        if stalled < self.config.election_timeout {
            return;
        }
        match self.changes.hand_over().await {
            Ok(Some(to)) => warn!(%to, elapsed_ms = stalled.as_millis(), "the log's disk stalls: handed over the lead"),
            Ok(None) => {}
            Err(error) => warn!(%error, "the log's disk stalls, and the lead was not handed over"),
        }
    }

    /// A joint membership that is still there at the second look is nobody's who would complete it.
    async fn complete(&self, seen: Option<LogId>) -> Option<LogId> {
        let joint = {
            let metrics = self.changes.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let membership = &metrics.membership_config;
            let is_joint = membership.get_joint_config().len() > 1;
            let is_committed = metrics.committed_membership_config.log_id() == membership.log_id();
            (is_joint && is_committed).then(|| *membership.log_id()).flatten()
        };
        if joint.is_some() && joint == seen && self.changes.complete_joint().await {
            info!("completed a change of voters that had been left in the middle");
            return None;
        }
        joint
    }
}
