//! The simplest store that could be right: a map, and a number that counts its changes.

use std::collections::BTreeMap;

use super::{
    operation::{Answer, Compare, KeyValue, Keys, Request, Response, Target},
    watch::{Change, Event},
};

/// All keys at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) revision: i64,
    keys: BTreeMap<String, KeyValue>,
}

impl Default for State {
    /// The empty store.
    fn default() -> Self {
        Self { revision: 1, keys: BTreeMap::new() }
    }
}

impl State {
    pub(crate) fn get(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    /// Those of `keys` that are there, in order.
    pub(crate) fn select(&self, keys: &Keys) -> Vec<KeyValue> {
        match keys {
            Keys::One(key) => self.get(key).cloned().into_iter().collect(),
            Keys::Prefix(_) | Keys::All => self.keys.values().filter(|kv| keys.contain(&kv.key)).cloned().collect(),
        }
    }

    /// All keys of a lease, in order.
    pub(crate) fn leased(&self, lease: i64) -> Vec<String> {
        self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect()
    }

    /// Goes on to the revision that `events` are of.
    pub(crate) fn apply(&mut self, events: &[Event]) {
        for event in events {
            self.revision = event.revision;
            self.change(&event.change);
        }
    }

    /// Does what a request asks, and what there is to tell of it. A read is one of the present.
    pub(crate) fn run(&mut self, request: &Request) -> (Response, Vec<Event>) {
        let mut events = Vec::new();
        let answer = self.step(request, self.revision + 1, &mut events);
        if !events.is_empty() {
            self.revision += 1;
        }
        (Response { revision: self.revision, answer }, events)
    }

    /// Takes back what a request did last, of which it gave these events.
    pub(crate) fn undo(&mut self, events: &[Event]) {
        for event in events.iter().rev() {
            match &event.prev {
                Some(kv) => self.keys.insert(kv.key.clone(), kv.clone()),
                None => self.keys.remove(event.key()),
            };
        }
        if !events.is_empty() {
            self.revision -= 1;
        }
    }

    fn step(&mut self, request: &Request, next: i64, events: &mut Vec<Event>) -> Answer {
        match request {
            Request::Range { keys, limit, .. } => range(self.select(keys), *limit),
            Request::Put { key, value, lease, prev } => {
                let before = self.put(key, value, *lease, next, events);
                Answer::Put { prev: before.filter(|_| *prev) }
            }
            Request::Delete { keys, prev } => {
                let gone = self.select(keys);
                for kv in &gone {
                    self.emit(Change::Delete(kv.key.clone()), next, events);
                }
                let deleted = i64::try_from(gone.len()).expect("a test has few keys");
                Answer::Delete { deleted, prev: if *prev { gone } else { Vec::new() } }
            }
            Request::Txn { compares, success, failure } => {
                let succeeded = compares.iter().all(|compare| self.holds(compare));
                let steps = if succeeded { success } else { failure };
                let answers = steps.iter().map(|step| self.step(step, next, events)).collect();
                Answer::Txn { succeeded, answers }
            }
        }
    }

    fn put(&mut self, key: &str, value: &str, lease: i64, revision: i64, events: &mut Vec<Event>) -> Option<KeyValue> {
        let before = self.get(key).cloned();
        let (create_revision, version) =
            before.as_ref().map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
        let (key, value) = (key.to_owned(), value.to_owned());
        let kv = KeyValue { key, value, create_revision, mod_revision: revision, version, lease };
        self.emit(Change::Put(kv), revision, events);
        before
    }

    fn emit(&mut self, change: Change, revision: i64, events: &mut Vec<Event>) {
        let prev = self.change(&change);
        events.push(Event { revision, change, prev });
    }

    /// What the key was before.
    fn change(&mut self, change: &Change) -> Option<KeyValue> {
        match change {
            Change::Put(kv) => self.keys.insert(kv.key.clone(), kv.clone()),
            Change::Delete(key) => self.keys.remove(key),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.get(&compare.key);
        match &compare.target {
            Target::Value(value) => kv.is_some_and(|kv| kv.value == *value),
            Target::ModRevision(revision) => kv.map_or(0, |kv| kv.mod_revision) == *revision,
            Target::Version(version) => kv.map_or(0, |kv| kv.version) == *version,
        }
    }
}

/// The answer to a read that finds `kvs`.
pub(crate) fn range(mut kvs: Vec<KeyValue>, limit: i64) -> Answer {
    let count = i64::try_from(kvs.len()).expect("a test has few keys");
    if limit > 0 {
        kvs.truncate(usize::try_from(limit).expect("a limit is positive"));
    }
    Answer::Range { kvs, count }
}
