//! Which endpoint a request goes to.
//!
//! - Only endpoints of the lowest priority that has a usable one are drawn.
//! - Round robin follows a schedule in which each endpoint stands as often as its weight says, spread evenly.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use super::Endpoint;
use crate::config::Balance;

/// Longest round-robin schedule; weights are scaled down to fit.
const SCHEDULE_MAX: u64 = 4_096;

/// The endpoints of one cluster and the way one is chosen.
#[derive(Debug)]
pub(crate) struct Balancer {
    balance: Balance,
    panic_percent: usize,
    priorities: Vec<Priority>,
}

#[derive(Debug)]
struct Priority {
    slots: Vec<Slot>,
    schedule: Vec<u32>,
    /// Sums of weights up to and with each slot.
    sums: Vec<u64>,
    even: bool,
    next: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) weight: u32,
    pub(crate) healthy: bool,
}

impl Balancer {
    /// `priorities`: slots by priority, the most preferred first.
    pub(crate) fn new(balance: Balance, panic_percent: u32, priorities: Vec<Vec<Slot>>) -> Self {
        let panic_percent = usize::try_from(panic_percent).unwrap_or(100);
        let priorities = priorities.into_iter().filter(|slots| !slots.is_empty()).map(Priority::new).collect();
        Self { balance, panic_percent, priorities }
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.priorities.iter().flat_map(|priority| &priority.slots).map(|slot| &slot.endpoint)
    }

    /// Chooses an endpoint, if possible one that `avoid` does not name; `None` when none is usable.
    pub(crate) fn pick(&self, now: Instant, avoid: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        for priority in &self.priorities {
            let usable = |slot: &Slot| slot.healthy && !slot.endpoint.health.is_ejected(now);
            if let Some(found) = priority.pick(self.balance, |slot| usable(slot) && !avoid(&slot.endpoint)) {
                if self.panic_percent == 0 || !priority.panics(self.panic_percent, usable) {
                    return Some(found);
                }
                return priority.pick(self.balance, |_| true);
            }
            if let Some(found) = priority.pick(self.balance, usable) {
                return Some(found);
            }
        }
        let first = self.priorities.first()?;
        (self.panic_percent > 0).then(|| first.pick(self.balance, |_| true)).flatten()
    }
}

impl Priority {
    fn new(slots: Vec<Slot>) -> Self {
        let weights: Vec<u64> = slots.iter().map(|slot| u64::from(slot.weight)).collect();
        let sums = weights.iter().scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self {
            sums: sums.collect(),
            schedule: schedule(&weights),
            even: weights.windows(2).all(|pair| pair[0] == pair[1]),
            next: AtomicUsize::new(rand::random_range(0..1 << 16)),
            slots,
        }
    }

    fn panics(&self, percent: usize, usable: impl Fn(&Slot) -> bool) -> bool {
        self.slots.iter().filter(|slot| usable(slot)).count() * 100 < percent * self.slots.len()
    }

    fn pick(&self, balance: Balance, usable: impl Fn(&Slot) -> bool) -> Option<&Arc<Endpoint>> {
        let slot = match balance {
            Balance::RoundRobin => self.scheduled(&usable),
            Balance::Random => self.drawn(&usable),
            Balance::LeastRequest(choices) => self.least_busy(choices, &usable),
        };
        slot.map(|slot| &slot.endpoint)
    }

    fn scheduled(&self, usable: impl Fn(&Slot) -> bool) -> Option<&Slot> {
        let start = self.next.fetch_add(1, Relaxed);
        let at =
            |offset: usize| &self.slots[self.schedule[(start.wrapping_add(offset)) % self.schedule.len()] as usize];
        (0..self.schedule.len()).map(at).find(|slot| usable(slot))
    }

    fn drawn(&self, usable: impl Fn(&Slot) -> bool) -> Option<&Slot> {
        let start = self.draw();
        (0..self.slots.len()).map(|offset| &self.slots[(start + offset) % self.slots.len()]).find(|slot| usable(slot))
    }

    fn draw(&self) -> usize {
        if self.even {
            return rand::random_range(0..self.slots.len());
        }
        let drawn = rand::random_range(0..self.sums[self.sums.len() - 1]);
        self.sums.partition_point(|sum| *sum <= drawn)
    }

    fn least_busy(&self, choices: u32, usable: impl Fn(&Slot) -> bool) -> Option<&Slot> {
        let mut best = self.drawn(&usable)?;
        for _ in 1..choices {
            let other = &self.slots[self.draw()];
            if usable(other) && busy(other) < busy(best) {
                best = other;
            }
        }
        Some(best)
    }
}

fn busy(slot: &Slot) -> u32 {
    slot.endpoint.active.load(Relaxed)
}

/// Smooth weighted round robin, unrolled: an index stands as often as its weight, as far apart as possible.
fn schedule(weights: &[u64]) -> Vec<u32> {
    let weights = scaled(weights);
    let total: i64 = weights.iter().sum();
    let mut turns = turns(&weights);
    let next = |_| {
        for turn in &mut turns {
            turn.credit += turn.weight;
        }
        let chosen = turns.iter_mut().max_by_key(|turn| (turn.credit, Reverse(turn.slots[turn.next])))?;
        Some(chosen.take(total))
    };
    (0..total).filter_map(next).collect()
}

/// In their lowest terms, and their sum no more than the longest schedule, unless there are more slots.
fn scaled(weights: &[u64]) -> Vec<i64> {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let total: u64 = weights.iter().sum::<u64>() / divisor;
    let scale = |weight: &u64| (weight / divisor * SCHEDULE_MAX.min(total) / total.max(1)).max(1);
    weights.iter().map(|weight| i64::try_from(scale(weight)).unwrap_or(1)).collect()
}

/// Slots of the same weight. They take turns in their order: only whose turn it is must be compared with others, which keeps
/// the work far below slots by places.
struct Turn {
    weight: i64,
    slots: Vec<u32>,
    next: usize,
    /// Of the slot whose turn it is, and of those after it; those before it have paid already.
    credit: i64,
}

impl Turn {
    fn take(&mut self, price: i64) -> u32 {
        let slot = self.slots[self.next];
        self.next += 1;
        if self.next == self.slots.len() {
            self.next = 0;
            self.credit -= price;
        }
        slot
    }
}

fn turns(weights: &[i64]) -> Vec<Turn> {
    let mut by_weight: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (slot, weight) in weights.iter().enumerate() {
        by_weight.entry(*weight).or_default().push(u32::try_from(slot).unwrap_or(u32::MAX));
    }
    by_weight.into_iter().map(|(weight, slots)| Turn { weight, slots, next: 0, credit: 0 }).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Smooth weighted round robin as it is told: all gain their weight, and the richest one pays the sum of all.
    fn told(weights: &[u64]) -> Vec<u32> {
        let weights = scaled(weights);
        let total: i64 = weights.iter().sum();
        let mut credit = vec![0; weights.len()];
        let mut next = |_| {
            credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
            let chosen = (0..credit.len()).max_by_key(|at| (credit[*at], Reverse(*at))).expect("there are weights");
            credit[chosen] -= total;
            u32::try_from(chosen).expect("few")
        };
        (0..total).map(&mut next).collect()
    }

    #[test]
    fn a_schedule_follows_the_weights() {
        assert_eq!(schedule(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(schedule(&[10, 10]), [0, 1]);
        assert_eq!(schedule(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        let long = schedule(&[1_000_000, 1]);
        assert!(long.len() as u64 <= SCHEDULE_MAX + 1 && long.contains(&1));
        assert_eq!(schedule(&[]), [] as [u32; 0]);
    }

    #[test]
    fn many_slots_stand_as_often_as_they_weigh() {
        let weights: Vec<u64> = (0..100_000).map(|slot| if slot == 7 { 1_000_000 } else { 1 }).collect();
        let mut stands = vec![0; weights.len()];
        for slot in schedule(&weights) {
            stands[slot as usize] += 1;
        }
        assert_eq!(stands, scaled(&weights));
        assert!(stands[7] > 3_000, "{}", stands[7]);
    }

    proptest! {
        #[test]
        fn taking_turns_comes_to_the_same(weights in vec(prop_oneof![3 => 1..5_u64, 1 => 1..1_000_u64], 1..40)) {
            prop_assert_eq!(schedule(&weights), told(&weights));
        }
    }
}
