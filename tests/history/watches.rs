//! What etcd promises to watchers, held against the log.

use std::collections::HashSet;

use super::{
    Rule, Violation,
    log::Log,
    watch::{Change, Event, Told, Watch},
};

/// Holds every watch against all promises.
pub(crate) fn check(log: &Log, watches: &[Watch]) -> Vec<Violation> {
    watches.iter().flat_map(|watch| check_one(log, watch)).collect()
}

fn check_one(log: &Log, watch: &Watch) -> Vec<Violation> {
    let mut violations = one_by_one(log, watch);
    violations.extend(in_sequence(watch));
    violations.extend(without_gaps(log, watch));
    violations.extend(bookmarks(log, watch));
    violations.into_iter().map(|(rule, what)| Violation::new(rule, format!("{}: {what}", watch.name()))).collect()
}

type Broken = (Rule, String);

/// What can be said of each event alone.
fn one_by_one(log: &Log, watch: &Watch) -> Vec<Broken> {
    let first = watch.first().unwrap_or(i64::MAX);
    let check = |event: &Event| {
        let of = |rule, why: &str| Some((rule, format!("{why}: {event:?}")));
        if !watch.watched.wants(event) {
            return of(Rule::Filtered, "was not asked for");
        }
        if event.revision < first {
            return of(Rule::Resumable, &format!("is from before revision {first}"));
        }
        let Some(known) = log.at(event.revision).iter().find(|known| known.key() == event.key()) else {
            return of(Rule::Complete, "is not what others were told");
        };
        if known.change != event.change {
            let rule = if same_but_for_creation(&known.change, &event.change) { Rule::Created } else { Rule::Complete };
            return of(rule, &format!("should be {:?}", known.change));
        }
        let prev = known.prev.as_ref().filter(|_| watch.watched.prev);
        (event.prev.as_ref() != prev).then(|| (Rule::Previous, format!("should come with {prev:?}: {event:?}")))
    };
    watch.events().filter_map(check).collect()
}

fn same_but_for_creation(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::Put(one), Change::Put(other)) => (&one.key, &one.value) == (&other.key, &other.value),
        _ => false,
    }
}

/// Order, repetition, bookmarks that were not kept, and revisions that are torn apart.
fn in_sequence(watch: &Watch) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut seen = HashSet::new();
    let (mut last, mut bookmark) = (0, 0);
    for (_, told) in &watch.told {
        let events = match told {
            Told::Events { events, .. } => events,
            Told::Progress { revision } => {
                bookmark = bookmark.max(*revision);
                continue;
            }
            Told::Created { .. } | Told::Ended { .. } => continue,
        };
        let before = last;
        for event in events {
            let revision = event.revision;
            if !seen.insert((revision, event.key())) {
                broken.push((Rule::Unique, format!("was told twice: {event:?}")));
            } else if revision < last {
                broken.push((Rule::Ordered, format!("was told after revision {last}: {event:?}")));
            } else if revision == before {
                broken
                    .push((Rule::Atomic, format!("comes in another response than others of its revision: {event:?}")));
            }
            if revision <= bookmark {
                broken.push((Rule::Bookmarkable, format!("was told after the bookmark {bookmark}: {event:?}")));
            }
            last = last.max(revision);
        }
    }
    broken
}

/// Everything that was asked for was told, up to the last event.
fn without_gaps(log: &Log, watch: &Watch) -> Vec<Broken> {
    let (Some(first), Some(last)) = (watch.first(), watch.events().map(|event| event.revision).max()) else {
        return Vec::new();
    };
    let begun = watch.events().map(|event| event.revision).min().unwrap_or(last);
    missing(log, watch, first, last)
        .map(|event| {
            let rule = if event.revision < begun { Rule::Resumable } else { Rule::Reliable };
            (rule, format!("was not told: {event:?}"))
        })
        .collect()
}

/// When a bookmark comes, everything before it has been told.
fn bookmarks(log: &Log, watch: &Watch) -> Vec<Broken> {
    let Some(first) = watch.first() else { return Vec::new() };
    let (mut told, mut broken) = (first - 1, Vec::new());
    for (_, response) in &watch.told {
        match response {
            Told::Events { events, .. } => told = events.last().map_or(told, |event| told.max(event.revision)),
            Told::Progress { revision } => {
                let late = log.between(told + 1, *revision).find(|event| watch.watched.wants(event));
                broken.extend(late.map(|event| (Rule::Bookmarkable, format!("is not told at {revision}: {event:?}"))));
                told = told.max(*revision);
            }
            Told::Created { .. } | Told::Ended { .. } => {}
        }
    }
    broken
}

/// Events from revision `first` to `last` that the watch asked for and was never told.
fn missing<'a>(log: &'a Log, watch: &'a Watch, first: i64, last: i64) -> impl Iterator<Item = &'a Event> {
    let told: HashSet<_> = watch.events().map(|event| (event.revision, event.key())).collect();
    let wanted = log.between(first, last).filter(|event| watch.watched.wants(event));
    wanted.filter(move |event| !told.contains(&(event.revision, event.key())))
}
