//! A rolling restart under load fails no request but such as may be made again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use client::{Client, ClientError, Get, Put};

use crate::harness::{Cluster, eventually};

const WRITERS: usize = 8;

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    done: AtomicU64,
}

/// Puts one key after another until it is told to stop; those that were acknowledged, and what went wrong for good.
async fn write(client: Client, writer: usize, load: Arc<Load>) -> (u64, Vec<String>) {
    let (mut number, mut faults) = (0, Vec::new());
    while !load.stop.load(Ordering::Relaxed) {
        match client.put(Put::new(format!("{writer}/{number:06}"), "1")).await {
            Ok(_) => {
                number += 1;
                load.done.fetch_add(1, Ordering::Relaxed);
            }
            // The same put again is the same put.
            Err(ClientError::Unavailable { .. } | ClientError::Uncertain { .. }) => {}
            Err(error) => faults.push(error.to_string()),
        }
    }
    (number, faults)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_for_good() {
    let mut cluster = Cluster::of_three().await;
    let load = Arc::new(Load::default());
    let client = cluster.client();
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(client.clone(), writer, Arc::clone(&load)))).collect();
    for at in 0..3 {
        let before = load.done.load(Ordering::Relaxed);
        let more = || async { (load.done.load(Ordering::Relaxed) > before + 100).then_some(()) };
        eventually("puts between restarts", more).await;
        assert_eq!(cluster.stop(at).await, Some(0));
        cluster.start(at).await;
        cluster.voters(3).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for writer in writers {
        let (number, faults) = writer.await.unwrap();
        assert_eq!(faults, [""; 0]);
        acknowledged += number;
    }
    for at in 0..3 {
        let client = cluster.client_of(at);
        let read = || async { client.get(Get::prefix("")).await.ok() };
        let found = eventually("a read", read).await;
        assert!(found.kvs.len() as u64 >= acknowledged, "{} of {acknowledged}", found.kvs.len());
    }
}
