//! When leases end.
//!
//! Owns: the leader's deadlines. Not replicated: which leases exist, and their keys, is in the log.
//! In:   leadership won and lost, leases granted, renewed and revoked, and the time.
//! Out:  the leases that are due, in batches, to be proposed as a revoke.
//!
//! - Time is an argument: the span since an origin that the caller picked, never going backwards.
//! - A lease is never due early. A new leader starts every lease's full TTL again, plus an extension.
//! - A member that does not lead holds no deadline, renews nothing, and expires nothing.
//! - A lease handed out as due is not renewed any more; it is handed out again only after [`RETRY`].

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use types::LeaseId;

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
#[derive(Debug, Default)]
pub struct Lessor {
    leading: Option<Deadlines>,
}

#[derive(Debug, Default)]
struct Deadlines {
    leases: HashMap<LeaseId, Deadline>,
    queue: BTreeSet<(Duration, LeaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Duration,
    ttl: Duration,
    handed_out: bool,
}

impl Lessor {
    /// A lessor that does not lead.
    pub fn new() -> Self {
        Self::default()
    }

    /// This member leads from `now` on: every lease gets its full TTL and `extension`.
    ///
    /// `leases`: those of [`View::leases`](crate::View::leases), read after the leader's first own entry was applied.
    /// A grant that is applied meanwhile may be among them and be told by [`Lessor::granted`] too.
    pub fn promote(
        &mut self,
        now: Duration,
        leases: impl IntoIterator<Item = (LeaseId, Duration)>,
        extension: Duration,
    ) {
        let mut deadlines = Deadlines::default();
        for (id, ttl) in leases {
            deadlines.set(id, Deadline { at: after(now, ttl.saturating_add(extension)), ttl, handed_out: false });
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
        if let Some(deadlines) = &mut self.leading {
            deadlines.set(id, Deadline { at: after(now, ttl), ttl, handed_out: false });
        }
    }

    /// A revoke was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        if let Some(deadlines) = &mut self.leading {
            deadlines.remove(id);
        }
    }

    /// A client keeps its lease alive: it gets its full TTL from `now`.
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> Renewal {
        let Some(deadlines) = &mut self.leading else { return Renewal::NotLeading };
        match deadlines.leases.get(&id).copied() {
            Some(Deadline { ttl, handed_out: false, .. }) => {
                deadlines.set(id, Deadline { at: after(now, ttl), ttl, handed_out: false });
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
        for &id in &due {
            if let Some(&deadline) = deadlines.leases.get(&id) {
                deadlines.set(id, Deadline { at: after(now, RETRY), handed_out: true, ..deadline });
            }
        }
        due
    }

    /// When [`Lessor::due`] has something to hand out next, at the earliest.
    pub fn next_due(&self) -> Option<Duration> {
        self.leading.as_ref()?.queue.first().map(|&(at, _)| at)
    }

    /// All leases in the order in which they end; empty if this member does not lead.
    pub fn by_deadline(&self) -> Vec<LeaseId> {
        self.leading.iter().flat_map(|deadlines| &deadlines.queue).map(|&(_, id)| id).collect()
    }
}

impl Deadlines {
    fn set(&mut self, id: LeaseId, deadline: Deadline) {
        self.remove(id);
        self.queue.insert((deadline.at, id));
        self.leases.insert(id, deadline);
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(deadline) = self.leases.remove(&id) {
            self.queue.remove(&(deadline.at, id));
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

    fn leader(leases: &[i64]) -> Lessor {
        let mut lessor = Lessor::new();
        lessor.promote(Duration::ZERO, leases.iter().map(|&id| (lease(id), TTL)), Duration::ZERO);
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
        let mut lessor = Lessor::new();
        lessor.granted(lease(1), TTL, Duration::ZERO);
        assert_eq!(lessor.renew(lease(1), SECOND), Renewal::NotLeading);
        assert_eq!(lessor.due(100 * SECOND, 10), []);
        lessor.promote(100 * SECOND, [(lease(1), TTL)], SECOND);
        assert_eq!(lessor.remaining(lease(1), 100 * SECOND), Some(11 * SECOND));
        assert_eq!(lessor.due(110 * SECOND, 10), []);
        lessor.demote();
        assert_eq!(lessor.due(200 * SECOND, 10), []);
        assert_eq!(lessor.remaining(lease(1), 200 * SECOND), None);
    }
}
