//! Which streams an event goes to.
//!
//! Owns: the streams that live, the ranges that each one watches, and their queues.
//!
//! - `dispatched` moves under the same lock as the queues are filled and streams come and go: what is at or below it
//!   was queued or marked as missed, what is above it will be.
//! - A queue holds revisions in order and without gap up to the first that found it full.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use types::{Bug, KeyRange, Revision};

use super::{RevisionEvents, Told, WatchStream, feed::News, history, interest::Interest};
use crate::{
    Limits, QueueLimits,
    ending::Endings,
    view::{Current, Shared},
};

/// Revisions that are dispatched before streams may come and go again.
const REVISIONS_PER_LOCK: usize = 64;
/// Most revisions that wait for a stream and are told in one piece; and the bytes of their keys and values, unless one
/// alone has more. Clients of gRPC take 4 MiB at once unless they are told otherwise.
const REVISIONS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 512 << 10;

/// Where streams of watchers start. Clones share it.
#[derive(Clone, Debug)]
pub struct WatchHub {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    current: Current,
    limits: Limits,
    registry: Mutex<Registry>,
    /// Follows `Registry::dispatched`, for those who wait.
    dispatched: watch::Sender<Revision>,
    /// Watchers that want the version that an event replaced.
    with_previous: AtomicUsize,
    streams_started: AtomicU64,
}

#[derive(Debug)]
struct Registry {
    interest: Interest<u64>,
    inboxes: HashMap<u64, Arc<Inbox>>,
    dispatched: Revision,
    closed: bool,
}

/// A stream's queue.
#[derive(Debug)]
pub(super) struct Inbox {
    id: u64,
    watchers: AtomicUsize,
    state: Mutex<Queued>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Queued {
    revisions: VecDeque<Arc<RevisionEvents>>,
    bytes: usize,
    missed: Option<Revision>,
    closed: bool,
}

/// What a stream finds in its queue.
pub(super) enum Taken {
    /// Consecutive ones, in order; at least one.
    Revisions(Vec<Arc<RevisionEvents>>),
    /// Nothing, and what came after the last one taken was not queued.
    Missed,
    Empty,
    Closed,
}

/// What watching costs at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchLoad {
    /// Streams.
    pub streams: usize,
    /// Watchers on them.
    pub watchers: usize,
    /// Those of streams that are behind what was queued for them.
    pub lagging: usize,
    /// Events that are queued for streams.
    pub pending_events: usize,
}

/// What a new watcher starts from.
pub(super) struct Subscribed {
    pub(super) published: Revision,
    /// All that comes after it will be queued, or be marked as missed.
    pub(super) dispatched: Revision,
}

/// Revisions that were not queued.
pub(super) struct Gap {
    pub(super) from: Revision,
    pub(super) through: Revision,
}

impl WatchHub {
    pub(crate) fn new(current: Current) -> Self {
        let (dispatched, limits) = {
            let shared = current.load();
            (shared.published().revision, shared.limits.clone())
        };
        let registry = Registry { interest: Interest::default(), inboxes: HashMap::new(), dispatched, closed: false };
        Self {
            core: Arc::new(Core {
                current,
                limits,
                registry: Mutex::new(registry),
                dispatched: watch::Sender::new(dispatched),
                with_previous: AtomicUsize::new(0),
                streams_started: AtomicU64::new(0),
            }),
        }
    }

    /// Starts a stream without watchers.
    pub fn stream(&self) -> WatchStream {
        let id = self.core.streams_started.fetch_add(1, Ordering::Relaxed);
        let inbox =
            Arc::new(Inbox { id, watchers: AtomicUsize::new(0), state: Mutex::default(), arrived: Notify::new() });
        let mut registry = self.core.registry.lock();
        inbox.state.lock().closed = registry.closed;
        registry.inboxes.insert(id, Arc::clone(&inbox));
        drop(registry);
        WatchStream::new(self.clone(), inbox)
    }

    /// What watching costs now.
    pub fn load(&self) -> WatchLoad {
        let mut load = WatchLoad::default();
        for inbox in self.core.registry.lock().inboxes.values() {
            let watchers = inbox.watchers.load(Ordering::Relaxed);
            let queued = inbox.state.lock();
            load.streams += 1;
            load.watchers += watchers;
            load.lagging += if queued.missed.is_some() { watchers } else { 0 };
            load.pending_events += queued.revisions.iter().map(|revision| revision.events.len()).sum::<usize>();
        }
        load
    }

    /// Whether an event should carry the version that it replaces while that is at hand.
    pub(crate) fn wants_previous(&self) -> bool {
        self.core.with_previous.load(Ordering::Relaxed) > 0
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.core.limits
    }

    /// The state that counts now.
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.core.current.load_full()
    }

    pub(super) fn published(&self) -> Revision {
        self.core.current.load().published().revision
    }

    /// Gives way to others; and while what is owed is not in history yet, waits for it.
    pub(super) async fn history(&self, owed: Option<(Revision, Revision)>) {
        tokio::task::yield_now().await;
        if let Some((from, _)) = owed {
            let shared = self.shared();
            let mut endings = shared.endings.subscribe();
            let is_there = |endings: &Endings| endings.unsettled().is_none_or(|first| from < first);
            tokio::select! {
                _ = endings.wait_for(is_there) => {}
                () = shared.replaced() => {}
            }
        }
    }

    /// The compacted revision, by the wire's number.
    pub(super) fn compacted(&self) -> i64 {
        self.core.current.load().published().compacted.0
    }

    /// Queues what was published for the streams that it matches.
    pub(super) fn dispatch(&self, news: &News) {
        for told in news.revisions.chunks(REVISIONS_PER_LOCK) {
            let events: Vec<_> = told.iter().map(|told| self.events(told)).collect();
            let mut registry = self.core.registry.lock();
            for (told, events) in told.iter().zip(events) {
                match events {
                    Some(events) => registry.dispatch(&events, self.core.limits.watch_queue),
                    None => registry.miss(told.revision()),
                }
            }
        }
        let mut registry = self.core.registry.lock();
        if let Some(missed) = news.missed {
            registry.miss(missed);
        }
        registry.dispatched = news.through.map_or(registry.dispatched, |through| through.max(registry.dispatched));
        self.core.dispatched.send_replace(registry.dispatched);
    }

    /// What happened in a revision; `None` if that is only in history, for those who want to know.
    fn events(&self, told: &Told) -> Option<Arc<RevisionEvents>> {
        match told {
            Told::Events(events) => Some(Arc::clone(events)),
            Told::Ended { .. } if self.core.registry.lock().inboxes.is_empty() => None,
            Told::Ended { revision, lease } => match history::ended(&self.shared(), *revision, *lease) {
                Ok(events) => events,
                Err(error) => {
                    tracing::error!(%error, %revision, "cannot read what a lease took with it");
                    None
                }
            },
        }
    }

    /// Ends all streams, those to come too.
    pub(super) fn close(&self) {
        let mut registry = self.core.registry.lock();
        registry.closed = true;
        registry.inboxes.values().for_each(|inbox| inbox.close());
    }

    /// Takes in a watcher; `new_range` if its stream did not watch its range before.
    pub(super) fn subscribe(&self, inbox: &Inbox, new_range: Option<&KeyRange>, prev_kv: bool) -> Subscribed {
        if prev_kv {
            self.core.with_previous.fetch_add(1, Ordering::Relaxed);
        }
        inbox.watchers.fetch_add(1, Ordering::Relaxed);
        let mut registry = self.core.registry.lock();
        if let Some(keys) = new_range {
            registry.interest.insert(keys, inbox.id);
        }
        Subscribed { published: self.published(), dispatched: registry.dispatched }
    }

    /// Lets a watcher go; `last_of_range` if its stream has no other of its range.
    pub(super) fn unsubscribe(&self, inbox: &Inbox, last_of_range: Option<&KeyRange>, prev_kv: bool) {
        inbox.watchers.fetch_sub(1, Ordering::Relaxed);
        self.core.with_previous.fetch_sub(usize::from(prev_kv), Ordering::Relaxed);
        if let Some(keys) = last_of_range {
            self.core.registry.lock().interest.remove(keys, inbox.id);
        }
    }

    /// Lets a stream go, with the ranges and the watchers that it still has.
    pub(super) fn leave(&self, inbox: &Inbox, ranges: Vec<KeyRange>, with_previous: usize) {
        self.core.with_previous.fetch_sub(with_previous, Ordering::Relaxed);
        let mut registry = self.core.registry.lock();
        for keys in ranges {
            registry.interest.remove(&keys, inbox.id);
        }
        registry.inboxes.remove(&inbox.id);
    }

    /// Queues for a stream again after it missed something; what it missed is to be read from history.
    pub(super) fn resync(&self, inbox: &Inbox) -> Option<Gap> {
        let registry = self.core.registry.lock();
        let from = inbox.state.lock().missed.take()?;
        Some(Gap { from, through: registry.dispatched })
    }

    /// The revision up to which a stream has taken all that it will ever be queued; `None` if it missed something.
    pub(super) fn reached(&self, inbox: &Inbox) -> Option<Revision> {
        let registry = self.core.registry.lock();
        let queued = inbox.state.lock();
        match queued.revisions.front() {
            Some(first) => first.revision.previous(),
            None if queued.missed.is_some() => None,
            None => Some(registry.dispatched),
        }
    }

    /// Returns once `revision` is dispatched.
    pub(super) fn dispatched(&self, revision: Revision) -> impl Future<Output = ()> + Send + 'static {
        let mut dispatched = self.core.dispatched.subscribe();
        async move {
            // An error means that the hub is gone, which the stream learns from its queue.
            let _gone = dispatched.wait_for(|&dispatched| dispatched >= revision).await.is_err();
        }
    }
}

impl Registry {
    fn dispatch(&mut self, revision: &Arc<RevisionEvents>, limits: QueueLimits) {
        let mut streams = BTreeSet::new();
        for event in &revision.events {
            self.interest.matches(event.change().key(), |stream| {
                streams.insert(stream);
            });
        }
        for inbox in streams.iter().filter_map(|stream| self.inboxes.get(stream)) {
            inbox.push(revision, limits);
        }
        self.dispatched = revision.revision;
    }

    /// All streams read from history from this revision on.
    fn miss(&mut self, revision: Revision) {
        self.inboxes.values().for_each(|inbox| inbox.miss(revision));
        self.dispatched = self.dispatched.max(revision);
    }
}

impl Inbox {
    /// The next revisions that are queued, as many as may be told at once.
    pub(super) fn take(&self) -> Taken {
        let mut queued = self.state.lock();
        let (mut revisions, mut bytes) = (Vec::new(), 0);
        while revisions.len() < REVISIONS_AT_ONCE
            && let Some(next) = queued.revisions.pop_front_if(|next| bytes == 0 || bytes + next.bytes <= BYTES_AT_ONCE)
        {
            bytes += next.bytes;
            revisions.push(next);
        }
        queued.bytes -= bytes;
        match revisions.is_empty() {
            false => Taken::Revisions(revisions),
            true if queued.closed => Taken::Closed,
            true if queued.missed.is_some() => Taken::Missed,
            true => Taken::Empty,
        }
    }

    /// Returns when there may be something to take.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn push(&self, revision: &Arc<RevisionEvents>, limits: QueueLimits) {
        let mut queued = self.state.lock();
        let full = queued.revisions.len() >= limits.revisions || (queued.bytes >= limits.bytes && queued.bytes > 0);
        if queued.missed.is_none() && full && !Bug::EventLost.is_planted() {
            queued.missed = Some(revision.revision);
        }
        if queued.missed.is_none() && !(full && Bug::EventLost.is_planted()) {
            queued.bytes += revision.bytes;
            queued.revisions.push_back(Arc::clone(revision));
        }
        drop(queued);
        self.arrived.notify_one();
    }

    fn miss(&self, from: Revision) {
        self.state.lock().missed.get_or_insert(from);
        self.arrived.notify_one();
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }
}
