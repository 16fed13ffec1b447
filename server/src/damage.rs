//! A disk that is not as it was written.
//!
//! Owns: what the member has met of it while it ran, and what a person is told to do.
//!
//! - A member that cannot read its own state stops: it would give wrong answers, or none, and the others have all of it.

use std::{error::Error, sync::Arc};

use ca::LedgerError;
use engine::EngineError;
use raft::RaftError;
use store::{Failure, StoreError};
use tokio::sync::watch;
use tracing::error;

use crate::ServerError;

/// What to do about a member whose disk is damaged.
const ADVICE: &str = "nothing was cut or skipped; the other members have all that was acknowledged: replace this member \
    from them: run `meshstore cluster replace` with its name on another one, and the line that it prints here, on an empty \
    data directory; if it is the only one, restore a snapshot (`meshstore snapshot restore`)";

/// What was found damaged first.
#[derive(Debug)]
pub(crate) struct Damage(watch::Sender<Option<String>>);

impl Damage {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Takes note of a read that failed, if damage is why.
    pub(crate) fn look_at(&self, failure: &Failure) {
        if let Failure::Broken(broken) = failure
            && is_damage(broken)
        {
            let text = chain(broken);
            self.0.send_if_modified(|first| {
                if first.is_some() {
                    return false;
                }
                error!(error = text, "the state of this member is damaged");
                *first = Some(text);
                true
            });
        }
    }

    /// Returns what was found, once anything was.
    pub(crate) async fn found(&self) -> String {
        let mut found = self.0.subscribe();
        let found = found.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.expect("self holds the sender, and waits for something")
    }
}

/// Says what to do about an error, if it comes of damage on the disk.
pub(crate) fn explained(error: ServerError) -> ServerError {
    if is_damage(&error) { ServerError::Damaged(advise(&chain(&error))) } else { error }
}

/// What is damaged, and what to do about it.
pub(crate) fn advise(what: &str) -> String {
    format!("{what}; {ADVICE}")
}

/// Whether an error comes of damage on the disk. Errors that show another as their own hide it from who asks for causes,
/// and are asked by name.
fn is_damage(error: &(dyn Error + 'static)) -> bool {
    let is_engine = |error: &EngineError| error.is_damage();
    if let Some(error) = error.downcast_ref::<ServerError>() {
        return match error {
            ServerError::Store(error) => is_damage(error),
            ServerError::Ledger(error) => is_damage(error),
            ServerError::Raft(error) => is_damage(error),
            other => other.source().is_some_and(is_damage),
        };
    }
    if let Some(error) = error.downcast_ref::<RaftError>() {
        return match error {
            RaftError::Corrupt { .. } => true,
            RaftError::Log(error) => error.is_damage(),
            other => other.source().is_some_and(is_damage),
        };
    }
    match (error.downcast_ref::<LedgerError>(), error.downcast_ref::<Arc<dyn Error + Send + Sync>>()) {
        (Some(LedgerError::Engine(error)), _) => error.is_damage(),
        (_, Some(shared)) => is_damage(&**shared),
        _ => {
            error.downcast_ref().is_some_and(is_engine)
                || matches!(error.downcast_ref(), Some(StoreError::Corrupt { .. }))
                || error.source().is_some_and(is_damage)
        }
    }
}

/// An error with its causes; some errors say in their own words what their cause is.
fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let what = error.to_string();
        if !text.contains(&what) {
            text = format!("{text}: {what}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use raft::MachineError;

    use super::*;

    fn damaged() -> EngineError {
        EngineError::Damaged("block checksum mismatch in /data/state/db-1/000012.sst".to_owned())
    }

    #[test]
    fn damage_is_recognized_however_it_comes_and_nothing_else_is() {
        let full = || EngineError::Full("no space".to_owned());
        let cases = [
            (ServerError::Engine { path: "/data/state".into(), source: damaged() }, true),
            (ServerError::Store(damaged().into()), true),
            (ServerError::Ledger(damaged().into()), true),
            (ServerError::Raft(damaged().into()), true),
            (ServerError::Raft(MachineError::new(damaged()).into()), true),
            (ServerError::Raft(MachineError::new(StoreError::from(damaged())).into()), true),
            (ServerError::Raft(MachineError::new(LedgerError::from(damaged())).into()), true),
            (ServerError::Engine { path: "/data/state".into(), source: full() }, false),
            (ServerError::Raft(MachineError::new(StoreError::from(full())).into()), false),
            (ServerError::Unplaced, false),
        ];
        for (error, expected) in cases {
            let (before, after) = (error.to_string(), explained(error).to_string());
            assert_eq!(
                after.contains("000012.sst") && after.contains("meshstore cluster replace"),
                expected,
                "{after}"
            );
            assert!(expected || before == after, "{after}");
        }
    }
}
