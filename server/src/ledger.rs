//! The CA's way into the log.

use std::sync::Arc;

use ca::{LedgerCommand, LedgerView, Log, LogError, Outcome};
use raft::ProposeError;

use crate::{
    core::Core,
    machine::{Answer, Proposal},
    upgrade::NotAgreed,
};

/// Proposes ledger commands through this member.
#[derive(Debug)]
pub(crate) struct LedgerLog(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Log for LedgerLog {
    async fn propose(&self, command: LedgerCommand) -> Result<Outcome, LogError> {
        match self.0.agree(Proposal::ledger(&command), None).await {
            Ok(Answer::Ledger(outcome)) => Ok(outcome),
            Ok(other) => unreachable!("a ledger command is answered by {other:?}"),
            Err(NotAgreed::Raft(ProposeError::Busy)) => Err(LogError::Busy),
            Err(error) => Err(LogError::Unavailable(error.to_string())),
        }
    }
}

/// Keeps the ledger's time near this member's clock while it leads.
pub(crate) async fn keep_time(core: Arc<Core>, ledger: LedgerView) {
    let mut leadership = core.raft.leadership();
    // It ends with the log.
    while leadership.wait_for(|leadership| leadership.acting).await.is_ok() {
        let log = Arc::new(LedgerLog(Arc::clone(&core)));
        tokio::select! {
            () = ca::keep_time(log, ledger.clone()) => {}
            lost = leadership.wait_for(|leadership| !leadership.acting) => drop(lost),
        }
    }
}
