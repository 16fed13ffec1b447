//! Real time: who asks after somebody was told something is not told less.

use std::collections::BTreeMap;

use super::{
    Rule, Violation,
    operation::Operation,
    recorder::{History, Moment},
};

/// For each operation, by its place, the greatest revision that anybody had been told when it was called: by an answer of
/// any kind or by a watch, all of which tell only what is committed.
pub(crate) struct Floors(Vec<i64>);

impl Floors {
    pub(crate) fn of(&self, operation: &Operation) -> i64 {
        self.0[operation.id]
    }
}

/// What everybody had been told, at each call.
pub(crate) fn floors(history: &History) -> Floors {
    let watched = history.watches.iter().flat_map(|watch| &watch.told);
    let watched = watched.filter_map(|(at, told)| Some((*at, told.revision()?)));
    let mut floors = vec![0; history.operations.len()];
    for (id, floor) in floors_of(history.operations.iter(), watched) {
        floors[id] = floor;
    }
    Floors(floors)
}

/// Linearizable answers, and writes, are not older than what anybody had been told.
pub(crate) fn fresh(history: &History, floors: &Floors) -> Vec<Violation> {
    let stale = |operation: &Operation| stale(Rule::Fresh, operation, floors.of(operation));
    history.operations.iter().filter_map(stale).collect()
}

/// The same for what one client was answered, alone: it holds however little of the log is known.
pub(crate) fn forward(operations: &[Operation]) -> Vec<Violation> {
    let mut clients = BTreeMap::<u32, Vec<&Operation>>::new();
    for operation in operations {
        clients.entry(operation.client).or_default().push(operation);
    }
    let stale = |(id, floor): (usize, i64)| stale(Rule::Forward, &operations[id], floor);
    let of_client = |own: Vec<&Operation>| {
        let linearizable = own.into_iter().filter(|operation| !operation.request.is_serializable());
        floors_of(linearizable, std::iter::empty()).into_iter().filter_map(stale).collect::<Vec<_>>()
    };
    clients.into_values().flat_map(of_client).collect()
}

/// Whether an answer is older than `floor`, or a change not newer.
fn stale(rule: Rule, operation: &Operation, floor: i64) -> Option<Violation> {
    let response = operation.response().filter(|_| !operation.request.is_serializable())?;
    let least = if response.answer.is_change() { floor + 1 } else { floor };
    (response.revision < least)
        .then(|| Violation::new(rule, format!("{}, after revision {floor} was told", operation.told())))
}

/// The greatest revision told before each operation was called, by these operations and whatever else was `told`.
fn floors_of<'a>(
    operations: impl Iterator<Item = &'a Operation>,
    told: impl Iterator<Item = (Moment, i64)>,
) -> Vec<(usize, i64)> {
    enum What {
        Called(usize),
        Told(i64),
    }
    let mut moments: Vec<_> = told.map(|(at, revision)| (at, What::Told(revision))).collect();
    for operation in operations {
        moments.push((operation.called, What::Called(operation.id)));
        if let (Some(at), Some(response)) = (operation.returned, operation.response()) {
            moments.push((at, What::Told(response.revision)));
        }
    }
    moments.sort_by_key(|(at, _)| *at);
    let mut floor = 0;
    let mut floors = Vec::new();
    for (_, what) in moments {
        match what {
            What::Called(id) => floors.push((id, floor)),
            What::Told(revision) => floor = floor.max(revision),
        }
    }
    floors
}
