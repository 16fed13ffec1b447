//! Which of the calls that nobody saw answered have happened, and when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Rule, Violation,
    log::{Log, same},
    operation::{Operation, Outcome, Request},
    order::Floors,
    state::State,
    watch::{Change, Event},
};

/// Who made the revisions that no acknowledged operation has made.
#[derive(Default)]
pub(crate) struct Found {
    /// The revision that each unanswered operation made, by its place. Those that are not here have not happened.
    pub(crate) revisions: BTreeMap<usize, i64>,
    /// The revisions at which a lease ended, which nobody need have asked for.
    pub(crate) ended: Vec<i64>,
    pub(crate) violations: Vec<Violation>,
}

/// A revision that no acknowledged operation has made.
struct Unclaimed<'a> {
    revision: i64,
    events: &'a [Event],
    is_end_of_lease: bool,
    /// Unanswered writes that were called before, and would have made it of the state that was there.
    fitting: Vec<usize>,
}

/// Gives every revision that nobody claims to an unanswered write that was called before and does exactly that, each at
/// most once. Puts are known by their values; deletions may fit several revisions, so that a matching is looked for.
pub(crate) fn assign(log: &Log, operations: &[Operation], floors: &Floors) -> Found {
    let claimed: BTreeSet<_> = operations.iter().filter_map(Operation::changed).collect();
    let candidates = Candidates::new(operations);
    let mut unclaimed = Vec::new();
    let mut before = State::default();
    for (revision, events) in log.iter() {
        if !claimed.contains(&revision) {
            let fitting = candidates.fitting(&before, events, |operation| floors.of(operation) < revision);
            let is_end_of_lease = is_end_of_lease(&before, events);
            unclaimed.push(Unclaimed { revision, events, is_end_of_lease, fitting });
        }
        before.apply(events);
    }
    let makers = matching(&unclaimed);
    let revisions = makers.iter().map(|(id, at)| (*id, unclaimed[*at].revision)).collect();
    let mut found = Found { revisions, ..Found::default() };
    let made: BTreeSet<_> = makers.into_values().collect();
    for (_, left) in unclaimed.iter().enumerate().filter(|(at, _)| !made.contains(at)) {
        if left.is_end_of_lease {
            found.ended.push(left.revision);
        } else {
            found.violations.push(unasked(operations, &found.revisions, left.revision, left.events));
        }
    }
    found
}

/// As many revisions as can be, each with another maker: by makers, the place of what they made. Whoever is in the way
/// of a revision makes another one instead, if that can be.
fn matching(unclaimed: &[Unclaimed<'_>]) -> BTreeMap<usize, usize> {
    fn place(
        at: usize,
        unclaimed: &[Unclaimed<'_>],
        makers: &mut BTreeMap<usize, usize>,
        asked: &mut BTreeSet<usize>,
    ) -> bool {
        for &id in &unclaimed[at].fitting {
            if asked.insert(id) && makers.get(&id).copied().is_none_or(|other| place(other, unclaimed, makers, asked)) {
                makers.insert(id, at);
                return true;
            }
        }
        false
    }
    let mut makers = BTreeMap::new();
    for at in 0..unclaimed.len() {
        place(at, unclaimed, &mut makers, &mut BTreeSet::new());
    }
    makers
}

/// Writes without an answer, by the keys and values that they may write.
struct Candidates<'a> {
    operations: &'a [Operation],
    by_value: HashMap<&'a str, usize>,
    deletions: Vec<usize>,
}

impl<'a> Candidates<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        let mut candidates = Self { operations, by_value: HashMap::new(), deletions: Vec::new() };
        for operation in operations.iter().filter(|operation| matches!(operation.outcome, Outcome::Unknown(_))) {
            candidates.by_value.extend(values(&operation.request).into_iter().map(|value| (value, operation.id)));
            if deletes(&operation.request) {
                candidates.deletions.push(operation.id);
            }
        }
        candidates
    }

    /// All that make `events` of the state `before`, and `may`.
    fn fitting(&self, before: &State, events: &[Event], may: impl Fn(&Operation) -> bool) -> Vec<usize> {
        let fits = |id: &usize| {
            let operation = &self.operations[*id];
            may(operation) && same(&before.clone().run(&operation.request).1, events)
        };
        let put = events.iter().find_map(|event| match &event.change {
            Change::Put(kv) => Some(kv.value.as_str()),
            Change::Delete(_) => None,
        });
        match put {
            Some(value) => self.by_value.get(value).copied().filter(fits).into_iter().collect(),
            None => self.deletions.iter().copied().filter(fits).collect(),
        }
    }
}

/// The values that a request may write.
fn values(request: &Request) -> Vec<&str> {
    match request {
        Request::Put { value, .. } => vec![value],
        Request::Txn { success, failure, .. } => success.iter().chain(failure).flat_map(values).collect(),
        Request::Range { .. } | Request::Delete { .. } => Vec::new(),
    }
}

fn deletes(request: &Request) -> bool {
    match request {
        Request::Delete { .. } => true,
        Request::Txn { success, failure, .. } => success.iter().chain(failure).any(deletes),
        Request::Range { .. } | Request::Put { .. } => false,
    }
}

/// Whether exactly the keys of one lease are deleted.
fn is_end_of_lease(before: &State, events: &[Event]) -> bool {
    let lease = before.get(events[0].key()).map_or(0, |kv| kv.lease);
    let deleted: Vec<_> = events.iter().filter(|event| matches!(event.change, Change::Delete(_))).collect();
    let mut keys: Vec<_> = deleted.iter().map(|event| event.key().to_owned()).collect();
    keys.sort_unstable();
    lease != 0 && deleted.len() == events.len() && keys == before.leased(lease)
}

/// Why nobody is left who may have made a revision.
fn unasked(operations: &[Operation], found: &BTreeMap<usize, i64>, revision: i64, events: &[Event]) -> Violation {
    let writes = |operation: &&Operation| {
        let values = values(&operation.request);
        events.iter().any(|event| matches!(&event.change, Change::Put(kv) if values.contains(&kv.value.as_str())))
    };
    let Some(operation) = operations.iter().find(writes) else {
        return Violation::new(Rule::Asked, format!("nobody asked for revision {revision}: {events:?}"));
    };
    let rule = match &operation.outcome {
        Outcome::Failed(_) => Rule::Refused,
        Outcome::Answered(_) => Rule::Once,
        Outcome::Unknown(_) if found.contains_key(&operation.id) => Rule::Once,
        Outcome::Unknown(_) => Rule::Asked,
    };
    Violation::new(rule, format!("revision {revision} is {events:?}, but there is only {}", operation.told()))
}
