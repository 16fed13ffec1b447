//! The replicated log, as the authority needs it.

use crate::ledger::{LedgerCommand, Outcome};

/// Puts commands into the replicated log. Implemented by whoever runs the log.
#[tonic::async_trait]
pub trait Log: Send + Sync + 'static {
    /// Proposes one command; returns when this member has committed, applied and written it.
    ///
    /// # Errors
    /// See [`LogError`]. What the ledger refuses is not an error here, but the [`Outcome`].
    async fn propose(&self, command: LedgerCommand) -> Result<Outcome, LogError>;
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Too much is proposed already. Nothing was appended; try later.
    #[error("too many proposals are waiting")]
    Busy,
    /// No leader is known, or this member stops. It may or may not be applied; requests for certificates can be
    /// repeated safely.
    #[error("the log is not available: {0}")]
    Unavailable(String),
}
