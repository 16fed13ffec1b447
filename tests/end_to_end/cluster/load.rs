//! Writers that go on while a cluster is worked on, and what became of their writes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use client::{Client, ClientError, Get, Put};
use tokio::task::JoinHandle;

use crate::harness::{Cluster, eventually};

const WRITERS: usize = 8;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
}

/// Writers on all members.
pub(super) struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<(u64, Vec<String>)>>,
}

impl Load {
    pub(super) fn start(cluster: &Cluster) -> Self {
        let (shared, client) = (Arc::new(Shared::default()), cluster.client());
        let writer = |writer| tokio::spawn(write(client.clone(), writer, Arc::clone(&shared)));
        let writers = (0..WRITERS).map(writer).collect();
        Self { shared, writers }
    }

    /// Waits until so many more puts were acknowledged.
    pub(super) async fn more(&self, puts: u64) {
        let before = self.shared.done.load(Ordering::Relaxed);
        let more = || async { (self.shared.done.load(Ordering::Relaxed) > before + puts).then_some(()) };
        eventually("more puts", more).await;
    }

    /// Ends it. No put failed but such as may be made again, and each that was acknowledged is on every member.
    pub(super) async fn end(self, cluster: &Cluster) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = 0;
        for writer in self.writers {
            let (number, faults) = writer.await.unwrap();
            assert_eq!(faults, [""; 0]);
            acknowledged += number;
        }
        for at in 0..cluster.len() {
            let client = cluster.client_of(at);
            let read = || async { client.get(Get::prefix("")).await.ok() };
            let found = eventually("a read", read).await;
            assert!(found.kvs.len() as u64 >= acknowledged, "{} of {acknowledged}", found.kvs.len());
        }
    }
}

/// Puts one key after another until it is told to stop; those that were acknowledged, and what went wrong for good.
async fn write(client: Client, writer: usize, shared: Arc<Shared>) -> (u64, Vec<String>) {
    let (mut number, mut faults) = (0, Vec::new());
    while !shared.stop.load(Ordering::Relaxed) {
        match client.put(Put::new(format!("{writer}/{number:06}"), "1")).await {
            Ok(_) => {
                number += 1;
                shared.done.fetch_add(1, Ordering::Relaxed);
            }
            // The same put again is the same put.
            Err(ClientError::Unavailable { .. } | ClientError::Uncertain { .. }) => {}
            Err(error) => faults.push(error.to_string()),
        }
    }
    (number, faults)
}
