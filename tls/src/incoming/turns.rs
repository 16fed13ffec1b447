//! Whose turn it is to accept, among threads that share a listener.
//!
//! Owns: how many connections each thread has.
//!
//! - Those with the fewest connections accept, and no others: a connection stays where it was accepted, and whoever is woken
//!   first would take all that come together.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// The threads that accept from one listener. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Mutex<BTreeMap<usize, Thread>>>);

#[derive(Debug, Default)]
struct Thread {
    connections: usize,
    /// Woken when it is its turn.
    waiting: Option<Waker>,
}

/// One thread's turns. It is waited for no more once this is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    number: usize,
}

/// A connection that a thread has accepted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    turns: Turns,
    number: usize,
}

impl Turns {
    /// One more thread accepts.
    pub fn join(&self) -> Turn {
        let mut threads = self.0.lock();
        let number = threads.last_key_value().map_or(0, |(last, _)| last + 1);
        threads.insert(number, Thread::default());
        Turn { turns: self.clone(), number }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<usize, Thread>)) {
        let mut threads = self.0.lock();
        change(&mut threads);
        let fewest = threads.values().map(|thread| thread.connections).min();
        let next = threads.values_mut().filter(|thread| Some(thread.connections) == fewest);
        next.filter_map(|thread| thread.waiting.take()).for_each(Waker::wake);
    }

    fn count(&self, number: usize, count: impl FnOnce(usize) -> usize) {
        self.change(|threads| {
            // Connections may outlive the thread's turns.
            if let Some(thread) = threads.get_mut(&number) {
                thread.connections = count(thread.connections);
            }
        });
    }
}

impl Turn {
    /// Ready while no other thread has fewer connections.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut threads = self.turns.0.lock();
        let fewest = threads.values().map(|thread| thread.connections).min();
        match threads.get_mut(&self.number) {
            Some(own) if Some(own.connections) != fewest => {
                own.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(_) | None => Poll::Ready(()),
        }
    }

    /// Counts a connection that was accepted.
    pub(super) fn take(&self) -> Taken {
        self.turns.count(self.number, |connections| connections + 1);
        Taken { turns: self.turns.clone(), number: self.number }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.change(|threads| drop(threads.remove(&self.number)));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.turns.count(self.number, |connections| connections - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_more_waits_until_it_has_not() {
        let turns = Turns::default();
        let (one, other) = (turns.join(), turns.join());
        let wait = |turn: &Turn| turn.poll(&mut Context::from_waker(Waker::noop()));
        assert!(wait(&one).is_ready() && wait(&other).is_ready(), "both may take the first");
        let first = one.take();
        assert!(wait(&one).is_pending() && wait(&other).is_ready());

        let waiting = tokio::spawn(async move {
            std::future::poll_fn(|cx| one.poll(cx)).await;
            one
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let second = other.take();
        let one = waiting.await.unwrap();
        let third = one.take();
        assert!(wait(&one).is_pending());
        drop(first);
        assert!(wait(&one).is_ready(), "a connection has ended");

        drop(second);
        assert!(wait(&one).is_pending());
        drop(other);
        assert!(wait(&one).is_ready(), "nobody else accepts any more");
        drop(third);
        assert!(wait(&one).is_ready());
    }
}
