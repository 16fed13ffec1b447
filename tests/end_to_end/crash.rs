//! SIGKILL in the middle of writing loses nothing that was acknowledged.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use client::{Client, Config, Get, Put};

use crate::harness::{Server, eventually};

const PUTS: usize = 20_000;
const WRITERS: usize = 64;
/// Acknowledged puts after which the server is killed.
const KILL_AT: [usize; 3] = [4_000, 9_000, 15_000];
const PREFIX: &str = "crash/";

/// Which puts are done, shared by the writers.
#[derive(Default)]
struct Progress {
    next: AtomicUsize,
    acknowledged: AtomicUsize,
    /// The server is being killed: an error is the end.
    killed: AtomicBool,
}

fn key(number: usize) -> String {
    format!("{PREFIX}{number:06}")
}

fn connect(server: &Server) -> Client {
    Client::connect(&Config::new([server.endpoint()])).unwrap()
}

/// Puts the next keys until the server is killed or all are put; the numbers that were acknowledged, and those that were
/// not. A disk that stalls for longer than a request may take costs a put its acknowledgement, and is no end.
async fn write(client: Client, progress: Arc<Progress>) -> (Vec<usize>, Vec<usize>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    loop {
        let number = progress.next.fetch_add(1, Ordering::Relaxed);
        if number >= PUTS {
            return (acknowledged, unknown);
        }
        if client.put(Put::new(key(number), number.to_string())).await.is_err() {
            unknown.push(number);
            if progress.killed.load(Ordering::Relaxed) {
                return (acknowledged, unknown);
            }
            continue;
        }
        acknowledged.push(number);
        progress.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_acknowledged_put() {
    let mut server = Server::start().await;
    let progress = Arc::new(Progress::default());
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for kill_at in KILL_AT.into_iter().map(Some).chain([None]) {
        progress.killed.store(false, Ordering::Relaxed);
        let client = connect(&server);
        let writers: Vec<_> =
            (0..WRITERS).map(|_| tokio::spawn(write(client.clone(), Arc::clone(&progress)))).collect();
        if let Some(kill_at) = kill_at {
            let reached = || async { (progress.acknowledged.load(Ordering::Relaxed) >= kill_at).then_some(()) };
            eventually("enough puts", reached).await;
            progress.killed.store(true, Ordering::Relaxed);
            server.kill();
        }
        for writer in writers {
            let (done, lost) = writer.await.unwrap();
            acknowledged.extend(done);
            unknown.extend(lost);
        }
        if kill_at.is_some() {
            server.crash_and_restart().await;
        }
        every_acknowledged_put_is_there(&connect(&server), &acknowledged).await;
    }
    assert_eq!(acknowledged.len() + unknown.len(), PUTS);
    assert!(unknown.len() < PUTS / 10, "{} of {PUTS} puts had no answer", unknown.len());
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
