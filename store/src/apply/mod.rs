//! What a command does.
//!
//! Owns: the writer: the store's revision and compaction, and what the current batch has done so far.
//! In:   commands in log order, on one thread.
//! Out:  rows into the caller's batch, one answer per command, and at `publish` all of it to readers and watchers.
//!
//! - A command is refused before it writes anything, or it writes everything.
//! - A command sees what those before it did, written to the engine or not.
//! - What it does depends on the log alone: on no limit, clock, map order or progress of a sweep.

mod authorize;
pub(crate) mod ending;
mod lease;
mod open;
mod overlay;
mod txn;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use engine::{Batch, Space};
use types::Revision;

use self::overlay::Overlay;
use crate::{
    AlarmAnswer, AlarmChange, Answer, Auth, Command, Compact, CompactAnswer, Entry, Failure, Refusal, StoreError,
    Sweeper, WatchHub,
    alarm::Alarms,
    auth,
    ending::Endings,
    layout::{self, Compacted},
    snapshot::Snapshot,
    view::{Current, Published, Shared},
    watch::{Feed, Told},
};

/// The writer of a store; one per engine.
#[derive(Debug)]
pub struct Store {
    /// What is in `current`.
    shared: Arc<Shared>,
    current: Current,
    hub: WatchHub,
    feed: Feed,
    revision: Revision,
    compacted: Compacted,
    alarms: Alarms,
    endings: Endings,
    /// Whether alarms and endings are published as they are.
    told: bool,
    auth: Arc<Auth>,
    overlay: Overlay,
    events: Vec<Told>,
}

impl Store {
    /// The spaces that the engine must be opened with.
    pub const SPACES: &'static [Space] = &[
        layout::KEYS,
        layout::HISTORY,
        layout::LEASES,
        layout::ATTACHED,
        layout::ALARMS,
        layout::ENDINGS,
        layout::META,
        auth::SPACE,
    ];

    /// Applies one committed entry: its rows go into `batch`, to be written with those of its neighbours.
    ///
    /// The outer error is this member's disk: the entry may be half in the batch, and the member must stop.
    pub fn apply(&mut self, batch: &mut Batch, entry: impl Into<Entry>) -> Result<Result<Answer, Refusal>, StoreError> {
        let Entry { actor, command } = entry.into();
        if let Some(refusal) = self.alarms.refusal(&command) {
            return Ok(Err(refusal));
        }
        match self.authorize(&actor, &command).and_then(|()| self.run(batch, command)) {
            Ok(answer) => Ok(Ok(answer)),
            Err(Failure::Refused(refusal)) => Ok(Err(refusal)),
            Err(Failure::Broken(error)) => Err(error),
        }
    }

    fn run(&mut self, batch: &mut Batch, command: Command) -> Result<Answer, Failure> {
        match command {
            Command::Put(put) => self.put(batch, &put).map(Answer::Put),
            Command::DeleteRange(delete) => self.delete_range(batch, &delete).map(Answer::DeleteRange),
            Command::Txn(txn) => self.txn(batch, &txn).map(Answer::Txn),
            Command::Compact(compact) => self.compact(batch, compact).map(Answer::Compact),
            Command::LeaseGrant(grant) => self.lease_grant(batch, grant).map(Answer::LeaseGrant),
            Command::LeaseRevoke(revoke) => self.lease_revoke(batch, &revoke).map(Answer::LeaseRevoke),
            Command::LeaseCheckpoint(checkpoint) => {
                Ok(Answer::LeaseCheckpoint(self.lease_checkpoint(batch, checkpoint)))
            }
            Command::Alarm(change) => Ok(Answer::Alarm(self.alarm(batch, change))),
            Command::Settle => self.settle(batch).map(Answer::Settle).map_err(Failure::from),
            Command::Auth(command) => self.auth(batch, &command).map(Answer::Auth),
        }
    }

    /// Shows readers and watchers what was applied since the last call. The batch must be on the engine by now.
    pub fn publish(&mut self) {
        let published = Published { revision: self.revision, compacted: self.compacted };
        self.overlay.publish_leases(&mut self.shared.leases.write());
        if !std::mem::replace(&mut self.told, true) {
            self.shared.alarms.write().clone_from(&self.alarms);
            self.shared.endings.send_replace(self.endings.clone());
        }
        // Before the revision: who sees what was written sees by then who may see it.
        if !Arc::ptr_eq(&self.auth, &self.shared.auth.load()) {
            self.shared.auth.store(Arc::clone(&self.auth));
        }
        self.overlay.publish_fresh(&self.shared.recent);
        {
            let mut head = self.shared.head.write();
            head.published = published;
            head.is_settled = self.endings.is_empty();
            self.overlay.publish_living(&mut head.living);
        }
        self.overlay.forget_superseded(&self.shared.recent);
        self.overlay.clear();
        self.feed.push(self.events.drain(..), self.revision);
        self.shared
            .compacted
            .send_if_modified(|compacted| std::mem::replace(compacted, published.compacted) != published.compacted);
    }

    /// What deletes the rows that compactions leave dead. One at a time: the caller runs the only one.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper::new(Arc::clone(&self.current))
    }

    /// What commands see: the engine, and over it what the batch has done.
    fn snapshot(&self, revision: Revision) -> Result<Snapshot<'_>, StoreError> {
        let cursor = self.shared.engine.cursor(layout::KEYS)?;
        Ok(Snapshot::uncommitted(cursor, self.overlay.rows(), revision, self.compacted, self.endings.clone()))
    }

    fn compact(&mut self, batch: &mut Batch, compact: Compact) -> Result<CompactAnswer, Failure> {
        let asked = compact.revision;
        if asked <= self.compacted.0 {
            return Err(Refusal::Compacted { asked, oldest: self.compacted.0 }.into());
        }
        if asked > self.revision.get() {
            return Err(Refusal::FutureRevision { asked, current: self.revision }.into());
        }
        self.compacted = Compacted(asked);
        batch.put(layout::META, layout::COMPACTED_KEY, Bytes::copy_from_slice(&asked.to_be_bytes()));
        Ok(CompactAnswer { revision: self.revision })
    }

    fn alarm(&mut self, batch: &mut Batch, change: AlarmChange) -> AlarmAnswer {
        let differs = self.alarms.change(change);
        self.told &= !differs;
        if change.raised {
            batch.put(layout::ALARMS, change.alarm.key(), Bytes::new());
        } else {
            batch.delete(layout::ALARMS, change.alarm.key());
        }
        AlarmAnswer { revision: self.revision, alarm: (differs || change.raised).then_some(change.alarm) }
    }
}
