//! The store against the simplest thing that could be right.

#[cfg(test)]
mod adoption;
pub(crate) mod agreement;
#[cfg(test)]
mod alarms;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod leases;
pub(crate) mod model;
#[cfg(test)]
pub(crate) mod properties;
#[cfg(test)]
mod ranges;
#[cfg(test)]
pub(crate) mod strategy;
#[cfg(test)]
mod sweeping;

use std::time::Duration;

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Options, Read, Space};
use tempfile::TempDir;
use types::{KeyRange, LeaseId, Revision};

use crate::*;

/// A store with its engine, in memory or in a folder of its own.
pub(crate) struct Rig {
    dir: Option<TempDir>,
    parts: Option<Parts>,
    limits: Limits,
}

struct Parts {
    engine: Engine,
    store: Store,
    view: View,
    sweeper: Sweeper,
}

impl Rig {
    pub(crate) fn in_memory() -> Self {
        Self::with_limits(Limits::default())
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        let parts = Parts::open(Engine::in_memory(Store::SPACES), &limits);
        Self { dir: None, parts: Some(parts), limits }
    }

    /// A store on what an engine in memory holds.
    pub(crate) fn on(engine: Engine) -> Self {
        let limits = Limits::default();
        Self { dir: None, parts: Some(Parts::open(engine, &limits)), limits }
    }

    pub(crate) fn engine(&self) -> Engine {
        self.parts.as_ref().expect("open").engine.clone()
    }

    pub(crate) fn on_disk() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let limits = Limits::default();
        let parts = Parts::open(open(&dir), &limits);
        Self { dir: Some(dir), parts: Some(parts), limits }
    }

    /// Closes the store and opens it again on what is written.
    pub(crate) fn reopen(&mut self) {
        let engine = self.parts().engine.clone();
        self.parts = None;
        let engine = match &self.dir {
            None => engine,
            Some(dir) => {
                drop(engine);
                open(dir)
            }
        };
        self.parts = Some(Parts::open(engine, &self.limits));
    }

    fn parts(&mut self) -> &mut Parts {
        self.parts.as_mut().expect("open")
    }

    pub(crate) fn view(&self) -> View {
        self.parts.as_ref().expect("open").view.clone()
    }

    /// Applies, writes and publishes commands as one batch, and then deletes the keys of leases that ended.
    pub(crate) fn apply(&mut self, commands: Vec<Command>) -> Vec<Result<Answer, Refusal>> {
        let answers = self.apply_alone(commands);
        self.settle();
        answers
    }

    /// Deletes all keys of leases that have ended.
    pub(crate) fn settle(&mut self) {
        while !self.view().shared().endings.borrow().is_empty() {
            self.apply_entries(vec![Entry { actor: Actor::Trusted, command: Command::Settle }]);
        }
    }

    /// Applies, writes and publishes commands as one batch.
    pub(crate) fn apply_alone(&mut self, commands: Vec<Command>) -> Vec<Result<Answer, Refusal>> {
        self.apply_entries(commands.into_iter().map(Entry::from).collect())
    }

    /// As [`Rig::apply`], on behalf of actors.
    pub(crate) fn apply_as(&mut self, entries: Vec<(Actor, Command)>) -> Vec<Result<Answer, Refusal>> {
        let entries = entries.into_iter().map(|(actor, command)| Entry { actor, command });
        let answers = self.apply_entries(entries.collect());
        self.settle();
        answers
    }

    pub(crate) fn apply_entries(&mut self, entries: Vec<Entry>) -> Vec<Result<Answer, Refusal>> {
        let Parts { engine, store, .. } = self.parts();
        let mut batch = Batch::new();
        let apply = |entry| store.apply(&mut batch, entry).expect("the engine works");
        let answers = entries.into_iter().map(apply).collect();
        engine.write(batch, Durability::Buffered).expect("the engine works");
        store.publish();
        answers
    }

    pub(crate) fn run_as(&mut self, actor: &Actor, command: Command) -> Result<Answer, Refusal> {
        self.apply_as(vec![(actor.clone(), command)]).remove(0)
    }

    /// Writes users and roles as an import does; they count after [`Rig::reopen`].
    pub(crate) fn restore_auth(&mut self, auth: &Auth) {
        let mut batch = Batch::new();
        auth.write(&mut batch);
        self.parts().engine.write(batch, Durability::Buffered).expect("the engine works");
    }

    pub(crate) fn run(&mut self, command: Command) -> Result<Answer, Refusal> {
        self.apply(vec![command]).remove(0)
    }

    /// One step of the sweep.
    pub(crate) fn sweep(&mut self) -> Sweep {
        self.parts().sweeper.step().expect("the engine works")
    }

    pub(crate) fn sweep_all(&mut self) {
        while self.sweep() == Sweep::More {}
        // One that was under way had its target from before.
        while self.sweep() == Sweep::More {}
    }

    /// All rows of a space.
    pub(crate) fn rows(&mut self, space: Space) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.parts().engine.rows(space).expect("readable")
    }

    /// The keys of a range now, as `key=value`.
    pub(crate) fn show(&self, keys: KeyRange) -> Vec<String> {
        self.view().range(&Range::new(keys)).expect("readable").kvs.iter().map(text).collect()
    }
}

#[cfg(test)]
impl Rig {
    /// Goes on from what another store holds, which has applied more of the same log.
    pub(crate) fn adopt(&mut self, from: &Rig) {
        let engine = from.image();
        let parts = self.parts();
        parts.store.reopen(engine.clone()).expect("a later state");
        parts.engine = engine;
    }

    /// A copy of all rows.
    pub(crate) fn image(&self) -> Engine {
        let (from, image) = (self.engine(), Engine::in_memory(Store::SPACES));
        let mut batch = Batch::new();
        for &space in Store::SPACES {
            from.rows(space).expect("readable").into_iter().for_each(|(key, value)| batch.put(space, key, value));
        }
        image.write(batch, Durability::Buffered).expect("the engine works");
        image
    }

    /// Takes the sweeper out, to run by itself; what is stepped from now on is another.
    pub(crate) fn take_sweeper(&mut self) -> Sweeper {
        let other = self.parts().store.sweeper();
        std::mem::replace(&mut self.parts().sweeper, other)
    }
}

impl Parts {
    fn open(engine: Engine, limits: &Limits) -> Self {
        let (store, view) = Store::open(engine.clone(), limits.clone()).expect("the engine works");
        Self { engine, sweeper: store.sweeper(), store, view }
    }
}

fn open(dir: &TempDir) -> Engine {
    Engine::open(dir.path(), Store::SPACES, &Options::default()).expect("the folder is free")
}

pub(crate) fn text(kv: &KeyValue) -> String {
    format!("{}={}", String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value))
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn one(key: &str) -> KeyRange {
    KeyRange::One(bytes(key))
}

pub(crate) fn revision(value: i64) -> Revision {
    Revision::new(value).expect("positive")
}

pub(crate) fn lease(id: i64) -> LeaseId {
    LeaseId::new(id).expect("not 0")
}

pub(crate) fn put_op(key: &str, value: &str) -> Put {
    Put { key: bytes(key), value: PutValue::Set(bytes(value)), lease: PutLease::Set(None), prev_kv: false }
}

pub(crate) fn put(key: &str, value: &str) -> Command {
    Command::Put(put_op(key, value))
}

pub(crate) fn put_with_lease(key: &str, id: i64) -> Command {
    Command::Put(Put { lease: PutLease::Set(Some(lease(id))), ..put_op(key, "v") })
}

pub(crate) fn delete(keys: KeyRange) -> Command {
    Command::DeleteRange(DeleteRange { keys, prev_kv: false })
}

pub(crate) fn compact(revision: i64) -> Command {
    Command::Compact(Compact { revision })
}

pub(crate) fn grant(id: i64) -> Command {
    Command::LeaseGrant(LeaseGrant { id: lease(id), ttl: Duration::from_mins(1) })
}

pub(crate) fn revoke(ids: &[i64]) -> Command {
    Command::LeaseRevoke(LeaseRevoke { ids: ids.iter().map(|&id| lease(id)).collect() })
}
