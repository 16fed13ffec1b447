//! When leases end.
//!
//! Owns: the leader's deadlines. Which leases exist, and their keys, is in the log; and what long leases had left when that
//!       was noted there last.
//! In:   leadership won and lost, leases granted, renewed and revoked, checkpoints, and the time.
//! Out:  the leases that are due, and those whose time is to be noted, in batches, to be proposed.
//!
//! - Time is an argument: the span since an origin that the caller picked, never going backwards.
//! - A lease is never due early. A new leader starts every lease with what was noted of it, or else with its full TTL, and
//!   adds an extension.
//! - A member that does not lead holds no deadline, renews nothing, and expires nothing.
//! - A lease handed out as due is not renewed any more; it is handed out again only after [`RETRY`].
//! - No lease is renewed while the log says, or may come to say, that it has less left: the next leader would end it early.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use types::{Bug, LeaseId};

use crate::Lease;

/// How long a lease that was handed out as due has to be revoked before it is handed out again. Source: etcd.
const RETRY: Duration = Duration::from_secs(3);

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease has its full TTL again, which is this.
    Renewed(Duration),
    /// No such lease, or it is already being revoked.
    Gone,
    /// This member does not lead: ask the one that does.
    NotLeading,
}

/// Deadlines of the leases, while this member leads.
///
/// The caller confirms its leadership with the others before it lets [`Lessor::due`] or [`Lessor::renew`] decide:
/// a member that slept through its own replacement still believes that it leads.
#[derive(Debug)]
pub struct Lessor {
    /// Longer leases have what they have left noted, this often.
    checkpoint_interval: Duration,
    leading: Option<Deadlines>,
}

#[derive(Debug, Default)]
struct Deadlines {
    leases: HashMap<LeaseId, Deadline>,
    queue: BTreeSet<(Duration, LeaseId)>,
    /// When what a lease has left is to be noted.
    checkpoints: BTreeSet<(Duration, LeaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Duration,
    ttl: Duration,
    handed_out: bool,
    checkpoint_at: Option<Duration>,
    noted: Noted,
}

/// What the log says that a lease has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    /// All of its time.
    Full,
    /// Less, perhaps.
    Less,
    /// What a proposal says that is on its way.
    Proposed,
}

impl Lessor {
    /// A lessor that does not lead. `checkpoint_interval`: see
    /// [`Limits::lease_checkpoint_interval`](crate::Limits::lease_checkpoint_interval).
    pub fn new(checkpoint_interval: Duration) -> Self {
        Self { checkpoint_interval, leading: None }
    }

    /// This member leads from `now` on: every lease gets what was noted of it, or its full TTL, and `extension`.
    ///
    /// `leases`: those of [`View::leases`](crate::View::leases), read after the leader's first own entry was applied.
    /// A grant that is applied meanwhile may be among them and be told by [`Lessor::granted`] too.
    pub fn promote(&mut self, now: Duration, leases: impl IntoIterator<Item = Lease>, extension: Duration) {
        let mut deadlines = Deadlines::default();
        for Lease { id, ttl, remaining } in leases {
            let noted = if remaining.is_some() { Noted::Less } else { Noted::Full };
            let left = remaining.unwrap_or(ttl).saturating_add(extension);
            let left = if Bug::LeaseCutShort.is_planted() { left / 3 } else { left };
            deadlines.set(id, self.timed(now, left, ttl, noted));
        }
        self.leading = Some(deadlines);
    }

    /// This member leads no more.
    pub fn demote(&mut self) {
        self.leading = None;
    }

    /// Whether this member times the leases.
    pub fn is_leading(&self) -> bool {
        self.leading.is_some()
    }

    /// A grant was applied.
    pub fn granted(&mut self, id: LeaseId, ttl: Duration, now: Duration) {
        let deadline = self.timed(now, ttl, ttl, Noted::Full);
        if let Some(deadlines) = &mut self.leading {
            deadlines.set(id, deadline);
        }
    }

    /// A revoke was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(deadlines) = &mut self.leading {
            deadlines.remove(id);
        }
    }

    /// Those of `leases` that cannot be renewed until it is noted in the log that they have all of their time.
    pub fn noted(&self, leases: impl IntoIterator<Item = LeaseId>) -> Vec<LeaseId> {
        let Some(deadlines) = &self.leading else { return Vec::new() };
        let is_noted = |id: &LeaseId| deadlines.leases.get(id).is_some_and(|lease| lease.noted != Noted::Full);
        leases.into_iter().filter(is_noted).collect()
    }

    /// A client keeps its lease alive: it gets its full TTL from `now`. It must not be one of [`Lessor::noted`].
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> Renewal {
        let Some(deadlines) = &self.leading else { return Renewal::NotLeading };
        match deadlines.leases.get(&id).copied() {
            Some(Deadline { ttl, handed_out: false, noted, .. }) => {
                let deadline = self.timed(now, ttl, ttl, noted);
                self.leading.iter_mut().for_each(|deadlines| deadlines.set(id, deadline));
                Renewal::Renewed(ttl)
            }
            Some(_) | None => Renewal::Gone,
        }
    }

    /// How long a lease has left, 0 once it is due; `None` if there is no such lease or this member does not lead.
    pub fn remaining(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        let deadline = self.leading.as_ref()?.leases.get(&id)?;
        Some(if deadline.handed_out { Duration::ZERO } else { deadline.at.saturating_sub(now) })
    }

    /// Up to `max` leases whose time is over, longest overdue first; to be revoked by one command.
    pub fn due(&mut self, now: Duration, max: usize) -> Vec<LeaseId> {
        let Some(deadlines) = &mut self.leading else { return Vec::new() };
        let due: Vec<LeaseId> =
            deadlines.queue.iter().take_while(|(at, _)| *at <= now).take(max).map(|&(_, id)| id).collect();
        if Bug::LeaseForgotten.is_planted() {
            for id in due {
                deadlines.remove(id);
            }
            return Vec::new();
        }
        for &id in &due {
            if let Some(&deadline) = deadlines.leases.get(&id) {
                let at = after(now, RETRY);
                deadlines.set(id, Deadline { at, handed_out: true, checkpoint_at: None, ..deadline });
            }
        }
        due
    }

    /// When [`Lessor::due`] has something to hand out next, at the earliest.
    pub fn next_due(&self) -> Option<Duration> {
        self.leading.as_ref()?.queue.first().map(|&(at, _)| at)
    }

    /// Up to `max` leases that it is time to note what they have left of; to be proposed as one command, after which
    /// [`Lessor::proposed`] must be told.
    pub fn checkpoints(&mut self, now: Duration, max: usize) -> Vec<(LeaseId, Option<Duration>)> {
        let interval = self.checkpoint_interval;
        let Some(deadlines) = &mut self.leading else { return Vec::new() };
        let due: Vec<LeaseId> =
            deadlines.checkpoints.iter().take_while(|(at, _)| *at <= now).take(max).map(|&(_, id)| id).collect();
        let mut remaining = Vec::with_capacity(due.len());
        for id in due {
            let Some(&deadline) = deadlines.leases.get(&id) else { continue };
            let left = deadline.at.saturating_sub(now);
            let checkpoint_at = (left > interval).then(|| after(now, interval));
            deadlines.set(id, Deadline { checkpoint_at, noted: Noted::Proposed, ..deadline });
            // Whole seconds, and none too few.
            remaining.push((id, Some(Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0)))));
        }
        remaining
    }

    /// A proposal of checkpoints has come to its end, whatever that was: no later proposal can be overtaken by it.
    pub fn proposed(&mut self, leases: impl IntoIterator<Item = LeaseId>) {
        for id in leases {
            if let Some(deadline) = self.deadline(id)
                && deadline.noted == Noted::Proposed
            {
                deadline.noted = Noted::Less;
            }
        }
    }

    /// A checkpoint was applied.
    pub fn checkpointed(&mut self, id: LeaseId, remaining: Option<Duration>) {
        if let Some(deadline) = self.deadline(id)
            && deadline.noted != Noted::Proposed
        {
            deadline.noted = if remaining.is_some() { Noted::Less } else { Noted::Full };
        }
    }

    /// All leases in the order in which they end; empty if this member does not lead.
    pub fn by_deadline(&self) -> Vec<LeaseId> {
        self.leading.iter().flat_map(|deadlines| &deadlines.queue).map(|&(_, id)| id).collect()
    }

    /// A deadline `left` from now.
    fn timed(&self, now: Duration, left: Duration, ttl: Duration, noted: Noted) -> Deadline {
        let checkpoint_at = (left > self.checkpoint_interval).then(|| after(now, self.checkpoint_interval));
        Deadline { at: after(now, left), ttl, handed_out: false, checkpoint_at, noted }
    }

    fn deadline(&mut self, id: LeaseId) -> Option<&mut Deadline> {
        self.leading.as_mut()?.leases.get_mut(&id)
    }
}

impl Deadlines {
    fn set(&mut self, id: LeaseId, deadline: Deadline) {
        self.remove(id);
        self.queue.insert((deadline.at, id));
        self.checkpoints.extend(deadline.checkpoint_at.map(|at| (at, id)));
        self.leases.insert(id, deadline);
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(deadline) = self.leases.remove(&id) {
            self.queue.remove(&(deadline.at, id));
            if let Some(at) = deadline.checkpoint_at {
                self.checkpoints.remove(&(at, id));
            }
        }
    }
}

/// A lease outlives the clock rather than ending early.
fn after(now: Duration, span: Duration) -> Duration {
    now.saturating_add(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TTL: Duration = Duration::from_secs(10);

    fn lease(id: i64) -> LeaseId {
        LeaseId::new(id).expect("not 0")
    }

    fn granted(id: i64) -> Lease {
        Lease { id: lease(id), ttl: TTL, remaining: None }
    }

    fn leader(leases: &[i64]) -> Lessor {
        let mut lessor = Lessor::new(4 * SECOND);
        lessor.promote(Duration::ZERO, leases.iter().map(|&id| granted(id)), Duration::ZERO);
        lessor
    }

    #[test]
    fn a_lease_is_due_at_its_deadline_and_never_before() {
        let mut lessor = leader(&[1]);
        assert_eq!(lessor.due(Duration::from_nanos(9_999_999_999), 10), []);
        assert_eq!(lessor.next_due(), Some(TTL));
        assert_eq!(lessor.due(TTL, 10), [lease(1)]);
    }

    #[test]
    fn a_renewed_lease_has_its_full_time_again() {
        let mut lessor = leader(&[1]);
        assert_eq!(lessor.renew(lease(1), 9 * SECOND), Renewal::Renewed(TTL));
        assert_eq!(lessor.remaining(lease(1), 10 * SECOND), Some(9 * SECOND));
        assert_eq!(lessor.due(18 * SECOND, 10), []);
        assert_eq!(lessor.due(19 * SECOND, 10), [lease(1)]);
    }

    #[test]
    fn a_late_renewal_counts_until_the_lease_is_handed_out() {
        let mut lessor = leader(&[1]);
        assert_eq!(lessor.renew(lease(1), 11 * SECOND), Renewal::Renewed(TTL));
        assert_eq!(lessor.due(21 * SECOND, 10), [lease(1)]);
        assert_eq!(lessor.renew(lease(1), 21 * SECOND), Renewal::Gone);
        assert_eq!(lessor.remaining(lease(1), 21 * SECOND), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_due_comes_in_batches_oldest_first_and_again_only_after_a_while() {
        let mut lessor = leader(&[1, 2]);
        lessor.granted(lease(3), SECOND, Duration::ZERO);
        assert_eq!(lessor.due(TTL, 2), [lease(3), lease(1)]);
        assert_eq!(lessor.due(TTL, 2), [lease(2)]);
        assert_eq!(lessor.due(TTL, 2), []);
        lessor.revoked(lease(3));
        assert_eq!(lessor.due(TTL + RETRY, 9), [lease(1), lease(2)]);
    }

    #[test]
    fn only_a_leader_times_and_a_new_one_starts_again() {
        let mut lessor = Lessor::new(4 * SECOND);
        lessor.granted(lease(1), TTL, Duration::ZERO);
        assert_eq!(lessor.renew(lease(1), SECOND), Renewal::NotLeading);
        assert_eq!(lessor.due(100 * SECOND, 10), []);
        lessor.promote(100 * SECOND, [granted(1)], SECOND);
        assert_eq!(lessor.remaining(lease(1), 100 * SECOND), Some(11 * SECOND));
        assert_eq!(lessor.due(110 * SECOND, 10), []);
        lessor.demote();
        assert_eq!(lessor.due(200 * SECOND, 10), []);
        assert_eq!(lessor.remaining(lease(1), 200 * SECOND), None);
    }

    #[test]
    fn what_a_long_lease_has_left_is_noted_now_and_then() {
        let mut lessor = leader(&[1]);
        lessor.granted(lease(2), 4 * SECOND, Duration::ZERO);
        assert_eq!(lessor.checkpoints(Duration::from_nanos(3_999_999_999), 10), []);
        let early = 4 * SECOND + Duration::from_nanos(1);
        assert_eq!(lessor.checkpoints(early, 10), [(lease(1), Some(6 * SECOND))], "rounded up; the other is too short");
        assert_eq!(lessor.checkpoints(7 * SECOND, 10), []);
        assert_eq!(lessor.checkpoints(9 * SECOND, 10), [(lease(1), Some(SECOND))]);
        assert_eq!(lessor.checkpoints(20 * SECOND, 10), [], "there is less left than the interval");
    }

    #[test]
    fn a_lease_is_renewed_only_once_nothing_less_is_noted() {
        let mut lessor = leader(&[1]);
        assert_eq!(lessor.noted([lease(1)]), []);
        assert_eq!(lessor.checkpoints(4 * SECOND, 10).len(), 1);
        // Its full time is noted before the proposal has ended, and so perhaps before what it says.
        lessor.checkpointed(lease(1), None);
        assert_eq!(lessor.noted([lease(1)]), [lease(1)]);
        lessor.checkpointed(lease(1), Some(6 * SECOND));
        lessor.proposed([lease(1)]);
        assert_eq!(lessor.noted([lease(1)]), [lease(1)]);
        lessor.checkpointed(lease(1), None);
        assert_eq!(lessor.noted([lease(1), lease(9)]), []);
        assert_eq!(lessor.renew(lease(1), 5 * SECOND), Renewal::Renewed(TTL));
        assert_eq!(lessor.checkpoints(8 * SECOND, 10), [], "its time starts again");
        assert_eq!(lessor.checkpoints(9 * SECOND, 10), [(lease(1), Some(6 * SECOND))]);
    }

    #[test]
    fn a_new_leader_goes_on_from_what_was_noted() {
        let mut lessor = Lessor::new(4 * SECOND);
        lessor.promote(Duration::ZERO, [Lease { remaining: Some(5 * SECOND), ..granted(1) }], SECOND);
        assert_eq!(lessor.remaining(lease(1), Duration::ZERO), Some(6 * SECOND));
        assert_eq!(lessor.noted([lease(1)]), [lease(1)]);
        assert_eq!(lessor.due(6 * SECOND, 10), [lease(1)]);
        assert_eq!(lessor.checkpoints(6 * SECOND, 10), [], "it is ending");
    }
}
