//! Opening a store, and going on from another state of it.
//!
//! - A state that takes another's place does so for all at once: a reader sees the one or the other.
//! - Watches go on: what lies between the two is read from the history of the new one, or is compacted.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicU64},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use engine::Engine;
use parking_lot::RwLock;
use tokio::sync::watch;
use types::KeyRange;

use super::{Overlay, Store};
use crate::{
    Limits, StoreError, View, WatchHub,
    alarm::Alarms,
    auth,
    ending::Endings,
    layout,
    living::{Living, Newest},
    recent::Recent,
    snapshot::Snapshot,
    view::{Head, Published, Shared},
    watch::Feed,
};

impl Store {
    /// Opens the store that is on the engine; an empty engine is an empty store.
    ///
    /// # Errors
    /// [`StoreError`] if the engine cannot be read or holds what no store wrote.
    pub fn open(engine: Engine, limits: Limits) -> Result<(Self, View), StoreError> {
        let shared = Arc::new(read(engine, limits, Arc::default())?);
        let current = Arc::new(ArcSwap::new(Arc::clone(&shared)));
        let hub = WatchHub::new(Arc::clone(&current));
        let published = shared.published();
        let store = Self {
            feed: Feed::start(hub.clone(), shared.engine.workers())?,
            hub: hub.clone(),
            revision: published.revision,
            compacted: published.compacted,
            alarms: shared.alarms.read().clone(),
            endings: shared.endings.borrow().clone(),
            told: true,
            auth: shared.auth.load_full(),
            overlay: Overlay::default(),
            events: Vec::new(),
            shared: Arc::clone(&shared),
            current: Arc::clone(&current),
        };
        Ok((store, View::new(current, hub)))
    }

    /// Goes on from what another engine holds: a later state of the same log. Its views, watches and sweeper stay as they
    /// are, and see it from now on; what they are reading meanwhile, they read to its end from the state before.
    ///
    /// # Errors
    /// [`StoreError`] if the engine cannot be read, or holds what no store wrote, or an earlier state: nothing has changed
    /// for readers then, and the member must stop.
    pub fn reopen(&mut self, engine: Engine) -> Result<(), StoreError> {
        let shared = Arc::new(read(engine, self.shared.limits.clone(), Arc::clone(&self.shared.swept_rows))?);
        let Published { revision, compacted } = shared.published();
        if revision < self.revision {
            return Err(layout::corrupt(layout::HISTORY, "it ends before what was read already"));
        }
        let before = std::mem::replace(&mut self.revision, revision);
        self.compacted = compacted;
        self.alarms = shared.alarms.read().clone();
        self.endings = shared.endings.borrow().clone();
        self.told = true;
        self.auth = shared.auth.load_full();
        self.overlay.clear();
        self.events.clear();
        self.shared = Arc::clone(&shared);
        self.current.swap(shared).replaced.send_replace(true);
        self.feed.jump(before, revision);
        Ok(())
    }
}

/// What an engine holds, for readers.
fn read(engine: Engine, limits: Limits, swept_rows: Arc<AtomicU64>) -> Result<Shared, StoreError> {
    let published = Published { revision: layout::revision(&engine)?, compacted: layout::compacted(&engine)? };
    let endings = Endings::new(layout::endings(&engine)?);
    let living = living(&engine, published, endings.clone())?;
    Ok(Shared {
        alarms: RwLock::new(Alarms::load(&engine)?),
        auth: ArcSwap::from_pointee(auth::load(&engine)?),
        leases: RwLock::new(layout::leases(&engine)?),
        recent: Recent::new(limits.recent_bytes_max),
        swept_rows,
        swept: watch::Sender::new(layout::swept(&engine)?),
        compacted: watch::Sender::new(published.compacted),
        head: RwLock::new(Head { published, is_settled: endings.is_empty(), living }),
        endings: watch::Sender::new(endings),
        replaced: watch::Sender::new(false),
        engine,
        limits,
    })
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
