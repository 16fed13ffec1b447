//! From the writer to the streams.
//!
//! Owns: the queue between `publish` and the hub, and the thread that empties it; in a simulation it is a task.
//!
//! - `push` never waits: a full queue is dropped from there on, and every watcher reads that stretch from history.
//! - A state that took another's place is news without revisions: every watcher reads them from its history.
//! - The thread ends when the store does, and all streams end with it.

use std::{
    sync::Arc,
    thread::{Builder, JoinHandle},
};

use engine::Workers;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use types::Revision;

use super::{Told, WatchHub};
use crate::{QueueLimits, StoreError};

/// The writer's end. Dropping it ends the hub.
#[derive(Debug)]
pub(crate) struct Feed {
    news: Arc<Mutex<News>>,
    limits: QueueLimits,
    /// Rung when there is news; `None` once there will be none any more.
    bell: Option<mpsc::Sender<()>>,
    /// The thread, if there is one.
    dispatcher: Option<JoinHandle<()>>,
}

/// Hands news to the hub.
struct Dispatcher {
    news: Arc<Mutex<News>>,
    bell: mpsc::Receiver<()>,
    hub: WatchHub,
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
    pub(crate) fn start(hub: WatchHub, workers: Workers) -> Result<Self, StoreError> {
        let limits = hub.limits().watch_feed;
        let (news, (ringer, bell)) = (Arc::default(), mpsc::channel(1));
        let theirs = Dispatcher { news: Arc::clone(&news), bell, hub };
        let dispatcher = match workers {
            Workers::Threads => {
                let thread = Builder::new().name("store-watch".to_owned());
                Some(thread.spawn(move || theirs.run_blocking()).map_err(StoreError::Thread)?)
            }
            Workers::Tasks => {
                // It ends when the feed is dropped.
                drop(tokio::spawn(theirs.run()));
                None
            }
        };
        Ok(Self { news, limits, bell: Some(ringer), dispatcher })
    }

    /// Hands over what was published: `through` is the revision that is published now.
    pub(crate) fn push(&self, revisions: impl Iterator<Item = Told>, through: Revision) {
        let mut news = self.news.lock();
        for revision in revisions {
            news.add(revision, self.limits);
        }
        news.through = Some(through);
        drop(news);
        self.ring();
    }

    /// Tells of all that lies after `before` up to `through`, which is published now, and which nothing is known of here.
    pub(crate) fn jump(&self, before: Revision, through: Revision) {
        if before == through {
            return;
        }
        let mut news = self.news.lock();
        news.missed.get_or_insert(before.next());
        news.through = Some(through);
        drop(news);
        self.ring();
    }

    /// A bell that was rung and not heard yet does for this news, too.
    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.try_send(()).ok();
        }
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

impl Dispatcher {
    fn run_blocking(mut self) {
        while self.bell.blocking_recv().is_some() {
            self.dispatch();
        }
        self.hub.close();
    }

    async fn run(mut self) {
        while self.bell.recv().await.is_some() {
            self.dispatch();
        }
        self.hub.close();
    }

    fn dispatch(&self) {
        let news = std::mem::take(&mut *self.news.lock());
        if news.through.is_some() {
            self.hub.dispatch(&news);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        drop(self.bell.take());
        if let Some(dispatcher) = self.dispatcher.take()
            && dispatcher.join().is_err()
        {
            tracing::error!("the watch dispatcher died");
        }
    }
}
