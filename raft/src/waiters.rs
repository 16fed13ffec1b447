//! Who waits for the answers to which entry.
//!
//! Owns: the callers of every entry that was proposed here and is not yet applied.
//! In:   callers from the proposer, before their entry goes to a leader; answers from the apply thread, by tag.
//! Out:  to each caller its own answer, or why there is none; to the proposer, which entries it may send again.
//!
//! - A caller is answered once. Those of an entry that can have no answer any more are told so.
//! - An entry is sent to the leader of one term, who appends it in that term or not at all. Once an entry of a later term
//!   is applied, all that will ever be applied of the earlier one is: what has no answer by then is lost for certain.
//! - Answers to an entry of another member, or of an earlier start of this one, find nobody.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use crate::{ProposeError, types::Tag};

/// Where one caller waits, and until when.
pub(crate) struct Caller<A> {
    answer: oneshot::Sender<Result<A, ProposeError>>,
    until: Instant,
}

impl<A> Caller<A> {
    /// A caller, and where the answer comes.
    pub(crate) fn new(until: Instant) -> (Self, oneshot::Receiver<Result<A, ProposeError>>) {
        let (answer, answered) = oneshot::channel();
        (Self { answer, until }, answered)
    }

    /// When it stops to wait.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Whether nobody waits any more, or has the time to.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.until <= now || self.is_gone()
    }

    fn is_gone(&self) -> bool {
        self.answer.is_closed()
    }

    /// A caller that went away needs no answer.
    pub(crate) fn tell(self, answer: Result<A, ProposeError>) {
        drop(self.answer.send(answer));
    }
}

/// The callers of one entry, in the order of its commands.
pub(crate) struct Waiting<A> {
    pub(crate) callers: Vec<Caller<A>>,
    /// The entry's place among those in flight, free again when the callers are answered.
    pub(crate) slot: OwnedSemaphorePermit,
    /// The term whose leader may have it in the log; none if no leader has.
    pub(crate) term: Option<u64>,
}

/// Where an entry is that was proposed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// Nobody waits for it any more.
    Over,
    /// No leader has it in the log.
    Here,
    /// The leader of this term may have it in the log.
    Away(u64),
}

/// All callers, by the sequence of their entry's tag.
pub(crate) struct Waiters<A> {
    member: u64,
    session: u64,
    entries: Mutex<BTreeMap<u64, Waiting<A>>>,
    /// Nothing is applied any more. Changed under the lock of the entries.
    is_over: AtomicBool,
    /// The term of the last entry applied. Changed under the lock of the entries.
    term: AtomicU64,
    /// Told when entries were lost.
    lost: Notify,
}

impl<A> Waiters<A> {
    /// For entries proposed by this start of this member.
    pub(crate) fn new(member: u64, session: u64) -> Self {
        let (entries, is_over) = (Mutex::default(), AtomicBool::new(false));
        Self { member, session, entries, is_over, term: AtomicU64::new(0), lost: Notify::new() }
    }

    /// The tag of this member's entry number `sequence`.
    pub(crate) fn tag(&self, sequence: u64) -> Tag {
        Tag { member: self.member, session: self.session, sequence }
    }

    /// Remembers who waits for the entry; before it can be applied. Where nothing is applied any more they are told so.
    pub(crate) fn add(&self, sequence: u64, waiting: Waiting<A>) {
        let mut entries = self.entries.lock();
        if self.is_over.load(Ordering::Relaxed) {
            drop(entries);
            return refuse([waiting].into_iter(), &ProposeError::Stopped);
        }
        entries.insert(sequence, waiting);
    }

    /// The entry is to go to the leader of `term`: gives where it is then. It stays here if that leader has a successor,
    /// of which an entry is applied already.
    pub(crate) fn send(&self, sequence: u64, term: u64) -> Whereabouts {
        let mut entries = self.entries.lock();
        let Some(waiting) = entries.get_mut(&sequence) else { return Whereabouts::Over };
        if waiting.callers.iter().all(Caller::is_gone) {
            entries.remove(&sequence);
            return Whereabouts::Over;
        }
        if term < self.term.load(Ordering::Relaxed) {
            return Whereabouts::Here;
        }
        waiting.term = Some(term);
        Whereabouts::Away(term)
    }

    /// Lets those callers of an entry go whose time is over, if no leader has it in the log: tells them so, and gives the
    /// positions of the commands that are still wanted.
    pub(crate) fn let_go(&self, sequence: u64, now: Instant) -> Option<Vec<usize>> {
        let mut entries = self.entries.lock();
        let waiting = entries.get_mut(&sequence).filter(|waiting| waiting.term.is_none())?;
        if !waiting.callers.iter().any(|caller| caller.is_late(now)) {
            return None;
        }
        let (mut wanted, mut late) = (Vec::new(), Vec::new());
        for (position, caller) in std::mem::take(&mut waiting.callers).into_iter().enumerate() {
            if caller.is_late(now) {
                late.push(caller);
            } else {
                wanted.push(position);
                waiting.callers.push(caller);
            }
        }
        drop(entries);
        for caller in late {
            caller.tell(Err(ProposeError::Late));
        }
        Some(wanted)
    }

    /// When the first caller of an entry stops to wait.
    pub(crate) fn until(&self, sequence: u64) -> Option<Instant> {
        self.entries.lock().get(&sequence)?.callers.iter().map(Caller::until).min()
    }

    /// The leader of `term` did not append the entry, and will not. `false` if that is not where it is any more: then it
    /// is answered, or it was lost before and went to another leader.
    pub(crate) fn refused(&self, sequence: u64, term: u64) -> bool {
        let mut entries = self.entries.lock();
        let waiting = entries.get_mut(&sequence).filter(|waiting| waiting.term == Some(term));
        waiting.map(|waiting| waiting.term = None).is_some()
    }

    /// An entry of `term` was applied, and whatever was applied before it is answered.
    pub(crate) fn lose_before(&self, term: u64) {
        let mut entries = self.entries.lock();
        self.term.fetch_max(term, Ordering::Relaxed);
        let lost = entries.values_mut().filter(|waiting| waiting.term.is_some_and(|sent| sent < term));
        let lost = lost.map(|waiting| waiting.term = None).count();
        drop(entries);
        if lost > 0 {
            self.lost.notify_one();
        }
    }

    /// Resolves when entries were lost that were sent.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Where an entry is.
    pub(crate) fn whereabouts(&self, sequence: u64) -> Whereabouts {
        match self.entries.lock().get(&sequence).map(|waiting| waiting.term) {
            None => Whereabouts::Over,
            Some(None) => Whereabouts::Here,
            Some(Some(term)) => Whereabouts::Away(term),
        }
    }

    /// Hands out the answers of an applied entry.
    pub(crate) fn answer(&self, tag: Tag, answers: Vec<A>) {
        if (tag.member, tag.session) != (self.member, self.session) {
            return;
        }
        let Some(Waiting { callers, slot, .. }) = self.entries.lock().remove(&tag.sequence) else { return };
        for (caller, answer) in callers.into_iter().zip(answers) {
            caller.tell(Ok(answer));
        }
        drop(slot);
    }

    /// Tells the callers of one entry that there is no answer.
    pub(crate) fn refuse(&self, sequence: u64, error: &ProposeError) {
        let waiting = self.entries.lock().remove(&sequence);
        refuse(waiting.into_iter(), error);
    }

    /// Tells all callers that there is no answer, and those who come later that there will be none.
    pub(crate) fn end(&self) {
        let mut entries = self.entries.lock();
        self.is_over.store(true, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *entries);
        drop(entries);
        refuse(waiting.into_values(), &ProposeError::Unknown);
    }

    /// Tells all callers that there is no answer.
    pub(crate) fn refuse_all(&self, error: &ProposeError) {
        let waiting = std::mem::take(&mut *self.entries.lock());
        refuse(waiting.into_values(), error);
    }
}

fn refuse<A>(waiting: impl Iterator<Item = Waiting<A>>, error: &ProposeError) {
    for Waiting { callers, slot, .. } in waiting {
        for caller in callers {
            caller.tell(Err(error.clone()));
        }
        drop(slot);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::Semaphore;

    use super::*;

    fn waiting(slots: &Arc<Semaphore>) -> (Waiting<u32>, Vec<oneshot::Receiver<Result<u32, ProposeError>>>) {
        waiting_until(slots, [Instant::now() + Duration::from_hours(1); 2])
    }

    fn waiting_until(
        slots: &Arc<Semaphore>,
        untils: [Instant; 2],
    ) -> (Waiting<u32>, Vec<oneshot::Receiver<Result<u32, ProposeError>>>) {
        let (callers, answers) = untils.into_iter().map(Caller::new).unzip();
        (Waiting { callers, slot: Arc::clone(slots).try_acquire_owned().unwrap(), term: None }, answers)
    }

    #[test]
    fn each_caller_gets_its_own_answer_once() {
        let (slots, waiters) = (Arc::new(Semaphore::new(3)), Waiters::new(7, 2));
        let (entry, mut answers) = waiting(&slots);
        waiters.add(1, entry);
        let earlier = [Tag { member: 8, ..waiters.tag(1) }, Tag { session: 1, ..waiters.tag(1) }, waiters.tag(2)];
        for tag in earlier {
            waiters.answer(tag, vec![0, 0]);
        }
        assert_eq!(slots.available_permits(), 2);
        waiters.answer(waiters.tag(1), vec![10, 11]);
        waiters.refuse(1, &ProposeError::Unknown);
        assert_eq!(answers[0].try_recv().unwrap(), Ok(10));
        assert_eq!(answers[1].try_recv().unwrap(), Ok(11));
        assert_eq!(slots.available_permits(), 3);
    }

    #[test]
    fn a_caller_that_went_away_costs_nothing() {
        let (slots, waiters) = (Arc::new(Semaphore::new(1)), Waiters::new(7, 2));
        let (entry, answers) = waiting(&slots);
        waiters.add(1, entry);
        drop(answers);
        waiters.answer(waiters.tag(1), vec![10, 11]);
        assert_eq!(slots.available_permits(), 1);
        assert!(waiters.entries.lock().is_empty());
    }

    #[test]
    fn what_was_sent_in_a_term_is_lost_once_a_later_one_is_applied() {
        let (slots, waiters) = (Arc::new(Semaphore::new(3)), Waiters::new(7, 2));
        let (entries, _answers): (Vec<_>, Vec<_>) = (0..3).map(|_| waiting(&slots)).unzip();
        for (sequence, entry) in (1..).zip(entries) {
            waiters.add(sequence, entry);
        }
        assert_eq!(waiters.send(1, 4), Whereabouts::Away(4));
        assert_eq!(waiters.send(2, 5), Whereabouts::Away(5));
        waiters.lose_before(4);
        assert_eq!([1, 2].map(|sequence| waiters.whereabouts(sequence)), [Whereabouts::Away(4), Whereabouts::Away(5)]);
        waiters.lose_before(5);
        assert_eq!([1, 2].map(|sequence| waiters.whereabouts(sequence)), [Whereabouts::Here, Whereabouts::Away(5)]);
        assert_eq!((waiters.send(3, 4), waiters.send(1, 5)), (Whereabouts::Here, Whereabouts::Away(5)));
        assert!(waiters.refused(2, 5));
        // The refusal of an earlier attempt is none of this one.
        assert!(!waiters.refused(1, 4));
        assert!(waiters.refused(1, 5));
        let others = [2, 3, 4].map(|sequence| waiters.whereabouts(sequence));
        assert_eq!(others, [Whereabouts::Here, Whereabouts::Here, Whereabouts::Over]);
    }

    #[test]
    fn an_entry_that_nobody_waits_for_is_not_sent_again() {
        let (slots, waiters) = (Arc::new(Semaphore::new(1)), Waiters::new(7, 2));
        let (entry, answers) = waiting(&slots);
        waiters.add(1, entry);
        drop(answers);
        assert_eq!(waiters.send(1, 4), Whereabouts::Over);
        assert_eq!(slots.available_permits(), 1);
    }

    #[test]
    fn who_has_no_time_left_is_let_go_while_no_leader_has_the_entry() {
        let (slots, waiters) = (Arc::new(Semaphore::new(1)), Waiters::new(7, 2));
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        let (entry, mut answers) = waiting_until(&slots, [soon, later]);
        waiters.add(1, entry);
        assert_eq!((waiters.until(1), waiters.until(2)), (Some(soon), None));
        assert_eq!(waiters.let_go(1, now), None);
        assert_eq!(waiters.send(1, 4), Whereabouts::Away(4));
        assert_eq!(waiters.let_go(1, soon), None, "a leader may have it in the log");
        assert!(waiters.refused(1, 4));
        assert_eq!(waiters.let_go(1, soon), Some(vec![1]));
        assert_eq!(answers[0].try_recv().unwrap(), Err(ProposeError::Late));
        assert_eq!((waiters.until(1), waiters.let_go(1, soon)), (Some(later), None));
        waiters.answer(waiters.tag(1), vec![11]);
        assert_eq!(answers[1].try_recv().unwrap(), Ok(11));
    }

    #[test]
    fn who_comes_when_nothing_is_applied_any_more_is_told_so() {
        let (slots, waiters) = (Arc::new(Semaphore::new(2)), Waiters::new(7, 2));
        let (early, mut early_answers) = waiting(&slots);
        let (late, mut late_answers) = waiting(&slots);
        waiters.add(1, early);
        waiters.end();
        waiters.add(2, late);
        assert_eq!(early_answers[0].try_recv().unwrap(), Err(ProposeError::Unknown));
        assert_eq!(late_answers[0].try_recv().unwrap(), Err(ProposeError::Stopped), "it was not sent anywhere");
        assert_eq!((slots.available_permits(), waiters.whereabouts(2)), (2, Whereabouts::Over));
    }

    #[test]
    fn all_are_told_when_there_will_be_no_answer() {
        let (slots, waiters) = (Arc::new(Semaphore::new(2)), Waiters::new(7, 2));
        let (first, mut first_answers) = waiting(&slots);
        let (second, mut second_answers) = waiting(&slots);
        waiters.add(1, first);
        waiters.add(2, second);
        waiters.refuse_all(&ProposeError::Unknown);
        for answer in first_answers.iter_mut().chain(&mut second_answers) {
            assert_eq!(answer.try_recv().unwrap(), Err(ProposeError::Unknown));
        }
    }
}
