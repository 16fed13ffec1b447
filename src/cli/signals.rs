//! Ctrl-C and SIGTERM: the first asks a long-running verb to end, the second does not ask.

use super::failure::{Exit, Failure};
use std::{future::Future, pin::pin};
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// Runs `work`, which gets the token that the first signal cancels.
pub(crate) async fn until_stopped<F>(work: impl FnOnce(CancellationToken) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let mut work = pin!(work(stop.clone()));
    select! {
        outcome = &mut work => return outcome,
        () = either(&mut interrupt, &mut terminate) => stop.cancel(),
    }
    tracing::info!("stopping");
    select! {
        outcome = work => outcome,
        () = either(&mut interrupt, &mut terminate) => Err(Failure::new(Exit::Interrupted, "stopped at once")),
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
