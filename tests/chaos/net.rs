//! The ways between members, and what becomes of what passes there.
//!
//! Owns: the present state of each way. A way has a direction: what one member sends another, on whichever of them's
//! connections.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use tokio::sync::watch;

/// What becomes of what one member sends another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// Nothing passes. What was sent waits, as it does in a network that loses everything and is mended before the
    /// connection is given up.
    pub(crate) blocked: bool,
    /// How long each piece takes.
    pub(crate) delay: Duration,
    /// What is added to that at most, by chance.
    pub(crate) jitter: Duration,
    /// A connection that carried so many bytes is broken, in the middle of whatever it carries.
    pub(crate) cut_after_bytes: Option<u64>,
    /// How often all connections of this way have been broken.
    broken: u64,
}

impl Way {
    /// Whether it was broken since it was `before`.
    pub(crate) fn was_broken_since(&self, before: &Self) -> bool {
        self.broken != before.broken
    }

    /// How long the next piece takes.
    pub(crate) fn takes(&self, dice: &mut Xoshiro256PlusPlus) -> Duration {
        if self.jitter.is_zero() { self.delay } else { self.delay + dice.random_range(Duration::ZERO..self.jitter) }
    }
}

/// All ways among some members, which are known by their places.
#[derive(Default)]
pub(crate) struct Net {
    ways: Mutex<HashMap<(usize, usize), watch::Sender<Way>>>,
    /// The processes of the members that run.
    processes: Mutex<HashMap<usize, u32>>,
}

impl Net {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A member's process is this one now, or none.
    pub(crate) fn runs(&self, member: usize, process: Option<u32>) {
        let mut processes = self.processes.lock().unwrap();
        match process {
            Some(process) => processes.insert(member, process),
            None => processes.remove(&member),
        };
    }

    /// The members that run, with their processes.
    pub(crate) fn processes(&self) -> Vec<(usize, u32)> {
        self.processes.lock().unwrap().iter().map(|(member, process)| (*member, *process)).collect()
    }

    /// Follows one way.
    pub(crate) fn way(&self, from: usize, to: usize) -> watch::Receiver<Way> {
        self.ways.lock().unwrap().entry((from, to)).or_default().subscribe()
    }

    /// Changes one way.
    pub(crate) fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Way)) {
        self.ways.lock().unwrap().entry((from, to)).or_default().send_modify(change);
    }

    /// Changes the ways from one member to others.
    pub(crate) fn from(&self, member: usize, others: &[usize], change: impl Fn(&mut Way)) {
        others.iter().filter(|other| **other != member).for_each(|other| self.change(member, *other, &change));
    }

    /// Changes the ways to one member from others.
    pub(crate) fn to(&self, member: usize, others: &[usize], change: impl Fn(&mut Way)) {
        others.iter().filter(|other| **other != member).for_each(|other| self.change(*other, member, &change));
    }

    /// Changes the ways between a member and others, both directions.
    pub(crate) fn around(&self, member: usize, others: &[usize], change: impl Fn(&mut Way)) {
        self.from(member, others, &change);
        self.to(member, others, &change);
    }

    /// Everything passes, at once. Connections stay as they are.
    pub(crate) fn heal(&self) {
        for way in self.ways.lock().unwrap().values() {
            way.send_modify(|way| *way = Way { broken: way.broken, ..Way::default() });
        }
    }
}

/// Breaks all connections of a way, with what they carry.
pub(crate) fn break_off(way: &mut Way) {
    way.broken += 1;
}

pub(crate) fn block(way: &mut Way) {
    way.blocked = true;
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways = self.ways.lock().unwrap();
        f.debug_map().entries(ways.iter().map(|(between, way)| (between, *way.borrow()))).finish()
    }
}
