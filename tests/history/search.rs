//! A second judge of the same question, who knows nothing of revisions' meaning: is there an order of all operations that
//! keeps to real time, and in which the simplest store gives every answer?
//!
//! The search is Wing's and Gong's, with Lowe's memory of what was tried: operations are taken out of the history one by one,
//! each as early as its call allows; where the next one to return fits nowhere, the last one is put back and another taken.
//! It is our own: there are few crates for it, and those bring more than the hundred lines that it takes.
//!
//! Calls that were not answered take part with the revision that the log gives them, or not at all; answers about the past,
//! and those that may be old, do not.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{
    Rule, Violation,
    log::Log,
    operation::{Answer, Keys, Operation, Request},
    state::State,
    unknown::Found,
    watch::Event,
};

/// Looks for an order; says how far it came if there is none.
pub(crate) fn check(log: &Log, operations: &[Operation], found: &Found) -> Option<Violation> {
    let ended: Vec<_> = found.ended.iter().map(|revision| (*revision, deletions(log.at(*revision)))).collect();
    let answered = operations.iter().filter_map(|operation| Step::of(operation, found));
    let steps: Vec<_> =
        answered.chain(ended.iter().map(|(revision, request)| Step::ended(*revision, request))).collect();
    let stuck = Search::new(&steps).run().err()?;
    let (count, total) = (stuck.ordered, steps.len());
    let what =
        format!("no order explains more than {count} of {total} operations; left is {:?}", steps[stuck.at].request);
    Some(Violation::new(Rule::Linearizable, what))
}

/// What is to be put in order.
struct Step<'a> {
    called: u64,
    /// The greatest number for one that never returned.
    returned: u64,
    request: &'a Request,
    revision: i64,
    /// Not known of one that was not answered.
    answer: Option<&'a Answer>,
}

impl<'a> Step<'a> {
    fn of(operation: &'a Operation, found: &Found) -> Option<Self> {
        let is_past = matches!(operation.request, Request::Range { revision, .. } if revision > 0);
        if is_past || operation.request.is_serializable() {
            return None;
        }
        let (called, request) = (operation.called.order, &operation.request);
        if let Some(response) = operation.response() {
            let (revision, answer) = (response.revision, Some(&response.answer));
            return Some(Self { called, returned: operation.returned?.order, request, revision, answer });
        }
        let revision = *found.revisions.get(&operation.id)?;
        Some(Self { called, returned: u64::MAX, request, revision, answer: None })
    }

    /// A lease that ended at any time.
    fn ended(revision: i64, request: &'a Request) -> Self {
        Self { called: 0, returned: u64::MAX, request, revision, answer: None }
    }

    /// Takes it, if its answer is what it finds; what it changed, to be undone.
    fn take(&self, state: &mut State) -> Option<Vec<Event>> {
        let (response, events) = state.run(self.request);
        let fits = response.revision == self.revision && self.answer.is_none_or(|answer| *answer == response.answer);
        if !fits {
            state.undo(&events);
        }
        fits.then_some(events)
    }
}

/// One request that makes these events, all of which are deletions.
fn deletions(events: &[Event]) -> Request {
    let delete = |event: &Event| Request::Delete { keys: Keys::One(event.key().to_owned()), prev: false };
    Request::Txn { compares: Vec::new(), success: events.iter().map(delete).collect(), failure: Vec::new() }
}

/// Where the search ended without an order.
struct Stuck {
    /// The most operations that were in order at once.
    ordered: usize,
    /// The one that had to be next then.
    at: usize,
}

/// Calls and returns that are left, as a list in the order of time. Places 1 to 2n are calls and returns, 0 is the head.
struct Search<'a> {
    steps: &'a [Step<'a>],
    /// At each place, whose it is and whether it is the return.
    moments: Vec<(usize, bool)>,
    /// Where each step's call and return are.
    places: Vec<(usize, usize)>,
    next: Vec<usize>,
    before: Vec<usize>,
    state: State,
    taken: Vec<(usize, Vec<Event>)>,
    /// Of the steps that are taken, whatever their order.
    mark: u128,
    tried: HashSet<(u128, u64)>,
}

impl<'a> Search<'a> {
    fn new(steps: &'a [Step<'a>]) -> Self {
        let calls = steps.iter().enumerate().map(|(at, step)| (step.called, at, false));
        let returns = steps.iter().enumerate().map(|(at, step)| (step.returned, at, true));
        let mut sorted: Vec<_> = calls.chain(returns).collect();
        sorted.sort_unstable();
        let mut places = vec![(0, 0); steps.len()];
        for (place, (_, at, is_return)) in sorted.iter().enumerate() {
            let of = &mut places[*at];
            *(if *is_return { &mut of.1 } else { &mut of.0 }) = place + 1;
        }
        let moments: Vec<_> = sorted.into_iter().map(|(_, at, is_return)| (at, is_return)).collect();
        let count = moments.len() + 1;
        let next = (1..=count).map(|place| place % count).collect();
        let before = (0..count).map(|place| (place + count - 1) % count).collect();
        let (state, taken, tried) = (State::default(), Vec::new(), HashSet::new());
        Self { steps, moments, places, next, before, state, taken, mark: 0, tried }
    }

    fn run(mut self) -> Result<(), Stuck> {
        let mut stuck = Stuck { ordered: 0, at: 0 };
        let mut place = self.next[0];
        while place != 0 {
            let (at, is_return) = self.moments[place - 1];
            if is_return {
                if self.taken.len() >= stuck.ordered {
                    stuck = Stuck { ordered: self.taken.len(), at };
                }
                let Some(put_back) = self.put_back() else { return Err(stuck) };
                place = self.next[put_back];
            } else if self.take(at) {
                place = self.next[0];
            } else {
                place = self.next[place];
            }
        }
        Ok(())
    }

    /// Takes a step out of what is left, if it fits and that was not tried.
    fn take(&mut self, at: usize) -> bool {
        let Some(events) = self.steps[at].take(&mut self.state) else { return false };
        if !self.tried.insert((self.mark ^ mark(at), hash(&self.state))) {
            self.state.undo(&events);
            return false;
        }
        self.mark ^= mark(at);
        self.taken.push((at, events));
        let (call, ret) = self.places[at];
        self.unlink(call);
        self.unlink(ret);
        true
    }

    /// Puts the last step back; the place of its call.
    fn put_back(&mut self) -> Option<usize> {
        let (at, events) = self.taken.pop()?;
        self.state.undo(&events);
        self.mark ^= mark(at);
        let (call, ret) = self.places[at];
        self.link(ret);
        self.link(call);
        Some(call)
    }

    fn unlink(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = next;
        self.before[next] = before;
    }

    /// Undoes the last `unlink` that was not undone.
    fn link(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        self.next[before] = place;
        self.before[next] = place;
    }
}

/// A number of a step's own: the exclusive or of several names their set.
fn mark(at: usize) -> u128 {
    (u128::from(hash(&(at, 1_u8))) << 64) | u128::from(hash(&(at, 2_u8)))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
