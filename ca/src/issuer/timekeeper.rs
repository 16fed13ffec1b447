//! Brings the ledger's time forward where nothing is issued.
//!
//! The ledger's time moves with its entries, and by a bounded jump each: after a quiet week, or a stop, a certificate
//! could not be ordered. Ticks close the gap in bounded steps. With more than one member they are also where a
//! leader's clock can be compared with the others', before anything is issued by it.

use std::{sync::Arc, time::Duration};

use tracing::{info, warn};

use super::IssueError;
use crate::{
    ledger::{JUMP_MAX, LedgerAnswer, LedgerCommand, LedgerView, Refusal},
    log::Log,
    time::Time,
};

/// How often the two clocks are compared.
const PERIOD: Duration = Duration::from_mins(1);
/// How far the ledger's may fall behind.
const LAG_MAX: Duration = Duration::from_mins(10);

/// Keeps the ledger's time within ten minutes of this member's clock. Runs until it is dropped; the leader runs it.
pub async fn keep_time(log: Arc<dyn Log>, ledger: LedgerView) {
    let mut turns = tokio::time::interval(PERIOD);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = catch_up(&*log, &ledger, Time::now()).await {
            warn!(%error, "cannot bring the ledger's time forward");
        }
    }
}

/// Ticks until the ledger's time is near `now`. An authority that is not founded has no time to keep.
pub(super) async fn catch_up(log: &dyn Log, ledger: &LedgerView, now: Time) -> Result<(), IssueError> {
    let mut time = ledger.time()?;
    if now.since(time) > JUMP_MAX && ledger.genesis()?.is_some() {
        info!(behind_s = now.since(time).as_secs(), "the ledger's time is behind, bringing it forward");
    }
    while now.since(time) > LAG_MAX && ledger.genesis()?.is_some() {
        match log.propose(LedgerCommand::Tick { time: now }).await? {
            Ok(LedgerAnswer::Time(reached)) if reached > time => time = reached,
            Ok(_) | Err(Refusal::NotFounded) => return Ok(()),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(())
}
