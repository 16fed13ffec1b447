//! Leases end on time, by whoever leads.
//!
//! - What long leases have left is noted in the log now and then, so that a new leader does not give them all of it again.
//! - Only a leader that the others have just confirmed ends leases: one that slept through its own replacement does not
//!   know of renewals that the new leader granted.

use std::{sync::Arc, time::Duration};

use raft::Leadership;
use store::{Answer, Command, LeaseCheckpoint, LeaseRevoke, Lessor};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{info, warn};
use types::LeaseId;

use crate::{core::Core, kv::mismatched};

/// How often a leader looks for leases that are due.
const TICK: Duration = Duration::from_millis(100);
/// Leases ended, or noted, by one command. Source: etcd `lease.maxLeaseCheckpointBatchSize`.
const LEASES_PER_COMMAND: usize = 1000;

/// Times leases while this member leads, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut leadership = core.raft.leadership();
    stop.run_until_cancelled(async {
        loop {
            follow(&core, &mut leadership).await;
            if leadership.changed().await.is_err() {
                return;
            }
        }
    })
    .await;
}

/// Takes up or lays down the timing of leases, and ends what is due for as long as this leadership lasts.
async fn follow(core: &Arc<Core>, leadership: &mut watch::Receiver<Leadership>) {
    let Leadership { term, acting, .. } = *leadership.borrow_and_update();
    if !acting {
        core.lessor.lock().demote();
        return;
    }
    take_up(core, term);
    while !leadership.has_changed().unwrap_or(true) {
        end_due(core, term).await;
        note_remaining(core, term).await;
        sleep(TICK).await;
    }
}

/// Under the lessor's lock from before the leases are read, so that a grant applied meanwhile is told to it and not lost.
fn take_up(core: &Core, term: u64) {
    let mut lessor = core.lessor.lock();
    let leases = core.view.leases();
    info!(term, leases = leases.len(), "times leases");
    lessor.promote(core.clock.now(), leases, core.config.election_timeout);
}

async fn end_due(core: &Core, term: u64) {
    let is_due = |core: &Core| core.lessor.lock().next_due().is_some_and(|due| due <= core.clock.now());
    while is_due(core) && core.confirm_read().await.is_ok() {
        let mut ids = core.lessor.lock().due(core.clock.now(), LEASES_PER_COMMAND);
        while !ids.is_empty() {
            match revoke(core, ids, term).await {
                Ok(left) => ids = left,
                Err(status) => {
                    warn!(error = status.message(), "could not end leases, will try again");
                    return;
                }
            }
        }
    }
}

/// Ends leases; those that one command had no room for are left.
async fn revoke(core: &Core, ids: Vec<LeaseId>, term: u64) -> Result<Vec<LeaseId>, Status> {
    match core.propose_in_term(&Command::LeaseRevoke(LeaseRevoke { ids }), term).await {
        Ok(Answer::LeaseRevoke(answer)) => Ok(answer.left),
        Ok(other) => Err(mismatched(&other)),
        // Their clients have revoked them meanwhile.
        Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
        Err(status) => Err(status),
    }
}

/// Without it leases last longer than they need to after a change of the leader, so a failure only is told.
async fn note_remaining(core: &Core, term: u64) {
    loop {
        let remaining = core.lessor.lock().checkpoints(core.clock.now(), LEASES_PER_COMMAND);
        if remaining.is_empty() {
            return;
        }
        let ids: Vec<_> = remaining.iter().map(|(id, _)| *id).collect();
        let noted = core.propose_in_term(&Command::LeaseCheckpoint(LeaseCheckpoint { remaining }), term).await;
        core.lessor.lock().proposed(ids);
        if let Err(status) = noted {
            warn!(error = status.message(), "could not note what leases have left");
            return;
        }
    }
}

/// Returns what `renew` gives once the log says of each of these leases that all of its time is left, so that the next
/// leader does not end one early that was renewed: under the lock under which that was found.
pub(crate) async fn renew_once_full<T>(
    core: &Core,
    ids: &[i64],
    renew: impl FnOnce(&mut Lessor) -> T,
) -> Result<T, Status> {
    let term = core.raft.leadership().borrow().term;
    loop {
        let noted = {
            let mut lessor = core.lessor.lock();
            let noted = lessor.noted(ids.iter().copied().filter_map(LeaseId::new));
            if noted.is_empty() {
                return Ok(renew(&mut lessor));
            }
            noted
        };
        let remaining = noted.into_iter().map(|id| (id, None)).collect();
        core.propose_in_term(&Command::LeaseCheckpoint(LeaseCheckpoint { remaining }), term).await?;
    }
}
