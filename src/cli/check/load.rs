//! Clients that write as fast as they are let, and what became of their writes.
//!
//! - A write that is not wanted in time is not made up for later: who cannot keep up is seen to write less.

use client::{Client, Put};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

/// What became of all writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// How long each took that succeeded, seconds.
    took: Vec<f64>,
    /// How often each error came.
    pub(super) errors: BTreeMap<String, u64>,
    /// From the first to the last.
    elapsed: Duration,
}

impl Outcome {
    /// Successful writes a second.
    pub(super) fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { count(self.took.len()) / seconds } else { 0.0 }
    }

    /// Seconds.
    pub(super) fn slowest(&self) -> f64 {
        self.took.iter().copied().fold(0.0, f64::max)
    }

    /// Seconds.
    pub(super) fn standard_deviation(&self) -> f64 {
        if self.took.is_empty() {
            return 0.0;
        }
        let mean = self.took.iter().sum::<f64>() / count(self.took.len());
        let squares: f64 = self.took.iter().map(|took| (took - mean).powi(2)).sum();
        (squares / count(self.took.len())).sqrt()
    }

    fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        for (error, times) in other.errors {
            *self.errors.entry(error).or_default() += times;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "fewer writes than 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// What each client writes.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) prefix: String,
    /// Bytes after the prefix.
    pub(super) key_bytes: usize,
    pub(super) value_bytes: usize,
}

impl Shape {
    /// A key that hardly comes twice.
    fn put(&self) -> Put {
        let mut key = self.prefix.clone().into_bytes();
        let random = rand::random::<u64>().to_be_bytes();
        key.extend(random.into_iter().chain(std::iter::repeat(0)).take(self.key_bytes));
        Put::new(key, vec![0; self.value_bytes])
    }
}

/// Writes that are wanted, and how many were done.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    wanted: Arc<Semaphore>,
    done: Arc<AtomicU64>,
    /// Most that wait to be taken up.
    waiting_max: usize,
}

impl Pace {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self { wanted: Arc::new(Semaphore::new(0)), done: Arc::default(), waiting_max }
    }

    /// Wants up to `count` more; how many of them there was room for.
    pub(super) fn want(&self, count: usize) -> usize {
        let room = self.waiting_max.saturating_sub(self.wanted.available_permits()).min(count);
        self.wanted.add_permits(room);
        room
    }

    /// Wants no more: each client stops after the write that it makes.
    pub(super) fn end(&self) {
        self.wanted.close();
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Lets the clients write while `pacing` goes on, and then ends.
pub(super) async fn run(clients: &[Client], shape: &Shape, pace: &Pace, pacing: impl Future<Output = ()>) -> Outcome {
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for client in clients {
        writers.spawn(write(client.clone(), shape.clone(), pace.clone()));
    }
    pacing.await;
    pace.end();
    let mut outcome = Outcome::default();
    while let Some(one) = writers.join_next().await {
        outcome.add(one.unwrap_or_default());
    }
    outcome.elapsed = started.elapsed();
    outcome
}

async fn write(client: Client, shape: Shape, pace: Pace) -> Outcome {
    let mut outcome = Outcome::default();
    while let Ok(permit) = pace.wanted.acquire().await {
        permit.forget();
        let started = Instant::now();
        match client.put(shape.put()).await {
            Ok(_) => outcome.took.push(started.elapsed().as_secs_f64()),
            Err(error) => *outcome.errors.entry(error.to_string()).or_default() += 1,
        }
        pace.done.fetch_add(1, Ordering::Relaxed);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_its_rate_its_slowest_and_its_spread() {
        let mut outcome = Outcome { took: vec![0.1, 0.3], ..Outcome::default() };
        outcome.add(Outcome { took: vec![0.2], errors: [("no".to_owned(), 2)].into(), ..Outcome::default() });
        outcome.add(Outcome { errors: [("no".to_owned(), 1)].into(), ..Outcome::default() });
        outcome.elapsed = Duration::from_secs(2);
        assert!((outcome.rate() - 1.5).abs() < 1e-9);
        assert!((outcome.slowest() - 0.3).abs() < 1e-9);
        assert!((outcome.standard_deviation() - (0.02_f64 / 3.0).sqrt()).abs() < 1e-9);
        assert_eq!(outcome.errors["no"], 3);
        assert!(Outcome::default().rate().abs() < 1e-9 && Outcome::default().standard_deviation().abs() < 1e-9);
    }

    #[test]
    fn no_more_is_wanted_than_there_is_room_for() {
        let pace = Pace::new(3);
        assert_eq!((pace.want(2), pace.want(2), pace.want(1)), (2, 1, 0));
    }

    #[test]
    fn keys_have_the_size_that_was_asked_for() {
        let shape = Shape { prefix: "/p/".into(), key_bytes: 256, value_bytes: 10 };
        let put = shape.put();
        assert_eq!((put.key.len(), put.value.len()), (3 + 256, 10));
        assert!(put.key.starts_with(b"/p/") && put.key != shape.put().key);
    }
}
