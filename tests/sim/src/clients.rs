//! Those who read, write and hold leases while the members are in trouble.
//!
//! - No two puts of a run have the same value, so that an event names its put.

use std::{error::Error, time::Duration};

use client::{Client, ClientError, Code};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use types::{LeaseId, Revision};

use crate::{
    calls::call,
    history::{Answer, Compare, Keys, Request, Target},
    leases,
    stage::Stage,
};

/// What becomes of a host.
pub(crate) type Ended = Result<(), Box<dyn Error>>;

/// Reads and writes until all is calm.
pub(crate) async fn work(stage: Stage, who: u32) -> Ended {
    let client = stage.client(who as usize);
    let mut worker = Worker { rng: rng(&stage, who), who, values: 0, seen: Vec::new() };
    while !stage.is_calm() {
        let request = worker.request(&stage);
        if let Ok(response) = call(&stage, &client, who, request).await {
            worker.learn(&response.answer);
        }
        let pause = worker.rng.random_range(Duration::ZERO..=stage.plan().client_pause);
        sleep(pause).await;
    }
    Ok(())
}

fn rng(stage: &Stage, who: u32) -> StdRng {
    StdRng::seed_from_u64(stage.plan().seed.rotate_left(32) ^ u64::from(who))
}

struct Worker {
    rng: StdRng,
    who: u32,
    values: u64,
    /// Keys with the revision and the value that they had when they were read last.
    seen: Vec<(String, i64, String)>,
}

impl Worker {
    fn key(&mut self, stage: &Stage) -> String {
        format!("k{}", self.rng.random_range(0..stage.plan().keys))
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("{}.{}", self.who, self.values)
    }

    fn request(&mut self, stage: &Stage) -> Request {
        let key = self.key(stage);
        match self.rng.random_range(0..20) {
            0..=4 => Request::read(Keys::One(key)),
            5 => Request::read(Keys::Prefix("k".to_owned())),
            6 => Request::read(Keys::All),
            7 => Request::Range { keys: Keys::One(key), revision: 0, serializable: true, limit: 0 },
            8 => {
                let back = self.rng.random_range(0..20);
                let revision = (stage.observed() - back).max(1);
                Request::Range { keys: Keys::All, revision, serializable: false, limit: 3 }
            }
            9 => Request::Delete { keys: Keys::One(key), prev: true },
            10 if self.rng.random_bool(0.3) => Request::Delete { keys: Keys::Prefix("k".to_owned()), prev: false },
            10..=14 => self.compare_and_put(key),
            _ => Request::put(key, self.value()),
        }
    }

    /// A put that is only made if the key is as it was seen, or is not there.
    fn compare_and_put(&mut self, key: String) -> Request {
        let seen = self.seen.iter().find(|(seen, ..)| *seen == key);
        let target = match seen {
            Some((_, revision, _)) if self.rng.random_bool(0.5) => Target::ModRevision(*revision),
            Some((.., value)) => Target::Value(value.clone()),
            None => Target::Version(0),
        };
        let success = vec![Request::put(key.clone(), self.value()), Request::read(Keys::One(key.clone()))];
        let failure = vec![Request::read(Keys::One(key.clone()))];
        Request::Txn { compares: vec![Compare { key, target }], success, failure }
    }

    fn learn(&mut self, answer: &Answer) {
        match answer {
            Answer::Range { kvs, .. } => {
                for kv in kvs {
                    self.seen.retain(|(key, ..)| *key != kv.key);
                    self.seen.push((kv.key.clone(), kv.mod_revision, kv.value.clone()));
                }
            }
            Answer::Txn { answers, .. } => answers.iter().for_each(|answer| self.learn(answer)),
            Answer::Put { .. } | Answer::Delete { .. } => {}
        }
    }
}

/// Holds one lease after another, each with keys of its own.
pub(crate) async fn hold_leases(stage: Stage, who: u32) -> Ended {
    let client = stage.client(who as usize);
    let mut rng = rng(&stage, who);
    let mut held = 0;
    while !stage.is_calm() {
        held += 1;
        let keys = (0..rng.random_range(1..=3)).map(|key| format!("{}{who}.{held}.{key}", leases::KEYS)).collect();
        hold(&stage, &client, who, keys, &mut rng).await;
        sleep(Duration::from_millis(rng.random_range(10..=200))).await;
    }
    Ok(())
}

async fn hold(stage: &Stage, client: &Client, who: u32, keys: Vec<String>, rng: &mut StdRng) {
    let lease = LeaseId::new(rng.random_range(1..=i64::MAX)).expect("not 0");
    let (mut called, ttl) = (stage.now(), Duration::from_secs(rng.random_range(1..=3)));
    stage.leases().borrow_mut().ask(lease, ttl);
    let Ok(granted) = client.lease_grant(ttl, Some(lease)).await else { return };
    let mut until = called + granted.ttl;
    let put = |key: &String| Request::Put { key: key.clone(), value: key.clone(), lease: lease.get(), prev: false };
    let puts = Request::Txn { compares: Vec::new(), success: keys.iter().map(put).collect(), failure: Vec::new() };
    match call(stage, client, who, puts).await {
        Ok(_) => stage.leases().borrow_mut().promise(&keys, called, granted.ttl),
        Err(error) => return expect_time_is_up(stage, &keys, until, &error),
    }
    for _ in 0..rng.random_range(0..=4) {
        sleep(granted.ttl.mul_f64(rng.random_range(0.2..0.9))).await;
        if stage.is_calm() {
            return;
        }
        called = stage.now();
        match client.lease_keep_alive_once(lease).await {
            Ok(renewed) => {
                until = called + renewed.ttl;
                stage.leases().borrow_mut().promise(&keys, called, renewed.ttl);
            }
            Err(error) => return expect_time_is_up(stage, &keys, until, &error),
        }
    }
    if rng.random_bool(0.3) {
        stage.leases().borrow_mut().release(&keys);
        // It ends by itself if this does not end it.
        drop(client.lease_revoke(lease).await);
    }
}

/// That a lease is not there is no surprise only when its time is up.
fn expect_time_is_up(stage: &Stage, keys: &[String], until: Duration, error: &ClientError) {
    let now = stage.now();
    if error.code() == Some(Code::NotFound) && now < until {
        stage.fault(format!("the lease of {keys:?} was gone at {now:?}, but promised until {until:?}: {error}"));
    }
}

/// Compacts what observers have been told of, now and then.
pub(crate) async fn compact(stage: Stage, who: u32) -> Ended {
    let client = stage.client(who as usize);
    let mut rng = rng(&stage, who);
    while !stage.is_calm() {
        sleep(Duration::from_millis(rng.random_range(50..=1_500))).await;
        let revision = stage.observed() - rng.random_range(0..=10);
        if let Some(revision) = Revision::new(revision).filter(|revision| revision.get() > 1) {
            stage.compact(revision.get());
            // It may have been done before, or come too late.
            drop(client.compact(revision, rng.random_bool(0.2)).await);
        }
    }
    Ok(())
}
