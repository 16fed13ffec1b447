//! Who makes the trouble.
//!
//! Owns: what is broken now, and when it is to be mended.
//!
//! - It acts between two steps of the simulation, where no host runs.
//! - Whatever it breaks it mends by itself after a while, and all of it when the run calms down.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use turmoil::Sim;

use crate::{
    plan::{Plan, Trouble},
    seat::Seat,
};

/// What is done to members, and undone.
pub(crate) struct Nemesis {
    plan: Plan,
    rng: StdRng,
    next: Duration,
    /// When the members that are down are started again.
    down: BTreeMap<String, Duration>,
    /// Until when the network is not whole.
    cut_until: Option<Duration>,
    /// Until when a disk is slow.
    slow: Vec<(Duration, Seat)>,
}

impl Nemesis {
    pub(crate) fn new(plan: &Plan) -> Self {
        let rng = StdRng::seed_from_u64(!plan.seed);
        let (down, slow) = (BTreeMap::new(), Vec::new());
        Self { plan: plan.clone(), rng, next: Duration::from_millis(500), down, cut_until: None, slow }
    }

    /// Does what is due by now.
    pub(crate) fn act(&mut self, sim: &mut Sim<'_>, seats: &[Seat], now: Duration) {
        self.mend_what_is_due(sim, seats, now);
        self.start_who_left(sim, seats);
        if now < self.next {
            return;
        }
        self.next = now + self.plan.pause.mul_f64(self.rng.random_range(0.3..2.0));
        let troubles: Vec<Trouble> = self.plan.troubles.iter().copied().collect();
        if let Some(trouble) = troubles.choose(&mut self.rng) {
            self.make(*trouble, sim, seats, now);
        }
    }

    fn make(&mut self, trouble: Trouble, sim: &mut Sim<'_>, seats: &[Seat], now: Duration) {
        let up: Vec<&Seat> = seats.iter().filter(|seat| !self.down.contains_key(seat.name())).collect();
        let Some(&victim) = up.choose(&mut self.rng) else { return };
        match trouble {
            Trouble::Crash => {
                sim.crash(victim.name());
                self.keep_down(victim, now);
            }
            Trouble::PowerLoss => {
                // Half of the time it takes several at once.
                let count = if self.rng.random_bool(0.5) { 1 } else { self.rng.random_range(1..=up.len()) };
                let victims: Vec<&Seat> = up.sample(&mut self.rng, count).copied().collect();
                for victim in victims {
                    sim.crash(victim.name());
                    victim.lose_power(|batches| self.rng.random_range(0..=batches));
                    self.keep_down(victim, now);
                }
            }
            Trouble::Restart => {
                victim.leave();
                self.keep_down(victim, now + Duration::from_secs(1));
            }
            Trouble::Partition => {
                let (one, other): (Vec<&Seat>, Vec<&Seat>) = seats.iter().partition(|_| self.rng.random_bool(0.5));
                pairs(&one, &other).for_each(|(one, other)| sim.partition(one.name(), other.name()));
                self.cut(now);
            }
            Trouble::OneWay => {
                let others = seats.iter().filter(|seat| seat.name() != victim.name());
                let deaf = self.rng.random_bool(0.5);
                let all = self.rng.random_bool(0.5);
                for other in others.filter(|_| all || self.rng.random_bool(0.5)).collect::<Vec<_>>() {
                    let (from, to) = if deaf { (other, victim) } else { (victim, other) };
                    sim.partition_oneway(from.name(), to.name());
                }
                self.cut(now);
            }
            Trouble::Stall => {
                let others = seats.iter().filter(|seat| seat.name() != victim.name());
                others.for_each(|other| sim.hold(victim.name(), other.name()));
                self.cut(now);
            }
            Trouble::Loss => sim.set_fail_rate(self.plan.loss * self.rng.random_range(0.0..2.0)),
            Trouble::SlowDisk => {
                let sync = *[20, 100, 1_000, 4_000].choose(&mut self.rng).expect("there are some");
                victim.slow_disk(Some(Duration::from_millis(sync)));
                let until = now + self.a_while();
                self.slow.push((until, victim.clone()));
            }
            Trouble::Clock => {
                let most = *[2, 10, 3_600].choose(&mut self.rng).expect("there are some");
                for seat in seats {
                    if self.rng.random_bool(0.5) {
                        seat.wall_clock().set_by(self.rng.random_range(-most..=most));
                    }
                }
            }
            // These are clients' doing.
            Trouble::Churn | Trouble::Compaction => {}
        }
    }

    fn a_while(&mut self) -> Duration {
        self.plan.election_timeout.mul_f64(self.rng.random_range(0.3..4.0))
    }

    fn keep_down(&mut self, seat: &Seat, from: Duration) {
        let until = from + self.a_while();
        self.down.insert(seat.name().to_owned(), until);
    }

    fn cut(&mut self, now: Duration) {
        let until = now + self.a_while();
        self.cut_until = Some(self.cut_until.map_or(until, |before| before.max(until)));
    }

    fn mend_what_is_due(&mut self, sim: &mut Sim<'_>, seats: &[Seat], now: Duration) {
        let is_due = |until: Duration| until <= now;
        let mut back: Vec<String> = Vec::new();
        self.down.retain(|name, until| {
            back.extend(is_due(*until).then(|| name.clone()));
            !is_due(*until)
        });
        for name in back {
            start(sim, seats, &name);
        }
        if self.cut_until.is_some_and(is_due) {
            self.cut_until = None;
            mend_network(sim, seats);
        }
        self.slow.retain(|(until, seat)| {
            if is_due(*until) {
                seat.slow_disk(None);
            }
            !is_due(*until)
        });
    }

    /// Mends everything.
    pub(crate) fn calm(mut self, sim: &mut Sim<'_>, seats: &[Seat]) {
        sim.set_fail_rate(0.0);
        self.mend_what_is_due(sim, seats, Duration::MAX);
        mend_network(sim, seats);
        self.start_who_left(sim, seats);
    }

    /// Somebody who was asked to leave may take so long that they leave after they should be back.
    fn start_who_left(&self, sim: &mut Sim<'_>, seats: &[Seat]) {
        for seat in seats.iter().filter(|seat| !self.down.contains_key(seat.name())) {
            if !sim.is_host_running(seat.name()) {
                start(sim, seats, seat.name());
            }
        }
    }
}

/// A removed member is not started again: there is nothing for it to do.
fn start(sim: &mut Sim<'_>, seats: &[Seat], name: &str) {
    if seats.iter().any(|seat| seat.name() == name && !seat.was_removed()) {
        sim.bounce(name);
    }
}

/// What was held back arrives now.
fn mend_network(sim: &Sim<'_>, seats: &[Seat]) {
    for (at, one) in seats.iter().enumerate() {
        for other in &seats[at + 1..] {
            sim.release(one.name(), other.name());
        }
    }
}

fn pairs<'a>(one: &'a [&'a Seat], other: &'a [&'a Seat]) -> impl Iterator<Item = (&'a Seat, &'a Seat)> {
    one.iter().flat_map(move |one| other.iter().map(move |other| (*one, *other)))
}
