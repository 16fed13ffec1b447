//! Watches: each event once, in order, no gap, whatever lags, compacts or comes and goes.

mod examples;
mod stress;

use std::{future::Future, time::Duration};

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

pub(super) fn told(events: &Events) -> Told {
    let change = |(change, previous): (&Change, Option<&crate::KeyValue>)| {
        let text = match change {
            Change::Put(kv) => format!("put {}", crate::tests::text(kv)),
            Change::Delete { key, .. } => format!("delete {}", String::from_utf8_lossy(key)),
        };
        previous.map_or(text.clone(), |previous| format!("{text} was {}", crate::tests::text(previous)))
    };
    (events.revision().get(), events.iter().map(change).collect())
}

/// The next delivery, as the events of watcher `id`.
pub(super) async fn events(stream: &mut WatchStream, id: i64) -> Told {
    match next(stream).await {
        Delivery::Events(events) => {
            assert_eq!(events.watcher(), WatchId(id));
            told(&events)
        }
        other => panic!("{other:?} instead of events"),
    }
}

/// Waits until streams are told of everything that is published.
pub(super) async fn dispatched(rig: &Rig) {
    let hub = rig.view().watches();
    soon(hub.dispatched(hub.published())).await;
}
