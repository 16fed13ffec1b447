//! SIGKILL in the middle of writing loses nothing that was acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use client::{Client, Config, Get, Put};

use crate::harness::{Server, eventually};

const WRITERS: usize = 64;
/// Puts that are acknowledged before each kill, and after the last.
const PHASES: [usize; 4] = [4_000, 5_000, 6_000, 5_000];
const PREFIX: &str = "crash/";
/// Between an error and the next attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// Which puts are done, shared by the writers.
#[derive(Default)]
struct Progress {
    next: AtomicUsize,
    acknowledged: AtomicUsize,
    /// The phase is over: an error is the end.
    over: AtomicBool,
}

impl Progress {
    /// Returns when so many puts were acknowledged. A disk that stalls delays it; only one that stands still ends it.
    async fn acknowledged(&self, count: usize) {
        loop {
            let before = self.acknowledged.load(Ordering::Relaxed);
            if before >= count {
                return;
            }
            let more = || async { (self.acknowledged.load(Ordering::Relaxed) > before).then_some(()) };
            eventually("another put", more).await;
        }
    }
}

fn key(number: usize) -> String {
    format!("{PREFIX}{number:06}")
}

fn connect(server: &Server) -> Client {
    Client::connect(&Config::new([server.endpoint()])).unwrap()
}

/// Puts one key after another until the phase is over; those that were acknowledged. A put that fails is tried again:
/// the same key and value do no harm.
async fn write(client: Client, progress: Arc<Progress>) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    while !progress.over.load(Ordering::Relaxed) {
        let number = progress.next.fetch_add(1, Ordering::Relaxed);
        while client.put(Put::new(key(number), number.to_string())).await.is_err() {
            if progress.over.load(Ordering::Relaxed) {
                return acknowledged;
            }
            tokio::time::sleep(PAUSE).await;
        }
        acknowledged.push(number);
        progress.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_acknowledged_put() {
    let mut server = Server::start().await;
    let progress = Arc::new(Progress::default());
    let mut acknowledged = Vec::new();
    let mut target = 0;
    for (phase, puts) in PHASES.into_iter().enumerate() {
        target += puts;
        progress.over.store(false, Ordering::Relaxed);
        let client = connect(&server);
        let writers: Vec<_> =
            (0..WRITERS).map(|_| tokio::spawn(write(client.clone(), Arc::clone(&progress)))).collect();
        progress.acknowledged(target).await;
        let is_last = phase + 1 == PHASES.len();
        progress.over.store(true, Ordering::Relaxed);
        if !is_last {
            server.kill();
        }
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        if !is_last {
            server.crash_and_restart().await;
        }
        every_acknowledged_put_is_there(&connect(&server), &acknowledged).await;
    }
    assert!(acknowledged.len() >= target);
}

/// Starts under load were once seen to hang in their election.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo test --test end_to_end -- --ignored again_and_again"]
async fn a_server_killed_again_and_again_always_starts() {
    const KILLS: usize = 200;
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..2 * thread::available_parallelism().unwrap().get() {
        let stop = Arc::clone(&stop);
        thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
    }
    let mut server = Server::start().await;
    for number in 0..KILLS {
        let client = connect(&server);
        let put = || async { client.put(Put::new(key(number), "")).await.ok() };
        eventually("a put", put).await;
        server.crash_and_restart().await;
    }
    stop.store(true, Ordering::Relaxed);
}

async fn every_acknowledged_put_is_there(client: &Client, acknowledged: &[usize]) {
    let read = || async { client.get(Get::prefix(PREFIX)).await.ok() };
    let stored = eventually("an answer after the restart", read).await;
    let stored: std::collections::HashMap<_, _> =
        stored.kvs.into_iter().map(|entry| (entry.key, entry.value)).collect();
    for number in acknowledged {
        let value = stored.get(key(*number).as_bytes());
        assert_eq!(value.map(|value| &value[..]), Some(number.to_string().as_bytes()), "{}", key(*number));
    }
}
