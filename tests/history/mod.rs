//! What clients of a cluster saw, and whether a correct store could have shown it to them.
//!
//! Owns: the record of operations and watches ([`Recorder`], [`History`]) and the checkers of it ([`check`]).
//! In:   each call when it is made and when it returns, each response of a watch; by whoever runs the clients.
//! Out:  a [`Report`], or every [`Violation`] found; the history as lines of JSON, to be looked at or checked again.
//!
//! - Nothing here knows processes, sockets, runtimes or clocks: real clusters and simulated ones are judged alike.
//! - No type of the code under test is used. Revisions are the wire's `int64`, keys and values are text.
//! - An operation that was not answered may have happened, at any time after it was called; that is decided by the events
//!   that watchers of everything were told, which name every change from revision 2 on.
//! - A checker that cannot fail is worth nothing: `tests` plants a violation for each rule and expects that rule.

mod answers;
mod log;
mod operation;
mod order;
mod recorder;
mod search;
mod state;
#[cfg(test)]
mod tests;
mod unknown;
mod watch;
mod watches;

use std::fmt;

pub(crate) use self::{
    log::Log,
    operation::{Answer, Compare, KeyValue, Keys, Operation, Outcome, Request, Response, Target},
    recorder::{History, Recorder},
    watch::{Change, Event, Filter, Told, Watch, Watched},
};

/// What a correct store keeps to, one rule for each way to break it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Watchers of everything agree about each revision, and every revision up to the last is told.
    Complete,
    /// An acknowledged write is in the log at its revision, as it was asked.
    Kept,
    /// No two operations made the same change.
    Once,
    /// A refused operation changed nothing.
    Refused,
    /// Every change was asked for by somebody, after they asked for it.
    Asked,
    /// A response is what the state at its revision gives; serializable reads too.
    Answered,
    /// Nobody is answered with less than somebody was told before they asked.
    Fresh,
    /// A client's linearizable answers do not go back, whichever member gives them.
    Forward,
    /// An order of all operations exists that explains every answer and keeps to real time.
    Linearizable,
    /// A watch tells events in the order of their revisions.
    Ordered,
    /// A watch tells no event twice.
    Unique,
    /// A watch skips no event.
    Reliable,
    /// All events of a revision come in one response.
    Atomic,
    /// A watch from a revision tells everything from there on, and nothing older.
    Resumable,
    /// After a watch says that it has reached a revision, it tells nothing of it or before it.
    Bookmarkable,
    /// A watch tells only what it was asked for.
    Filtered,
    /// An event says truly whether its key was created by it, and what it became.
    Created,
    /// The earlier key that comes with an event is what it was.
    Previous,
}

/// One broken rule, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    /// Names the operation or watch by its place in the history, and tells both sides.
    pub(crate) what: String,
}

impl Violation {
    fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// What a history that broke no rule consisted of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Operations that were called.
    pub(crate) operations: usize,
    /// Writes that were acknowledged and changed something.
    pub(crate) acknowledged: usize,
    /// Operations whose outcome their client does not know.
    pub(crate) unknown: usize,
    /// Those of them that happened.
    pub(crate) happened: usize,
    /// Events told to watchers.
    pub(crate) events: usize,
    /// The store's last revision.
    pub(crate) revision: i64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, acknowledged, unknown, happened, events, revision } = self;
        write!(
            f,
            "{operations} operations, {acknowledged} writes acknowledged, {happened} of {unknown} unanswered ones happened, \
             {events} events watched, revision {revision}"
        )
    }
}

/// Holds a history against every rule. At least one watch of everything from revision 1 (or 0, before the first write)
/// must have been told the last change.
///
/// Costs time linear in the history, apart from sorting it, if states are small.
///
/// # Errors
/// Every violation that was found; what follows from an incomplete log is not looked for.
pub(crate) fn check(history: &History) -> Result<Report, Vec<Violation>> {
    let log = Log::gathered(&history.watches).map_err(|violation| vec![violation])?;
    let mut violations = order::forward(&history.operations);
    violations.extend(watches::check(&log, &history.watches));
    violations.extend(answers::check(&log, &history.operations));
    let floors = order::floors(history);
    violations.extend(order::fresh(history, &floors));
    let found = unknown::assign(&log, &history.operations, &floors);
    violations.extend(found.violations.iter().cloned());
    if violations.is_empty() {
        violations.extend(search::check(&log, &history.operations, &found));
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let unknown = |operation: &&Operation| matches!(operation.outcome, Outcome::Unknown(_));
    Ok(Report {
        operations: history.operations.len(),
        acknowledged: history.operations.iter().filter(|operation| operation.changed().is_some()).count(),
        unknown: history.operations.iter().filter(unknown).count(),
        happened: found.revisions.len(),
        events: history.watches.iter().map(Watch::events).map(Iterator::count).sum(),
        revision: log.last(),
    })
}
