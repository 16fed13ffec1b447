//! Deleting the keys of leases that ended with many, piece by piece.
//!
//! - Other commands come between the pieces: a lease's end delays nobody by more than one of them.

use std::{sync::Arc, time::Duration};

use store::Command;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{auth::Caller, core::Core};

/// Between two tries, when one failed or another member leads.
const RETRY: Duration = Duration::from_millis(200);

/// Has what is left deleted while this member leads, until `stop`.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let settle = async {
        loop {
            core.view.unsettled().await;
            if !core.raft.leadership().borrow().acting {
                sleep(RETRY).await;
                continue;
            }
            if let Err(error) = core.propose(&Command::Settle, &Caller::ControlPlane, &core.config.store).await {
                warn!(error = error.message(), "could not delete keys of a lease that has ended, will try again");
                sleep(RETRY).await;
            }
        }
    };
    stop.run_until_cancelled(settle).await;
}
