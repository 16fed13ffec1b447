//! Leases end on time, by whoever leads.
//!
//! - Only a leader that the others have just confirmed ends leases: one that slept through its own replacement does not
//!   know of renewals that the new leader granted.

use std::{sync::Arc, time::Duration};

use raft::Leadership;
use store::{Command, LeaseRevoke};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{auth::Caller, core::Core};

/// How often a leader looks for leases that are due.
const TICK: Duration = Duration::from_millis(100);
/// Leases ended by one command.
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
        end_due(core).await;
        sleep(TICK).await;
    }
}

/// Under the lessor's lock from before the leases are read, so that a grant applied meanwhile is told to it and not lost.
fn take_up(core: &Core, term: u64) {
    let mut lessor = core.lessor.lock();
    let leases: Vec<_> = core.view.leases().into_iter().map(|lease| (lease.id, lease.ttl)).collect();
    info!(term, leases = leases.len(), "times leases");
    lessor.promote(core.clock.now(), leases, core.config.election_timeout);
}

async fn end_due(core: &Arc<Core>) {
    let is_due = |core: &Core| core.lessor.lock().next_due().is_some_and(|due| due <= core.clock.now());
    while is_due(core) && core.confirm_read().await.is_ok() {
        let ids = core.lessor.lock().due(core.clock.now(), LEASES_PER_COMMAND);
        let (count, command) = (ids.len(), Command::LeaseRevoke(LeaseRevoke { ids }));
        if count == 0 {
            return;
        }
        if let Err(error) = core.propose(&command, &Caller::ControlPlane, &core.config.store).await {
            warn!(leases = count, error = error.message(), "could not end leases, will try again");
            return;
        }
    }
}
