//! Every answer is what the log gives, at the revision that the answer names.

use super::{
    Rule, Violation,
    log::{Log, same},
    operation::{Answer, Operation, Request, Response},
    state::{State, range},
};

/// Goes through the log once, and holds each answer against the state that it is about.
pub(crate) fn check(log: &Log, operations: &[Operation]) -> Vec<Violation> {
    let mut answered: Vec<_> =
        operations.iter().filter_map(|operation| Some((operation, operation.response()?))).collect();
    answered.sort_by_key(|(operation, response)| subject(operation, response));
    let mut violations = Vec::new();
    let mut state = State::default();
    let mut changes = log.iter();
    for of_one in answered.chunk_by(|one, other| subject(one.0, one.1).0 == subject(other.0, other.1).0) {
        let (revision, _) = subject(of_one[0].0, of_one[0].1);
        let (writes, reads): (Vec<_>, Vec<_>) =
            of_one.iter().copied().partition(|(_, response)| response.answer.is_change());
        // The state before this revision is what its write found.
        while state.revision + 1 < revision {
            let Some((_, events)) = changes.next() else { break };
            state.apply(events);
        }
        violations.extend(written(log, &state, revision, &writes));
        if state.revision < revision
            && let Some((_, events)) = changes.next()
        {
            state.apply(events);
        }
        violations.extend(reads.into_iter().filter_map(|(operation, response)| read(&state, operation, response)));
    }
    violations
}

/// The revision that an answer is about, and whether it made it: a write comes before those who saw it.
fn subject(operation: &Operation, response: &Response) -> (i64, bool) {
    match operation.request {
        Request::Range { revision, .. } if revision > 0 => (revision, true),
        _ => (response.revision, !response.answer.is_change()),
    }
}

/// All writes that claim a revision, of which there may be one. `before` is the state that it found.
fn written(log: &Log, before: &State, revision: i64, writes: &[(&Operation, &Response)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    if let [(one, _), (other, _), ..] = writes {
        let what = format!("revision {revision} is claimed by {} and by {}", one.told(), other.told());
        violations.push(Violation::new(Rule::Once, what));
    }
    for (operation, response) in writes {
        if revision > log.last() || before.revision + 1 != revision {
            let what = format!("{}, but the last revision is {}", operation.told(), log.last());
            violations.push(Violation::new(Rule::Kept, what));
            continue;
        }
        let (expected, events) = before.clone().run(&operation.request);
        if !same(&events, log.at(revision)) {
            let what = format!("{}, but revision {revision} is {:?}", operation.told(), log.at(revision));
            violations.push(Violation::new(Rule::Kept, what));
        } else if expected.answer != response.answer {
            violations.push(wrong(operation, &expected.answer));
        }
    }
    violations
}

/// An answer of somebody who changed nothing, at the state that it is about.
fn read(state: &State, operation: &Operation, response: &Response) -> Option<Violation> {
    let (about, _) = subject(operation, response);
    if state.revision != about || response.revision < about {
        let what = format!("{}, but the last revision is {}", operation.told(), state.revision);
        return Some(Violation::new(Rule::Answered, what));
    }
    let expected = match &operation.request {
        Request::Range { keys, limit, .. } => range(state.select(keys), *limit),
        request => state.clone().run(request).0.answer,
    };
    (expected != response.answer).then(|| wrong(operation, &expected))
}

fn wrong(operation: &Operation, expected: &Answer) -> Violation {
    Violation::new(Rule::Answered, format!("{}, but right is {expected:?}", operation.told()))
}
