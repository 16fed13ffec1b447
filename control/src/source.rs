//! The configuration's way out of the store: one task that holds all of it, at the newest revision.
//!
//! Owns: the current [`Compiled`] revision, which streams read through a watch channel.
//! In:   a read of everything once, then a watch from the next revision on.
//! Out:  whole revisions, one after another; those that queued up meanwhile as one.
//!
//! - No revision is shown in part, and none goes back.
//! - There is no timer: a change is compiled when it arrives.
//! - When history is compacted away under the watch, everything is read anew.

use std::{sync::Arc, time::Duration};

use client::{Client, ClientError, Event, Get, KeyValue, Watch, WatchBatch, WatchOptions};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{KeyRange, TrustDomain};

use crate::{
    compile::Compiled,
    mesh::{Snapshot, Stored},
    model::{Id, KEY_PREFIX, Resource},
};

/// How long to wait before the store is asked again after a failure.
const RETRY: Duration = Duration::from_millis(500);
/// Most queued batches that are taken as one.
const COALESCE_MAX: usize = 1024;

/// Follows the store until `stop`, publishing each revision. Never gives up: without the store the last one stays.
pub(crate) async fn follow(
    client: Client,
    trust_domain: TrustDomain,
    publish: watch::Sender<Option<Arc<Compiled>>>,
    stop: CancellationToken,
) {
    let source = Source { client, trust_domain, publish };
    while let Some(outcome) = stop.run_until_cancelled(source.run()).await {
        match outcome {
            Err(ClientError::Compacted { .. }) => info!("the watched history was compacted, reading everything anew"),
            Err(error) => {
                warn!(%error, "following the configuration failed, starting over");
                if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    return;
                }
            }
            Ok(()) => {}
        }
    }
}

/// Reads all configuration as of now.
pub(crate) async fn load(client: &Client) -> Result<Snapshot, ClientError> {
    let response = client.get(Get::prefix(KEY_PREFIX)).await?;
    let mut snapshot = Snapshot::empty(response.revision);
    for kv in &response.kvs {
        put(&mut snapshot, kv);
    }
    Ok(snapshot)
}

struct Source {
    client: Client,
    trust_domain: TrustDomain,
    publish: watch::Sender<Option<Arc<Compiled>>>,
}

impl Source {
    /// Reads everything, then follows; ends when the watch does.
    async fn run(&self) -> Result<(), ClientError> {
        let mut snapshot = load(&self.client).await?;
        let options = WatchOptions { start: Some(snapshot.revision.next()), ..WatchOptions::default() };
        self.compile(&snapshot).await;
        info!(revision = %snapshot.revision, resources = snapshot.iter().count(), "configuration loaded");
        let mut watch = self.client.watch(KeyRange::prefix(KEY_PREFIX), options).await?;
        while let Some(batch) = watch.next().await {
            apply(&mut snapshot, batch?);
            drain(&mut watch, &mut snapshot)?;
            self.compile(&snapshot).await;
        }
        Ok(())
    }

    /// Compiles off the async workers: a large mesh takes a while.
    async fn compile(&self, snapshot: &Snapshot) {
        let (snapshot, trust_domain) = (snapshot.clone(), self.trust_domain.clone());
        let earlier = self.publish.borrow().clone();
        let compile = move || Arc::new(Compiled::new(snapshot, &trust_domain, earlier.as_deref()));
        match tokio::task::spawn_blocking(compile).await {
            Ok(compiled) => drop(self.publish.send_replace(Some(compiled))),
            Err(error) => warn!(%error, "a revision was not compiled, the one before it stays"),
        }
    }
}

/// Takes in what has already arrived.
fn drain(watch: &mut Watch, snapshot: &mut Snapshot) -> Result<(), ClientError> {
    for _ in 0..COALESCE_MAX {
        let Some(Some(batch)) = watch.next().now_or_never() else { return Ok(()) };
        apply(snapshot, batch?);
    }
    Ok(())
}

fn apply(snapshot: &mut Snapshot, batch: WatchBatch) {
    for event in batch.events {
        match event {
            Event::Put { kv, .. } => put(snapshot, &kv),
            Event::Delete { key, .. } => {
                if let Some(id) = Id::of_key(&key) {
                    snapshot.remove(&id);
                }
            }
        }
    }
    snapshot.revision = batch.revision;
}

/// A value that can not be read counts as absent: it was written past the mesh API.
fn put(snapshot: &mut Snapshot, kv: &KeyValue) {
    let Some(id) = Id::of_key(&kv.key) else {
        return warn!(key = %String::from_utf8_lossy(&kv.key), "a key under the configuration names no resource");
    };
    match Resource::from_json(&id, &kv.value) {
        Ok(resource) => {
            let stored = Stored { resource, created: kv.create_revision, modified: kv.mod_revision };
            snapshot.put(Arc::new(stored));
        }
        Err(error) => {
            warn!(resource = %id, revision = %kv.mod_revision, %error, "a stored resource is unreadable and has no effect");
            snapshot.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
