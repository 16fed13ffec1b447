//! Clients that go on while a cluster is worked on, and what became of their calls.
//!
//! - A call may fail so that it may be made again: nobody serves it at once, or its connection ends. How often is said. A
//!   call that is answered by nothing at all until its client gives up is a fault, as is every other failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use client::{Client, ClientError, Get, Put, WatchOptions};
use futures_util::StreamExt;
use tokio::task::JoinHandle;
use types::{KeyRange, Revision};

use crate::harness::{Cluster, eventually};

const WRITERS: usize = 8;
/// What the client says of a server that was silent.
const SILENT: &str = "no answer within";

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    /// The keys that the watcher was told of.
    told: Mutex<BTreeSet<String>>,
}

/// How calls failed.
#[derive(Default)]
struct Failures {
    /// Such as may be made again, by cause.
    again: BTreeMap<&'static str, u64>,
    faults: Vec<String>,
}

impl Failures {
    fn count(&mut self, call: &str, error: &ClientError) {
        let text = error.to_string();
        let cause = match error {
            _ if text.contains(SILENT) => None,
            ClientError::Unavailable { .. } => Some("nobody served"),
            // The same put again is the same put.
            ClientError::Uncertain { .. } if text.contains("etcdserver: ") => Some("an unavailable server's answer"),
            ClientError::Uncertain { .. } => Some("a connection that ended"),
            _ => None,
        };
        match cause {
            Some(cause) => *self.again.entry(cause).or_default() += 1,
            None => self.faults.push(format!("{call}: {text}")),
        }
    }

    fn add(&mut self, other: Self) {
        for (cause, count) in other.again {
            *self.again.entry(cause).or_default() += count;
        }
        self.faults.extend(other.faults);
    }
}

/// Clients on all members: they write, read what they have written, and one watches everything.
pub(super) struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<(u64, Failures)>>,
    watcher: JoinHandle<()>,
}

impl Load {
    pub(super) fn start(cluster: &Cluster) -> Self {
        let (shared, client) = (Arc::new(Shared::default()), cluster.client());
        let writer = |writer| tokio::spawn(write(client.clone(), writer, Arc::clone(&shared)));
        let writers = (0..WRITERS).map(writer).collect();
        let watcher = tokio::spawn(watch(client.clone(), Arc::clone(&shared)));
        Self { shared, writers, watcher }
    }

    /// Waits until so many more puts were acknowledged.
    pub(super) async fn more(&self, puts: u64) {
        let before = self.shared.done.load(Ordering::Relaxed);
        let more = || async { (self.shared.done.load(Ordering::Relaxed) > before + puts).then_some(()) };
        eventually("more puts", more).await;
    }

    /// Ends it. No call failed but such as may be made again, and each put that was acknowledged was told to who watches,
    /// and is on every member.
    pub(super) async fn end(self, cluster: &Cluster) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let (mut acknowledged, mut failures) = (0, Failures::default());
        for writer in self.writers {
            let (number, failed) = writer.await.unwrap();
            failures.add(failed);
            acknowledged += number;
        }
        eprintln!("{acknowledged} puts and their reads; failed, and were made again: {:?}", failures.again);
        assert_eq!(failures.faults, [""; 0]);
        let told = || async { (self.shared.told.lock().unwrap().len() as u64 >= acknowledged).then_some(()) };
        eventually("everything is told to who watches", told).await;
        assert!(!self.watcher.is_finished(), "the watch goes on");
        self.watcher.abort();
        for at in 0..cluster.len() {
            let client = cluster.client_of(at);
            let read = || async { client.get(Get::prefix("")).await.ok() };
            let found = eventually("a read", read).await;
            assert!(found.kvs.len() as u64 >= acknowledged, "{} of {acknowledged}", found.kvs.len());
        }
    }
}

/// Puts one key after another until it is told to stop, and reads each; how many there are, and how calls failed.
async fn write(client: Client, writer: usize, shared: Arc<Shared>) -> (u64, Failures) {
    let (mut number, mut failures) = (0, Failures::default());
    while !shared.stop.load(Ordering::Relaxed) {
        let key = format!("{writer}/{number:06}");
        match client.put(Put::new(key.clone(), "1")).await {
            Ok(_) => {
                number += 1;
                shared.done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                failures.count("put", &error);
                continue;
            }
        }
        match client.get(Get::key(key.clone())).await {
            Ok(found) if found.kvs.is_empty() => {
                failures.faults.push(format!("{key} was acknowledged, and is not read"));
            }
            Ok(_) => {}
            Err(error) => failures.count("get", &error),
        }
    }
    (number, failures)
}

/// Watches everything from the beginning, and takes note of each key.
async fn watch(client: Client, shared: Arc<Shared>) {
    let options = WatchOptions { start: Revision::new(1), ..WatchOptions::default() };
    let mut watch = client.watch(KeyRange::all(), options).await.unwrap();
    while let Some(batch) = watch.next().await {
        let keys = batch.unwrap().events.into_iter().map(|event| String::from_utf8_lossy(event.key()).into_owned());
        shared.told.lock().unwrap().extend(keys);
    }
}
