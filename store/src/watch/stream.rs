//! One client's watchers.
//!
//! Owns: the watchers of one stream, what each has seen, and the stream's end of its queue.
//!
//! - One owner drives it: nothing here is shared but the queue, so a slow reader holds up only itself.
//! - A watcher's `next` is the first revision that it has not been offered. A revision below it is never delivered,
//!   one at or above it always: from the queue if the watcher is caught up, else from history.
//! - A watcher lags while `next` is at most its `behind`; the queue then passes it by and pushes `behind` on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use types::Revision;

use super::{
    Event, Filter, RevisionEvents, WatchHub, WatchId, WatchRequest, WatchStart,
    event::Change,
    history,
    hub::{Inbox, Taken},
    interest::Interest,
};
use crate::{KeyValue, StoreError, view::Shared};

/// A revision that no transaction will get.
fn never() -> Revision {
    Revision::new(i64::MAX).expect("positive")
}

/// The watchers of one client's stream, and all that they are owed. Dropping it ends them.
#[derive(Debug)]
pub struct WatchStream {
    hub: WatchHub,
    inbox: Arc<Inbox>,
    interest: Interest<WatchId>,
    watchers: BTreeMap<WatchId, Watcher>,
    lagging: BTreeSet<WatchId>,
    ready: VecDeque<Delivery>,
    /// Progress was asked for when this revision was published.
    asked: Option<Revision>,
}

#[derive(Debug)]
struct Watcher {
    request: WatchRequest,
    next: Revision,
    /// The last revision that must come from history; none if it is below `next`.
    behind: Option<Revision>,
}

/// What a stream hands out.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Changes of one revision.
    Events(Events),
    /// The watcher is owed a compacted revision, and has ended.
    Compacted {
        /// Which watcher.
        watcher: WatchId,
        /// The oldest revision that can be watched.
        oldest: Revision,
    },
    /// What [`WatchStream::request_progress`] asked for: all watchers were handed every event up to here.
    Progress {
        /// Up to where.
        revision: Revision,
    },
}

/// All changes of one revision that one watcher wants; at least one.
#[derive(Clone, Debug)]
pub struct Events {
    watcher: WatchId,
    prev_kv: bool,
    revision: Arc<RevisionEvents>,
    picked: Picked,
}

/// Which events of a revision.
#[derive(Clone, Debug)]
enum Picked {
    All,
    Some(Box<[u32]>),
}

impl Events {
    /// Who wants them.
    pub fn watcher(&self) -> WatchId {
        self.watcher
    }

    /// When they happened.
    pub fn revision(&self) -> Revision {
        self.revision.revision
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.picked {
            Picked::All => self.revision.events.len(),
            Picked::Some(picked) => picked.len(),
        }
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the versions that they replaced, if the watcher asked for them.
    pub(super) fn read_previous(&self, shared: &Shared) -> Result<(), StoreError> {
        if self.prev_kv { self.each().try_for_each(|event| event.read_previous(shared)) } else { Ok(()) }
    }

    /// The changes in the order in which they were made, each with the version that it replaced if the watcher
    /// asked for that, there was one, and it is not compacted.
    pub fn iter(&self) -> impl Iterator<Item = (&Change, Option<&KeyValue>)> {
        self.each().map(|event| (event.change(), event.previous().filter(|_| self.prev_kv)))
    }

    fn each(&self) -> impl Iterator<Item = &Event> {
        (0..self.len()).map(|at| match &self.picked {
            Picked::All => &self.revision.events[at],
            Picked::Some(picked) => &self.revision.events[picked[at] as usize],
        })
    }
}

/// The stream has a watcher of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("watch id {} is in use on this stream", .0.0)]
pub struct DuplicateWatch(pub WatchId);

impl WatchStream {
    pub(super) fn new(hub: WatchHub, inbox: Arc<Inbox>) -> Self {
        Self {
            hub,
            inbox,
            interest: Interest::default(),
            watchers: BTreeMap::new(),
            lagging: BTreeSet::new(),
            ready: VecDeque::new(),
            asked: None,
        }
    }

    /// Starts a watcher, and returns the revision that was published then.
    ///
    /// A start below the compacted revision is taken, and answered by [`Delivery::Compacted`].
    ///
    /// # Errors
    /// [`DuplicateWatch`] if its name is in use on this stream.
    pub fn watch(&mut self, request: WatchRequest) -> Result<Revision, DuplicateWatch> {
        let id = request.id;
        if self.watchers.contains_key(&id) {
            return Err(DuplicateWatch(id));
        }
        let new_range = self.interest.insert(&request.keys, id).then_some(&request.keys);
        let subscribed = self.hub.subscribe(&self.inbox, new_range, request.prev_kv);
        let next = match request.start {
            WatchStart::Next => subscribed.published.next(),
            WatchStart::At(start) => start,
        };
        let behind = (next <= subscribed.dispatched).then_some(subscribed.dispatched);
        if behind.is_some() {
            self.lagging.insert(id);
        }
        self.watchers.insert(id, Watcher { request, next, behind });
        self.end_if_compacted(id);
        Ok(subscribed.published)
    }

    /// Ends a watcher; nothing of it is handed out any more. Whether there was one.
    pub fn cancel(&mut self, id: WatchId) -> bool {
        self.ready.retain(|delivery| delivery.watcher() != Some(id));
        self.remove(id)
    }

    /// Whether there is a watcher of this name.
    pub fn contains(&self, id: WatchId) -> bool {
        self.watchers.contains_key(&id)
    }

    /// The next thing to tell the client; waits while there is none. `None` once the store is gone.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StoreError`] if history cannot be read; the stream is of no use then.
    pub async fn next(&mut self) -> Result<Option<Delivery>, StoreError> {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                if let Delivery::Compacted { watcher, .. } = delivery {
                    self.remove(watcher);
                }
                return Ok(Some(delivery));
            }
            match self.inbox.take() {
                Taken::Revision(revision) => self.offer(&revision, Source::Queue)?,
                Taken::Missed => self.resync(),
                Taken::Closed => return Ok(None),
                Taken::Empty if !self.lagging.is_empty() => {}
                Taken::Empty => match self.due_progress() {
                    Some(revision) => return Ok(Some(Delivery::Progress { revision })),
                    None => self.wait().await,
                },
            }
            if self.ready.is_empty() && !self.lagging.is_empty() {
                self.catch_up()?;
                self.hub.history(self.owed()).await;
            }
        }
    }

    /// The revision up to which a watcher was handed every event: what a progress notification may say.
    ///
    /// `None` while it lags, while deliveries wait to be handed out, and below its first revision.
    pub fn progress(&self, id: WatchId) -> Option<Revision> {
        let watcher = self.watchers.get(&id)?;
        let revision = self.reached()?;
        (watcher.behind.is_none() && watcher.has_started(revision)).then_some(revision)
    }

    /// Asks for [`Delivery::Progress`]: handed out once every watcher was handed all that is published now.
    ///
    /// Nothing comes of it while a watcher's first revision is in the future, or if the stream has no watcher.
    pub fn request_progress(&mut self) {
        self.asked = Some(self.hub.published());
    }

    fn due_progress(&mut self) -> Option<Revision> {
        let asked = self.asked?;
        let revision = self.reached().filter(|&revision| revision >= asked)?;
        self.asked = None;
        let all_started = self.watchers.values().all(|watcher| watcher.has_started(revision));
        (all_started && !self.watchers.is_empty()).then_some(revision)
    }

    /// The revision up to which caught-up watchers were handed everything.
    fn reached(&self) -> Option<Revision> {
        if self.ready.is_empty() { self.hub.reached(&self.inbox) } else { None }
    }

    async fn wait(&self) {
        let dispatched = self.asked.map(|asked| self.hub.dispatched(asked));
        tokio::select! {
            () = self.inbox.arrived() => {}
            () = async { dispatched.expect("polled only if there is one").await }, if dispatched.is_some() => {}
        }
    }

    /// Offers one revision to the watchers that match.
    fn offer(&mut self, revision: &Arc<RevisionEvents>, source: Source) -> Result<(), StoreError> {
        for (id, picked) in self.matching(revision) {
            let watcher = self.watchers.get_mut(&id).expect("interest names only watchers that are there");
            if watcher.takes(revision.revision, source)
                && let Some(picked) = picked.filtered(revision, watcher.request.filter)
            {
                let events =
                    Events { watcher: id, prev_kv: watcher.request.prev_kv, revision: Arc::clone(revision), picked };
                self.hub.read_previous(&events)?;
                self.ready.push_back(Delivery::Events(events));
            }
        }
        Ok(())
    }

    /// The watchers that match a revision, each with the events that it matches; in the order of their names.
    fn matching(&self, revision: &RevisionEvents) -> BTreeMap<WatchId, Picked> {
        let mut picked: BTreeMap<WatchId, Vec<u32>> = BTreeMap::new();
        for (index, event) in (0..).zip(&revision.events) {
            self.interest.matches(event.change().key(), |id| picked.entry(id).or_default().push(index));
        }
        picked.into_iter().map(|(id, picked)| (id, Picked::new(picked, revision.events.len()))).collect()
    }

    /// The queue was full for a while: what was not queued is owed from history.
    fn resync(&mut self) {
        let Some(gap) = self.hub.resync(&self.inbox) else { return };
        for (&id, watcher) in &mut self.watchers {
            if watcher.behind.is_none() {
                watcher.next = watcher.next.max(gap.from);
            }
            if watcher.next <= gap.through {
                watcher.behind = watcher.behind.max(Some(gap.through));
                self.lagging.insert(id);
            }
        }
    }

    /// Reads one stretch of history for the watchers that lag.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        for id in self.lagging.clone() {
            self.end_if_compacted(id);
        }
        let Some((from, to)) = self.owed() else { return Ok(()) };
        let Some(to) = self.hub.settled(to).filter(|to| from <= *to) else { return Ok(()) };
        let stretch = history::read(self.hub.shared(), from, to, |key| self.interest.has_match(key))?;
        if self.hub.compacted() > from.get() {
            return Ok(()); // A sweep may have run ahead of the read: the next round ends who is too late.
        }
        for revision in &stretch.revisions {
            self.offer(revision, Source::History)?;
        }
        let next = stretch.through.next();
        let watchers = &mut self.watchers;
        self.lagging.retain(|id| watchers.get_mut(id).is_some_and(|watcher| !watcher.caught_up(next)));
        Ok(())
    }

    /// The stretch of history that lagging watchers are owed.
    fn owed(&self) -> Option<(Revision, Revision)> {
        let lagging = || self.lagging.iter().filter_map(|id| self.watchers.get(id));
        let from = lagging().map(|watcher| watcher.next).min()?;
        let to = lagging().filter_map(|watcher| watcher.behind).max()?;
        Some((from, to))
    }

    /// Ends a watcher that is owed what is compacted; it is there until that is handed out.
    fn end_if_compacted(&mut self, id: WatchId) {
        let Some(oldest) = Revision::new(self.hub.compacted()) else { return };
        if let Some(watcher) = self.watchers.get_mut(&id).filter(|watcher| watcher.next < oldest) {
            watcher.end();
            self.lagging.remove(&id);
            self.ready.push_back(Delivery::Compacted { watcher: id, oldest });
        }
    }

    fn remove(&mut self, id: WatchId) -> bool {
        let Some(Watcher { request, .. }) = self.watchers.remove(&id) else { return false };
        self.lagging.remove(&id);
        let last_of_range = self.interest.remove(&request.keys, id).then_some(&request.keys);
        self.hub.unsubscribe(&self.inbox, last_of_range, request.prev_kv);
        true
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let with_previous = self.watchers.values().filter(|watcher| watcher.request.prev_kv).count();
        self.hub.leave(&self.inbox, self.interest.ranges(), with_previous);
    }
}

/// Where a revision that is offered comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Queue,
    History,
}

impl Watcher {
    /// Whether a matching revision is to be handed out now; if so, it counts as handed out.
    fn takes(&mut self, revision: Revision, source: Source) -> bool {
        if revision < self.next || (source == Source::History && self.behind.is_none()) {
            return false;
        }
        if let (Source::Queue, Some(behind)) = (source, &mut self.behind) {
            *behind = revision.max(*behind);
            return false;
        }
        self.next = revision.next();
        true
    }

    /// History was offered up to `next`; whether the queue is enough from now on.
    fn caught_up(&mut self, next: Revision) -> bool {
        self.next = self.next.max(next);
        self.behind = self.behind.filter(|&behind| self.next <= behind);
        self.behind.is_none()
    }

    /// Nothing is owed any more.
    fn end(&mut self) {
        self.next = never();
        self.behind = None;
    }

    /// Whether progress up to `revision` may be told: not below the first revision that was asked for.
    fn has_started(&self, revision: Revision) -> bool {
        match self.request.start {
            WatchStart::Next => true,
            WatchStart::At(start) => start <= revision,
        }
    }
}

impl Delivery {
    fn watcher(&self) -> Option<WatchId> {
        match self {
            Self::Events(events) => Some(events.watcher),
            Self::Compacted { watcher, .. } => Some(*watcher),
            Self::Progress { .. } => None,
        }
    }
}

impl Picked {
    fn new(picked: Vec<u32>, of: usize) -> Self {
        if picked.len() == of { Self::All } else { Self::Some(picked.into()) }
    }

    /// Those of them that a filter lets pass; `None` if none does.
    fn filtered(self, revision: &RevisionEvents, filter: Filter) -> Option<Self> {
        if filter == Filter::default() {
            return Some(self);
        }
        let all = revision.events.len();
        let picked = match self {
            Self::All => (0..).take(all).collect(),
            Self::Some(picked) => picked.into_vec(),
        };
        let passes = |index: &u32| revision.events[*index as usize].change().passes(filter);
        let left: Vec<u32> = picked.into_iter().filter(passes).collect();
        (!left.is_empty()).then(|| Self::new(left, all))
    }
}
