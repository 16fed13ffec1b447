//! Who may do what to which keys, while that changes.
//!
//! Owns: every change of permissions that was asked for, when, and what was answered; and so what the user can have been
//!       permitted at which time.
//!
//! - No key is in two of the ranges that are permitted, and one administrator makes one change after another.
//! - A change that was not answered may be made at any time after it was asked for: from then on, what it permits may be
//!   permitted for good.
//! - A call that began after a permission was taken, and that was acknowledged, must not succeed. Reads that a member may
//!   answer from what it has are not meant, and nobody makes any.

use std::{ops::RangeInclusive, time::Duration};

use crate::history::{Change as Changed, History, Keys, Operation, Outcome, Request, Watch};

/// Calls with these numbers are the user's; all others are the administrator's, who may do everything.
pub(crate) const USERS: RangeInclusive<u32> = 602..=699;

/// What is done to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Read,
    Write,
}

/// What may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct May {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl May {
    pub(crate) const NOTHING: Self = Self { read: false, write: false };
    pub(crate) const READ: Self = Self { read: true, write: false };
    pub(crate) const WRITE: Self = Self { read: false, write: true };
    pub(crate) const ALL: Self = Self { read: true, write: true };

    fn has(self, need: Need) -> bool {
        match need {
            Need::Read => self.read,
            Need::Write => self.write,
        }
    }
}

/// What permissions hang on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The user has the role.
    Role,
    /// The role permits something with the keys of this prefix.
    Range(String),
}

/// One change.
#[derive(Clone, Debug)]
struct Change {
    subject: Subject,
    may: May,
    asked: Duration,
    /// When it was acknowledged; `None`: nobody knows what became of it.
    acknowledged: Option<Duration>,
}

/// All changes, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct PermissionBook {
    changes: Vec<Change>,
    /// Permissions count.
    enabled: bool,
    /// Ranges that are granted and taken now.
    ranges: Vec<Subject>,
    /// No name of a range is used twice.
    named: usize,
    /// Ranges that were not to be written any more, in the order in which that was acknowledged.
    taken: Vec<String>,
}

impl PermissionBook {
    /// From now on permissions count.
    pub(crate) fn enable(&mut self) {
        self.enabled = true;
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// So many ranges of which it is known what is permitted, the same ones for as long as it is.
    pub(crate) fn ranges(&mut self, count: usize) -> Vec<Subject> {
        let mut ranges = std::mem::take(&mut self.ranges);
        ranges.retain(|range| self.settled(range).is_some());
        while ranges.len() < count {
            ranges.push(self.new_range());
        }
        self.ranges.clone_from(&ranges);
        ranges
    }

    /// A range with which nothing was done yet.
    pub(crate) fn new_range(&mut self) -> Subject {
        self.named += 1;
        Subject::Range(format!("p{}.", self.named))
    }

    /// A change was made, or nobody knows.
    pub(crate) fn change(&mut self, subject: Subject, may: May, asked: Duration, acknowledged: Option<Duration>) {
        match &subject {
            Subject::Range(range) if acknowledged.is_some() && !may.write => self.taken.push(range.clone()),
            Subject::Range(_) | Subject::Role => {}
        }
        self.changes.push(Change { subject, may, asked, acknowledged });
    }

    /// The range that was taken last, and how many were until then.
    pub(crate) fn taken(&self) -> (usize, Option<&str>) {
        (self.taken.len(), self.taken.last().map(String::as_str))
    }

    /// What is permitted of a subject; `None` if nobody knows.
    pub(crate) fn settled(&self, subject: &Subject) -> Option<May> {
        let mut changes = self.changes.iter().filter(|change| change.subject == *subject);
        changes.try_fold(May::NOTHING, |_, change| change.acknowledged.map(|_| change.may))
    }

    /// What was wrongly permitted.
    pub(crate) fn check(&self, history: &History) -> Vec<String> {
        let of_users = history.operations.iter().filter(|operation| USERS.contains(&operation.client));
        of_users
            .filter(|operation| happened(operation, history))
            .filter_map(|operation| self.judge(operation))
            .collect()
    }

    /// Why an operation must not have happened.
    fn judge(&self, operation: &Operation) -> Option<String> {
        let asked = Duration::from_nanos(operation.called.ns);
        let done = operation.response().and(operation.returned).map_or(Duration::MAX, |at| Duration::from_nanos(at.ns));
        let forbidden = |(need, keys): &(Need, Keys)| !self.may(*need, keys, (asked, done));
        let (need, keys) = needs(&operation.request).into_iter().find(forbidden)?;
        Some(format!("{need:?} of {keys:?} was not permitted between {asked:?} and {done:?}: {}", operation.told()))
    }

    /// Whether it can have been permitted at some moment of a span.
    fn may(&self, need: Need, keys: &Keys, span: (Duration, Duration)) -> bool {
        let covers = |subject: &Subject| match (subject, keys) {
            (Subject::Role, _) | (Subject::Range(_), Keys::All) => false,
            (Subject::Range(range), Keys::One(key) | Keys::Prefix(key)) => key.starts_with(range.as_str()),
        };
        self.can_be(need, |subject| *subject == Subject::Role, span) && self.can_be(need, covers, span)
    }

    fn can_be(&self, need: Need, is_meant: impl Fn(&Subject) -> bool, (asked, done): (Duration, Duration)) -> bool {
        self.changes.iter().enumerate().any(|(at, given)| {
            let is_taken = |later: &Change| {
                let is_in_force = later.acknowledged.is_some_and(|at| at < asked);
                given.acknowledged.is_some() && later.subject == given.subject && !later.may.has(need) && is_in_force
            };
            let in_time = given.may.has(need) && given.asked <= done;
            is_meant(&given.subject) && in_time && !self.changes[at + 1..].iter().any(is_taken)
        })
    }
}

/// Whether an operation was done, also if nobody was told so: what it put was seen then.
fn happened(operation: &Operation, history: &History) -> bool {
    match &operation.outcome {
        Outcome::Answered(_) => true,
        Outcome::Failed(_) => false,
        Outcome::Unknown(_) => {
            let values = values(&operation.request);
            let events = history.watches.iter().flat_map(Watch::events);
            let mut changes = events.map(|event| &event.change);
            changes.any(|change| matches!(change, Changed::Put(kv) if values.contains(&kv.value.as_str())))
        }
    }
}

/// What a request may put, each of which nobody else does.
fn values(request: &Request) -> Vec<&str> {
    match request {
        Request::Put { value, .. } => vec![value],
        Request::Txn { success, failure, .. } => success.iter().chain(failure).flat_map(values).collect(),
        Request::Range { .. } | Request::Delete { .. } => Vec::new(),
    }
}

/// What a request needs to be permitted, in all of its branches.
fn needs(request: &Request) -> Vec<(Need, Keys)> {
    match request {
        Request::Range { keys, .. } => vec![(Need::Read, keys.clone())],
        Request::Put { key, prev, .. } => written(&Keys::One(key.clone()), *prev),
        Request::Delete { keys, prev } => written(keys, *prev),
        Request::Txn { compares, success, failure } => {
            let compared = compares.iter().map(|compare| (Need::Read, Keys::One(compare.key.clone())));
            compared.chain(success.iter().chain(failure).flat_map(needs)).collect()
        }
    }
}

/// Who writes keys and asks what was there reads them, too.
fn written(keys: &Keys, prev: bool) -> Vec<(Need, Keys)> {
    let read = prev.then(|| (Need::Read, keys.clone()));
    [(Need::Write, keys.clone())].into_iter().chain(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn range() -> Subject {
        Subject::Range("p1.".to_owned())
    }

    /// The role is there, and the range was granted by a call from 10 to 11 and taken by one from 20 to 21.
    fn book() -> PermissionBook {
        let mut book = PermissionBook::default();
        book.change(Subject::Role, May::ALL, at(1), Some(at(2)));
        book.change(range(), May::ALL, at(10), Some(at(11)));
        book.change(range(), May::NOTHING, at(20), Some(at(21)));
        book
    }

    fn may(book: &PermissionBook, from: u64, to: u64) -> bool {
        book.may(Need::Write, &Keys::One("p1.0".to_owned()), (at(from), at(to)))
    }

    #[test]
    fn what_is_granted_can_be_done_from_when_it_was_asked_for_until_it_is_surely_taken() {
        let spans = [(5, 9, false), (5, 10, true), (12, 13, true), (21, 22, true), (22, 30, false)];
        for (from, to, expected) in spans {
            assert_eq!(may(&book(), from, to), expected, "{from}..{to}");
        }
    }

    #[test]
    fn a_change_that_nobody_knows_of_may_be_made_at_any_time() {
        let mut book = book();
        book.change(range(), May::ALL, at(30), None);
        book.change(range(), May::NOTHING, at(40), Some(at(41)));
        assert!(!may(&book, 22, 29) && may(&book, 50, 51));
        assert_eq!(book.settled(&range()), None);
    }

    #[test]
    fn a_permission_is_of_its_keys_its_kind_and_its_role() {
        let book = book();
        let span = (at(12), at(13));
        let one = |key: &str| Keys::One(key.to_owned());
        assert!(book.may(Need::Read, &Keys::Prefix("p1.".to_owned()), span));
        for keys in [one("p2.0"), one("p"), one("k0"), Keys::Prefix("p".to_owned()), Keys::All] {
            assert!(!book.may(Need::Read, &keys, span), "{keys:?}");
        }
        assert_eq!(book.settled(&Subject::Range("p9.".to_owned())), Some(May::NOTHING));
    }

    #[test]
    fn a_permission_needs_its_role_and_is_of_one_kind() {
        let mut book = PermissionBook::default();
        book.change(Subject::Role, May::ALL, at(1), Some(at(2)));
        book.change(range(), May::ALL, at(3), Some(at(4)));
        book.change(Subject::Role, May::NOTHING, at(5), Some(at(6)));
        assert!(may(&book, 6, 7) && !may(&book, 7, 8));
        book.change(Subject::Role, May::ALL, at(8), Some(at(9)));
        assert!(may(&book, 9, 10));
        book.change(range(), May::READ, at(11), Some(at(12)));
        assert!(!may(&book, 13, 14));
        assert!(book.may(Need::Read, &Keys::One("p1.0".to_owned()), (at(13), at(14))));
        assert_eq!(book.settled(&range()), Some(May::READ));
    }

    #[test]
    fn a_transaction_needs_what_all_of_its_branches_need() {
        let key = || "p1.0".to_owned();
        let delete = Request::Delete { keys: Keys::One(key()), prev: false };
        let success = vec![Request::put(key(), "v"), delete];
        let txn = Request::Txn { compares: Vec::new(), success, failure: vec![Request::read(Keys::All)] };
        let needed: Vec<Need> = needs(&txn).into_iter().map(|(need, _)| need).collect();
        assert_eq!(needed, [Need::Write, Need::Read, Need::Write, Need::Read]);
    }
}
