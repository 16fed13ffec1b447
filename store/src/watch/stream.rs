//! One client's watchers.
//!
//! Owns: the watchers of one stream, what each has seen, and the stream's end of its queue.
//!
//! - One owner drives it: nothing here is shared but the queue, so a slow reader holds up only itself.
//! - A watcher's `next` is the first revision that it has not been offered. A revision below it is never delivered,
//!   one at or above it always: from the queue if the watcher is caught up, else from history.
//! - A watcher lags while `next` is at most its `behind`; the queue then passes it by and pushes `behind` on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use types::{Bug, KeyRange, Revision};

use super::{
    Events, Filter, RevisionEvents, WatchHub, WatchId, WatchRequest, WatchStart,
    batch::{Batch, Pick},
    history,
    hub::{Inbox, Taken},
    interest::Interest,
};
use crate::StoreError;

/// A revision that no transaction will get.
fn never() -> Revision {
    Revision::new(i64::MAX).expect("positive")
}

/// The watchers of one client's stream, and all that they are owed. Dropping it ends them.
#[derive(Debug)]
pub struct WatchStream {
    hub: WatchHub,
    inbox: Arc<Inbox>,
    interest: Interest<GroupId>,
    groups: HashMap<GroupId, Group>,
    group_ids: HashMap<Wanted, GroupId>,
    groups_made: GroupId,
    watchers: BTreeMap<WatchId, Watcher>,
    lagging: BTreeSet<WatchId>,
    ready: VecDeque<Delivery>,
    /// Progress was asked for when this revision was published.
    asked: Option<Revision>,
}

/// Names a group on its stream.
type GroupId = u64;

/// What a group wants to see.
type Wanted = (KeyRange, Filter, bool);

/// Watchers that want the same, if they are equally far.
#[derive(Debug)]
struct Group {
    filter: Filter,
    prev_kv: bool,
    watchers: BTreeSet<WatchId>,
}

#[derive(Debug)]
struct Watcher {
    wanted: Wanted,
    start: WatchStart,
    next: Revision,
    /// The last revision that must come from history; none if it is below `next`.
    behind: Option<Revision>,
}

/// What a stream hands out.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Changes that a watcher wants.
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
            groups: HashMap::new(),
            group_ids: HashMap::new(),
            groups_made: 0,
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
        let wanted = (request.keys, request.filter, request.prev_kv);
        let is_new_range = self.join(&wanted, id);
        let subscribed = self.hub.subscribe(&self.inbox, is_new_range.then_some(&wanted.0), request.prev_kv);
        let next = match request.start {
            WatchStart::Next => subscribed.published.next(),
            WatchStart::At(start) => start,
        };
        let behind = (next <= subscribed.dispatched).then_some(subscribed.dispatched);
        if behind.is_some() {
            self.lagging.insert(id);
        }
        self.watchers.insert(id, Watcher { wanted, start: request.start, next, behind });
        self.end_if_compacted(id);
        Ok(subscribed.published)
    }

    /// Adds a watcher to its group; whether no group of the stream had its range.
    fn join(&mut self, wanted: &Wanted, id: WatchId) -> bool {
        if let Some(group) = self.group_ids.get(wanted).and_then(|group| self.groups.get_mut(group)) {
            group.watchers.insert(id);
            return false;
        }
        self.groups_made += 1;
        let (keys, filter, prev_kv) = wanted.clone();
        self.groups.insert(self.groups_made, Group { filter, prev_kv, watchers: BTreeSet::from([id]) });
        self.group_ids.insert(wanted.clone(), self.groups_made);
        self.interest.insert(&keys, self.groups_made)
    }

    /// Takes a watcher out of its group; whether no group of the stream has its range any more.
    fn leave(&mut self, wanted: &Wanted, id: WatchId) -> bool {
        let Some(&group_id) = self.group_ids.get(wanted) else { return false };
        let Some(group) = self.groups.get_mut(&group_id) else { return false };
        group.watchers.remove(&id);
        if !group.watchers.is_empty() {
            return false;
        }
        self.groups.remove(&group_id);
        self.group_ids.remove(wanted);
        self.interest.remove(&wanted.0, group_id)
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
            if let Some(delivery) = self.ready() {
                return Ok(Some(delivery));
            }
            match self.inbox.take() {
                Taken::Revisions(revisions) => self.offer(&revisions, Source::Queue)?,
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

    /// The next thing to tell the client, if it is at hand.
    pub fn ready(&mut self) -> Option<Delivery> {
        let delivery = self.ready.pop_front()?;
        if let Delivery::Compacted { watcher, .. } = delivery {
            self.remove(watcher);
        }
        Some(delivery)
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

    /// Offers consecutive revisions to the watchers that match.
    fn offer(&mut self, revisions: &[Arc<RevisionEvents>], source: Source) -> Result<(), StoreError> {
        for (group, picks) in self.wanted(revisions) {
            let group = &self.groups[&group];
            let batch = Arc::new(Batch::new(picks, group.prev_kv));
            let mut takers = Vec::with_capacity(group.watchers.len());
            for &id in &group.watchers {
                let watcher = self.watchers.get_mut(&id).expect("groups name only watchers that are there");
                takers.extend(watcher.takes(batch.picks(), source).map(|passed| (id, passed)));
            }
            if takers.is_empty() {
                continue;
            }
            batch.read_previous(&self.hub.shared())?;
            let events = |(watcher, passed)| Delivery::Events(Events { watcher, batch: batch.after(passed) });
            self.ready.extend(takers.into_iter().map(events));
        }
        Ok(())
    }

    /// What each group wants of some revisions.
    fn wanted(&self, revisions: &[Arc<RevisionEvents>]) -> BTreeMap<GroupId, Vec<Pick>> {
        let mut wanted: BTreeMap<GroupId, Vec<Pick>> = BTreeMap::new();
        for revision in revisions {
            for (index, event) in (0..).zip(&revision.events) {
                self.interest.matches(event.change().key(), |group| {
                    if event.change().passes(self.groups[&group].filter) {
                        wanted.entry(group).or_default().push(Pick { of: Arc::clone(revision), event: index });
                    }
                });
            }
        }
        wanted
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
        let shared = self.hub.shared();
        let Some(to) = shared.settled(to).filter(|to| from <= *to) else { return Ok(()) };
        let stretch = history::read(&shared, from, to, |key| self.interest.has_match(key))?;
        if shared.published().compacted.0 > from.get() {
            return Ok(()); // A sweep may have run ahead of the read: the next round ends who is too late.
        }
        self.offer(&stretch.revisions, Source::History)?;
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
            if Bug::CompactedPassedOver.is_planted() {
                watcher.next = oldest;
                return;
            }
            watcher.end();
            self.lagging.remove(&id);
            self.ready.push_back(Delivery::Compacted { watcher: id, oldest });
        }
    }

    fn remove(&mut self, id: WatchId) -> bool {
        let Some(Watcher { wanted, .. }) = self.watchers.remove(&id) else { return false };
        self.lagging.remove(&id);
        let last_of_range = self.leave(&wanted, id).then_some(&wanted.0);
        self.hub.unsubscribe(&self.inbox, last_of_range, wanted.2);
        true
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let with_previous = self.watchers.values().filter(|watcher| watcher.wanted.2).count();
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
    /// How many of the events it passes over, if it is to be handed the rest now; they count as handed out then.
    fn takes(&mut self, picks: &[Pick], source: Source) -> Option<usize> {
        let passed = picks.partition_point(|pick| pick.revision() < self.next);
        let last = picks[passed..].last()?.revision();
        match (source, &mut self.behind) {
            (Source::History, None) => return None,
            (Source::Queue, Some(behind)) => {
                *behind = last.max(*behind);
                return None;
            }
            (Source::History, Some(_)) | (Source::Queue, None) => {}
        }
        self.next = last.next();
        Some(passed)
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
        match self.start {
            WatchStart::Next => true,
            WatchStart::At(start) => start <= revision,
        }
    }
}

impl Delivery {
    fn watcher(&self) -> Option<WatchId> {
        match self {
            Self::Events(events) => Some(events.watcher()),
            Self::Compacted { watcher, .. } => Some(*watcher),
            Self::Progress { .. } => None,
        }
    }
}
