//! Clients that read and write a few keys without pause, each through one member, and write down what they see.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use client::{Client, Config};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use tokio::task::JoinSet;

use crate::{
    harness::eventually,
    history::{Answer, Compare, Keys, Outcome, Recorder, Request, Target},
    translate,
};

/// Few, so that clients meet.
const KEYS: usize = 12;
/// Between two calls of a client, at most: every call is an operation to check.
const PAUSE_MAX: Duration = Duration::from_millis(12);
/// After a call that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);
/// Longest that a client waits for an answer; a member that is paused keeps it waiting.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The clients of one run.
pub(crate) struct Workload {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    next: u32,
}

struct Shared {
    recorder: Arc<Recorder>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Workload {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { recorder, stop, acknowledged }), clients: JoinSet::new(), next: 0 }
    }

    /// Starts some clients of one member.
    pub(crate) fn add(&mut self, member: &str, address: SocketAddr, count: usize, seed: u64) {
        for _ in 0..count {
            let number = self.next;
            self.next += 1;
            let one = One {
                number,
                member: member.to_owned(),
                client: Client::connect(&config(address)).unwrap(),
                dice: Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(u64::from(number))),
                values: 0,
                seen: 1,
            };
            self.clients.spawn(one.run(Arc::clone(&self.shared)));
        }
    }

    /// Waits until so many more writes are acknowledged; `what` says in which situation that must happen.
    pub(crate) async fn progress(&self, count: u64, what: &str) {
        let target = self.shared.acknowledged.load(Ordering::Relaxed) + count;
        let reached = || async { (self.shared.acknowledged.load(Ordering::Relaxed) >= target).then_some(()) };
        eventually(&format!("{count} more writes {what}"), reached).await;
    }

    /// Ends all clients; each finishes the call that it is in.
    pub(crate) async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

/// A client's configuration that notices soon what happens.
pub(crate) fn config(address: SocketAddr) -> Config {
    Config {
        connect_timeout: ANSWER_WITHIN / 2,
        request_timeout: ANSWER_WITHIN,
        keepalive_interval: ANSWER_WITHIN,
        keepalive_timeout: ANSWER_WITHIN,
        ..Config::new([address.to_string()])
    }
}

/// One client.
struct One {
    number: u32,
    member: String,
    client: Client,
    dice: Xoshiro256PlusPlus,
    /// How many values it has made.
    values: u64,
    /// The last revision that it was told.
    seen: i64,
}

impl One {
    async fn run(mut self, shared: Arc<Shared>) {
        while !shared.stop.load(Ordering::Relaxed) {
            let request = self.request();
            let call = shared.recorder.call(self.number, &self.member, request.clone());
            let outcome = translate::ask(&self.client, &request).await;
            shared.recorder.returned(call, outcome.clone());
            let pause = self.learn(&shared, &outcome);
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to wait before the next call.
    fn learn(&mut self, shared: &Shared, outcome: &Outcome) -> Duration {
        let Outcome::Answered(response) = outcome else { return PAUSE_AFTER_FAILURE };
        self.seen = self.seen.max(response.revision);
        if response.answer.is_change() {
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self.dice.random_range(Duration::ZERO..PAUSE_MAX)
    }

    /// Any request, writes more often than reads.
    fn request(&mut self) -> Request {
        let key = self.key();
        match self.dice.random_range(0..100) {
            0..40 => Request::put(key, self.value()),
            40..48 => Request::Delete { keys: Keys::One(key), prev: true },
            48..60 => self.compare_and_set(key),
            60..66 => Request::Txn {
                compares: Vec::new(),
                success: vec![Request::put(key, self.value()), Request::put("both", self.value())],
                failure: Vec::new(),
            },
            66..80 => Request::read(Keys::One(key)),
            80..86 => Request::read(Keys::Prefix("k".to_owned())),
            86..94 => Request::Range { keys: Keys::All, revision: 0, serializable: true, limit: 0 },
            _ => {
                let revision = (self.seen - self.dice.random_range(0..200)).max(1);
                Request::Range { keys: Keys::All, revision, serializable: false, limit: 3 }
            }
        }
    }

    /// Holds now and then: if nobody has written the key since the last revision that was told, or if it is not there.
    fn compare_and_set(&mut self, key: String) -> Request {
        let target = if self.dice.random() { Target::Version(0) } else { Target::ModRevision(self.seen) };
        let compares = vec![Compare { key: key.clone(), target }];
        let success = vec![Request::put(key.clone(), self.value())];
        let otherwise = if self.dice.random() {
            Request::read(Keys::One(key))
        } else {
            Request::Delete { keys: Keys::One(key), prev: false }
        };
        Request::Txn { compares, success, failure: vec![otherwise] }
    }

    fn key(&mut self) -> String {
        format!("k{:02}", self.dice.random_range(0..KEYS))
    }

    /// One that nobody else writes, ever.
    fn value(&mut self) -> String {
        self.values += 1;
        format!("{}-{}", self.number, self.values)
    }
}

/// Reads everything from one member, and writes that down; gives the revision. `None` if there was no answer.
pub(crate) async fn read_all(recorder: &Recorder, member: &str, client: &Client, serializable: bool) -> Option<i64> {
    let request = Request::Range { keys: Keys::All, revision: 0, serializable, limit: 0 };
    let call = recorder.call(u32::MAX, member, request.clone());
    let outcome = translate::ask(client, &request).await;
    recorder.returned(call, outcome.clone());
    match outcome {
        Outcome::Answered(response) => {
            assert!(matches!(response.answer, Answer::Range { .. }));
            Some(response.revision)
        }
        Outcome::Failed(_) | Outcome::Unknown(_) => None,
    }
}
