//! A disk in a simulation.
//!
//! Owns: what of a twin is on stable storage, and what was written to it since.
//!
//! - A crash leaves what was synced, and a first part of what was written after that: never a later batch without an
//!   earlier one, nor a part of one.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

use parking_lot::Mutex;

use crate::{Batch, Durability, Space, memory::Keys};

type Wait = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// How long a simulated disk takes to be ready for a write. Clones share it.
#[derive(Clone)]
pub struct Pace(Arc<Wait>);

impl Pace {
    /// `wait` gives what a writer waits for, each time anew.
    pub fn new(wait: impl Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(wait))
    }

    pub(crate) async fn wait(&self) {
        (self.0)().await;
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
    }
}

/// The stable storage of one twin.
#[derive(Debug)]
pub(crate) struct Disk {
    pace: Pace,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    synced: BTreeMap<Space, Arc<Keys>>,
    since: Vec<Batch>,
}

impl Disk {
    pub(crate) fn new(synced: BTreeMap<Space, Arc<Keys>>, pace: Pace) -> Self {
        Self { pace, state: Mutex::new(State { synced, since: Vec::new() }) }
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn write(&self, batch: Batch, durability: Durability) {
        let mut state = self.state.lock();
        state.since.push(batch);
        if durability == Durability::Synced {
            state.settle(usize::MAX);
        }
    }

    pub(crate) fn sync(&self) {
        self.state.lock().settle(usize::MAX);
    }

    pub(crate) fn unsynced_batches(&self) -> usize {
        self.state.lock().since.len()
    }

    /// What is there after a loss of power that came when the first `kept` batches had reached stable storage by themselves.
    pub(crate) fn crash(&self, kept: usize) -> BTreeMap<Space, Arc<Keys>> {
        let mut state = self.state.lock();
        state.settle(kept);
        state.since.clear();
        state.synced.clone()
    }
}

impl State {
    /// Brings the first `count` batches to stable storage.
    fn settle(&mut self, count: usize) {
        let count = count.min(self.since.len());
        for write in self.since.drain(..count).flat_map(|batch| batch.writes) {
            if let Some(keys) = self.synced.get_mut(&write.space()) {
                write.perform(Arc::make_mut(keys));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Batch,
        Durability::{self, Buffered, Synced},
        Engine, Pace, Read, Space, Workers,
    };

    const A: Space = Space::new("a");
    const B: Space = Space::new("b");

    fn engine() -> Engine {
        Engine::simulated(&[A, B], Pace::new(|| Box::pin(async {})))
    }

    fn put(engine: &Engine, key: &'static str, durability: Durability) {
        let mut batch = Batch::new();
        batch.put(A, key, "");
        batch.put(B, key, "");
        engine.write(batch, durability).unwrap();
    }

    /// The keys that both spaces hold; they never differ.
    fn keys(engine: &Engine) -> Vec<Vec<u8>> {
        let keys = |space| engine.rows(space).unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let [a, b] = [A, B].map(keys);
        assert_eq!(a, b);
        a
    }

    #[test]
    fn a_crash_leaves_what_was_synced_and_a_first_part_of_the_rest() {
        for (kept, expected) in [(0, &["1", "2"][..]), (1, &["1", "2", "3"]), (9, &["1", "2", "3", "4"])] {
            let engine = engine();
            put(&engine, "1", Buffered);
            put(&engine, "2", Synced);
            assert_eq!(engine.unsynced_batches(), 0);
            put(&engine, "3", Buffered);
            put(&engine, "4", Buffered);
            assert_eq!(engine.unsynced_batches(), 2);
            engine.crash(kept);
            assert_eq!(keys(&engine), expected.iter().map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>());
            engine.crash(9);
            assert_eq!(keys(&engine).len(), expected.len(), "what was lost does not come back");
        }
    }

    #[test]
    fn a_sync_keeps_all_that_was_written() {
        let engine = engine();
        put(&engine, "1", Buffered);
        engine.sync().unwrap();
        engine.crash(0);
        assert_eq!(keys(&engine).len(), 1);
    }

    #[test]
    fn only_a_simulated_engine_is_waited_for_in_tasks() {
        assert_eq!(engine().workers(), Workers::Tasks);
        assert_eq!(Engine::in_memory(&[A]).workers(), Workers::Threads);
    }
}
