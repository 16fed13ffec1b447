//! From the writer to the streams.
//!
//! Owns: the queue between `publish` and the hub, and the thread that empties it.
//!
//! - `push` never waits: a full queue is dropped from there on, and every watcher reads that stretch from history.
//! - A state that took another's place is news without revisions: every watcher reads them from its history.
//! - The thread ends when the store does, and all streams end with it.

use std::{
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use parking_lot::{Condvar, Mutex};
use types::Revision;

use super::{Told, WatchHub};
use crate::{QueueLimits, StoreError};

/// The writer's end. Dropping it ends the hub.
#[derive(Debug)]
pub(crate) struct Feed {
    queue: Arc<Queue>,
    limits: QueueLimits,
    dispatcher: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    news: News,
    closed: bool,
}

/// What was published since the dispatcher looked last.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) revisions: Vec<Told>,
    /// The first revision that found the queue full; none from it on is in `revisions`.
    pub(super) missed: Option<Revision>,
    /// The revision that is published, if that is news.
    pub(super) through: Option<Revision>,
    bytes: usize,
}

impl Feed {
    /// Starts the dispatcher of `hub`.
    pub(crate) fn start(hub: WatchHub) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::default());
        let limits = hub.limits().watch_feed;
        let theirs = Arc::clone(&queue);
        let run = move || {
            while let Some(news) = theirs.wait() {
                hub.dispatch(&news);
            }
            hub.close();
        };
        let dispatcher = Builder::new().name("store-watch".to_owned()).spawn(run).map_err(StoreError::Thread)?;
        Ok(Self { queue, limits, dispatcher: Some(dispatcher) })
    }

    /// Hands over what was published: `through` is the revision that is published now.
    pub(crate) fn push(&self, revisions: impl Iterator<Item = Told>, through: Revision) {
        let mut state = self.queue.state.lock();
        for revision in revisions {
            state.news.add(revision, self.limits);
        }
        state.news.through = Some(through);
        drop(state);
        self.queue.arrived.notify_one();
    }

    /// Tells of all that lies after `before` up to `through`, which is published now, and which nothing is known of here.
    pub(crate) fn jump(&self, before: Revision, through: Revision) {
        if before == through {
            return;
        }
        let mut state = self.queue.state.lock();
        state.news.missed.get_or_insert(before.next());
        state.news.through = Some(through);
        drop(state);
        self.queue.arrived.notify_one();
    }
}

impl News {
    fn add(&mut self, told: Told, limits: QueueLimits) {
        let full = self.revisions.len() >= limits.revisions || (self.bytes >= limits.bytes && self.bytes > 0);
        if self.missed.is_none() && full {
            self.missed = Some(told.revision());
        }
        if self.missed.is_none() {
            self.bytes += told.bytes();
            self.revisions.push(told);
        }
    }
}

impl Queue {
    /// Waits for news; `None` once the store is gone and all is taken.
    fn wait(&self) -> Option<News> {
        let mut state = self.state.lock();
        while state.news.through.is_none() {
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
        Some(std::mem::take(&mut state.news))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.arrived.notify_one();
        if let Some(dispatcher) = self.dispatcher.take()
            && dispatcher.join().is_err()
        {
            tracing::error!("the watch dispatcher died");
        }
    }
}
