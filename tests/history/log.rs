//! Every change that the store made, in order.

use super::{
    Rule, Violation,
    operation::Keys,
    state::State,
    watch::{Change, Event, Watch},
};

/// The changes of revisions 2, 3, and so on, without a gap. With each event comes what its key was before.
pub(crate) struct Log {
    revisions: Vec<Vec<Event>>,
}

/// The first revision that changes anything; the empty store is at the one before.
const FIRST: i64 = 2;

impl Log {
    /// What watchers of everything were told, put together. Where they contradict one another, who was told first counts:
    /// each watch is held against the log afterwards.
    ///
    /// # Errors
    /// [`Rule::Complete`] if a revision is missing; [`Rule::Created`] if changes do not follow from those before.
    pub(crate) fn gathered(watches: &[Watch]) -> Result<Self, Violation> {
        let mut log = Self { revisions: Vec::new() };
        for watch in watches.iter().filter(|watch| watch.watched.keys == Keys::All && watch.watched.filter.is_none()) {
            let events: Vec<_> = watch.events().collect();
            for events in events.chunk_by(|one, other| one.revision == other.revision) {
                log.learn(events);
            }
        }
        if let Some(at) = log.revisions.iter().position(Vec::is_empty) {
            return Err(Violation::new(Rule::Complete, format!("no watcher was told of revision {}", revision(at))));
        }
        log.follow()?;
        Ok(log)
    }

    /// Keeps what is told of one revision, unless it is known. A key changes once in a revision: what is told twice is
    /// the watch's fault.
    fn learn(&mut self, events: &[&Event]) {
        let Some(at) = place(events[0].revision) else { return };
        if self.revisions.len() <= at {
            self.revisions.resize(at + 1, Vec::new());
        }
        let known = &mut self.revisions[at];
        if known.is_empty() {
            for event in events {
                if known.iter().all(|known| known.key() != event.key()) {
                    known.push((*event).clone());
                }
            }
        }
    }

    /// Notes with each event what its key was before, from which the event must follow.
    fn follow(&mut self) -> Result<(), Violation> {
        let mut state = State::default();
        for (at, events) in self.revisions.iter_mut().enumerate() {
            let revision = revision(at);
            for event in &mut *events {
                event.prev = state.get(event.key()).cloned();
                if !follows(revision, event) {
                    return Err(Violation::new(Rule::Created, format!("this does not follow: {event:?}")));
                }
            }
            state.apply(events);
        }
        Ok(())
    }

    /// The last revision, 1 if nothing was ever changed.
    pub(crate) fn last(&self) -> i64 {
        revision(self.revisions.len()) - 1
    }

    /// What a revision changed; nothing for one that is not in the log.
    pub(crate) fn at(&self, revision: i64) -> &[Event] {
        place(revision).and_then(|at| self.revisions.get(at)).map_or(&[], Vec::as_slice)
    }

    /// All revisions with what they changed, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &[Event])> {
        self.revisions.iter().enumerate().map(|(at, events)| (revision(at), events.as_slice()))
    }

    /// All changes of the revisions `from` to `to`, both included.
    pub(crate) fn between(&self, from: i64, to: i64) -> impl Iterator<Item = &Event> {
        let end = place(to + 1).unwrap_or(0).min(self.revisions.len());
        let start = place(from).unwrap_or(0).min(end);
        self.revisions[start..end].iter().flatten()
    }
}

/// Whether two lists of events tell the same changes, whatever comes with them.
pub(crate) fn same(one: &[Event], other: &[Event]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.change == other.change)
}

/// Whether an event of a revision makes sense after what its key was before.
fn follows(revision: i64, event: &Event) -> bool {
    match (&event.change, &event.prev) {
        (Change::Delete(_), prev) => prev.is_some(),
        (Change::Put(kv), None) => (kv.mod_revision, kv.create_revision, kv.version) == (revision, revision, 1),
        (Change::Put(kv), Some(prev)) => {
            (kv.mod_revision, kv.create_revision, kv.version) == (revision, prev.create_revision, prev.version + 1)
        }
    }
}

fn place(revision: i64) -> Option<usize> {
    usize::try_from(revision - FIRST).ok()
}

fn revision(at: usize) -> i64 {
    FIRST + i64::try_from(at).expect("a history has fewer revisions than 2^63")
}
