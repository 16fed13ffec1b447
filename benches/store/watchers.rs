//! Many watchers of one key.

use std::time::Instant;

use anyhow::{Context, ensure};
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion};
use tokio::time::timeout_at;

use super::client::{Client, key};

/// The number of the key that is watched.
pub(crate) const KEY: usize = 0;

/// Watches as often as `watchers` says on one stream, and counts the events from `begin` until `end`. Each watcher must see
/// revisions that only grow.
pub(crate) async fn count(client: Client, watchers: usize, begin: Instant, end: Instant) -> anyhow::Result<usize> {
    let (mut questions, mut answers) = client.0.stream("/etcdserverpb.Watch/Watch", &create(1)).await?;
    for id in 2..=watchers {
        questions.send(&create(id))?;
    }
    let mut last = vec![0; watchers + 1];
    let mut events = 0;
    while let Ok(answer) = timeout_at(end.into(), answers.next::<WatchResponse>()).await {
        let answer = answer?.context("the watch stream ended")?;
        ensure!(!answer.canceled, "a watch was cancelled: {}", answer.cancel_reason);
        let last = &mut last[usize::try_from(answer.watch_id)?];
        for event in &answer.events {
            let revision = event.kv.as_ref().context("an event without a key")?.mod_revision;
            ensure!(revision > *last, "revision {revision} came after {last}");
            *last = revision;
        }
        if Instant::now() >= begin {
            events += answer.events.len();
        }
    }
    Ok(events)
}

fn create(id: usize) -> WatchRequest {
    let create = WatchCreateRequest {
        key: key(KEY).into(),
        watch_id: i64::try_from(id).unwrap_or(i64::MAX),
        ..Default::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}
