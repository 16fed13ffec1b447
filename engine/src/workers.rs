//! Where work is done that waits for an engine.

use tokio::task::{JoinError, spawn_blocking};

/// Where work is done that waits for an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// On threads of its own, so that async tasks go on meanwhile.
    #[default]
    Threads,
    /// As tasks: in a simulation everything runs on one thread, so that it can be repeated, and no engine blocks.
    Tasks,
}

impl Workers {
    /// Does `work` where it holds nobody up.
    ///
    /// # Errors
    /// It panicked on its thread, or the runtime is shutting down.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        match self {
            Self::Threads => spawn_blocking(work).await,
            Self::Tasks => Ok(work()),
        }
    }
}
