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
mod overlay;
mod txn;
mod write;

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicU64},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use engine::{Batch, Engine, Space};
use parking_lot::RwLock;
use tokio::sync::watch;
use types::{KeyRange, Revision};

use self::overlay::Overlay;
use crate::{
    AlarmAnswer, AlarmChange, Answer, Auth, Command, Compact, CompactAnswer, Entry, Failure, Limits, MemberAnswer,
    MemberChange, Refusal, StoreError, Sweeper, View, WatchHub,
    alarm::Alarms,
    auth,
    ending::Endings,
    layout::{self, Compacted},
    living::{Living, Newest},
    member::Members,
    recent::Recent,
    snapshot::Snapshot,
    view::{Head, Published, Shared},
    watch::{Feed, Told},
};

/// The writer of a store; one per engine.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    hub: WatchHub,
    feed: Feed,
    revision: Revision,
    compacted: Compacted,
    alarms: Alarms,
    members: Members,
    endings: Endings,
    /// Whether alarms, members and endings are published as they are.
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
        layout::MEMBERS,
        layout::ENDINGS,
        layout::META,
        auth::SPACE,
    ];

    /// Opens the store that is on the engine; an empty engine is an empty store.
    ///
    /// # Errors
    /// [`StoreError`] if the engine cannot be read or holds what no store wrote.
    pub fn open(engine: Engine, limits: Limits) -> Result<(Self, View), StoreError> {
        let published = Published { revision: layout::revision(&engine)?, compacted: layout::compacted(&engine)? };
        let (alarms, members) = (Alarms::load(&engine)?, Members::load(&engine)?);
        let endings = Endings::new(layout::endings(&engine)?);
        let auth = Arc::new(auth::load(&engine)?);
        let living = living(&engine, published, endings.clone())?;
        let shared = Arc::new(Shared {
            alarms: RwLock::new(alarms.clone()),
            members: RwLock::new(members.clone()),
            endings: watch::Sender::new(endings.clone()),
            auth: ArcSwap::new(Arc::clone(&auth)),
            leases: RwLock::new(layout::leases(&engine)?),
            recent: Recent::new(limits.recent_bytes_max),
            swept_rows: AtomicU64::new(0),
            swept: watch::Sender::new(layout::swept(&engine)?),
            compacted: watch::Sender::new(published.compacted),
            head: RwLock::new(Head { published, is_settled: endings.is_empty(), living }),
            engine,
            limits,
        });
        let hub = WatchHub::new(Arc::clone(&shared));
        let store = Self {
            feed: Feed::start(hub.clone())?,
            hub: hub.clone(),
            revision: published.revision,
            compacted: published.compacted,
            alarms,
            members,
            endings,
            told: true,
            auth,
            overlay: Overlay::default(),
            events: Vec::new(),
            shared: Arc::clone(&shared),
        };
        Ok((store, View::new(shared, hub)))
    }

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
            Command::Member(change) => self.member(batch, change).map(Answer::Member),
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
            self.shared.members.write().clone_from(&self.members);
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
        Sweeper::new(Arc::clone(&self.shared))
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

    fn member(&mut self, batch: &mut Batch, change: MemberChange) -> Result<MemberAnswer, Failure> {
        let member = self.members.change(change)?;
        self.told = false;
        batch.put(layout::MEMBERS, member.key(), member.row());
        Ok(MemberAnswer { revision: self.revision, member })
    }
}

/// The keys that live on the engine.
fn living(engine: &Engine, published: Published, endings: Endings) -> Result<Living, StoreError> {
    let mut living = Living::default();
    let cursor = engine.cursor(layout::KEYS)?;
    let mut snapshot = Snapshot::published(cursor, published.revision, published.compacted, endings);
    snapshot.scan(&KeyRange::AtLeast(Bytes::new()), published.revision, |found| {
        living.insert(found.versions, Newest { modified: found.modified, meta: found.meta });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(living)
}
