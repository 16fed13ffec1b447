//! The one error that stops a member.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::error;

use crate::RaftError;

/// Holds the first unrecoverable error; later ones only follow from it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Fatal(Arc<watch::Sender<Option<RaftError>>>);

impl Fatal {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Stops the member because of `error`, which is logged here and nowhere else.
    pub(crate) fn report(&self, error: RaftError) {
        self.0.send_if_modified(|first| {
            if first.is_some() {
                return false;
            }
            error!(error = &error as &dyn std::error::Error, "raft member stopped");
            *first = Some(error);
            true
        });
    }

    pub(crate) fn get(&self) -> Option<RaftError> {
        self.0.borrow().clone()
    }

    pub(crate) fn happened(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Resolves with the error once there is one.
    pub(crate) async fn wait(&self) -> RaftError {
        let mut first = self.0.subscribe();
        let error = first.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
        error.expect("self holds the sender, and waits for some error")
    }
}
