//! Watches: each event once, in order, no gap, whatever lags, compacts or comes and goes.

mod examples;
mod stress;

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    ops::{Deref, DerefMut},
    time::Duration,
};

use super::*;
use crate::tests::Rig;

/// What a watcher was told: the revision, and each change as text.
pub(super) type Told = (i64, Vec<String>);

/// The next delivery; a hang fails the test instead of stalling it.
pub(super) async fn next(stream: &mut WatchStream) -> Delivery {
    soon(stream.next()).await.expect("the engine works").expect("the store is there")
}

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it happens soon")
}

pub(super) fn request(id: i64, keys: KeyRange, start: WatchStart) -> WatchRequest {
    WatchRequest { id: WatchId(id), keys, start, filter: Filter::default(), prev_kv: false }
}

/// A stream that is read watcher by watcher, revision by revision, however many come at once.
pub(super) struct Reader {
    stream: WatchStream,
    waiting: BTreeMap<WatchId, VecDeque<Told>>,
}

impl Reader {
    pub(super) fn new(rig: &Rig) -> Self {
        Self { stream: rig.view().watches().stream(), waiting: BTreeMap::new() }
    }
}

impl Deref for Reader {
    type Target = WatchStream;

    fn deref(&self) -> &WatchStream {
        &self.stream
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut WatchStream {
        &mut self.stream
    }
}

/// What watcher `id` is told next of one revision. Nothing but events comes before it.
pub(super) async fn events(reader: &mut Reader, id: i64) -> Told {
    loop {
        if let Some(told) = reader.waiting.get_mut(&WatchId(id)).and_then(VecDeque::pop_front) {
            return told;
        }
        match next(&mut reader.stream).await {
            Delivery::Events(events) => reader.waiting.entry(events.watcher()).or_default().extend(told(&events)),
            other => panic!("{other:?} instead of events"),
        }
    }
}

fn told(events: &Events) -> Vec<Told> {
    let change = |(change, previous): &(&Change, Option<&crate::KeyValue>)| {
        let text = match change {
            Change::Put(kv) => format!("put {}", crate::tests::text(kv)),
            Change::Delete { key, .. } => format!("delete {}", String::from_utf8_lossy(key)),
        };
        previous.map_or(text.clone(), |previous| format!("{text} was {}", crate::tests::text(previous)))
    };
    let changes: Vec<_> = events.iter().collect();
    let revisions = changes.chunk_by(|(one, _), (next, _)| one.revision() == next.revision());
    revisions.map(|changes| (changes[0].0.revision().get(), changes.iter().map(change).collect())).collect()
}

/// Waits until streams are told of everything that is published.
pub(super) async fn dispatched(rig: &Rig) {
    let hub = rig.view().watches();
    soon(hub.dispatched(hub.published())).await;
}
