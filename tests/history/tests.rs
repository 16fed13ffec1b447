//! An honest history breaks no rule, and one violation of each rule is found by that rule.

mod honest;

use std::sync::atomic::{AtomicU64, Ordering};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use self::honest::Honest;
use super::{
    Answer, Change, Compare, Event, Filter, History, Keys, Log, Operation, Outcome, Recorder, Request, Rule, Target,
    Told, Watch, Watched, check, order, search, unknown,
};

/// One of everything. Watch 0 is of everything; watch 1 of `a…`, deletions only left out, from the present.
fn sample() -> History {
    let mut store = Honest::new();
    store.watch(Watched::everything());
    store.ask(&Request::put("a1", "first"));
    store.watch(Watched { keys: Keys::Prefix("a".into()), start: 0, prev: false, filter: Some(Filter::NoDelete) });
    store.ask(&Request::put("b", "second"));
    let both = vec![Request::put("a1", "third"), Request::put("a2", "fourth")];
    let compares = vec![Compare { key: "a1".into(), target: Target::Value("first".into()) }];
    store.ask(&Request::Txn { compares: compares.clone(), success: both, failure: Vec::new() });
    let never = vec![Request::put("a1", "never")];
    store.ask(&Request::Txn { compares, success: never, failure: vec![Request::read(Keys::One("a1".into()))] });
    store.ask(&Request::read(Keys::All));
    store.progress();
    store.ask(&Request::Range { keys: Keys::One("b".into()), revision: 0, serializable: true, limit: 0 });
    store.unanswered(&Request::put("a3", "happened"));
    store.lost(Request::put("a3", "never happened"));
    store.ask(&Request::put("a4", "sixth"));
    store.ask(&Request::Delete { keys: Keys::Prefix("a".into()), prev: true });
    store.refused(Request::put("a5", "refused"));
    store.ask(&Request::Range { keys: Keys::All, revision: 4, serializable: false, limit: 1 });
    store.ask(&Request::put("a6", "last"));
    store.ask(&Request::read(Keys::Prefix("a".into())));
    store.progress();
    store.history()
}

/// The operation that writes a value, or wanted to.
fn writer<'a>(history: &'a mut History, value: &str) -> &'a mut Operation {
    let writes = |operation: &&mut Operation| format!("{:?}", operation.request).contains(value);
    history.operations.iter_mut().find(writes).unwrap()
}

/// The linearizable read of everything.
fn reader(history: &mut History) -> &mut Operation {
    history.operations.iter_mut().find(|operation| operation.request == Request::read(Keys::All)).unwrap()
}

fn revision_mut(operation: &mut Operation) -> &mut i64 {
    match &mut operation.outcome {
        Outcome::Answered(response) => &mut response.revision,
        other => panic!("{other:?}"),
    }
}

fn answer_mut(operation: &mut Operation) -> &mut Answer {
    match &mut operation.outcome {
        Outcome::Answered(response) => &mut response.answer,
        other => panic!("{other:?}"),
    }
}

/// The events of one response of a watch; `at` counts the responses that have some.
fn events_mut(watch: &mut Watch, at: usize) -> &mut Vec<Event> {
    let mut events = watch.told.iter_mut().filter_map(|(_, told)| match told {
        Told::Events { events, .. } => Some(events),
        _ => None,
    });
    events.nth(at).unwrap()
}

/// Where in `told` the first bookmark of a watch is.
fn bookmark(watch: &Watch) -> usize {
    watch.told.iter().position(|(_, told)| matches!(told, Told::Progress { .. })).unwrap()
}

/// Everything that a watch of everything tells of one revision is gone.
fn forget(history: &mut History, revision: i64) {
    for (_, told) in &mut history.watches[0].told {
        if let Told::Events { events, .. } = told {
            events.retain(|event| event.revision != revision);
        }
    }
}

#[test]
fn an_honest_history_breaks_no_rule() {
    let report = check(&sample()).unwrap();
    assert_eq!((report.unknown, report.happened, report.revision), (2, 1, 8), "{report}");
    assert_eq!(report.operations, sample().operations.len());
}

type Plant = fn(&mut History);

/// Histories that are not what a correct store shows, and the rule that each breaks.
const PLANTED: &[(Rule, &str, Plant)] = &[
    (Rule::Complete, "a revision that nobody was told of", |history| forget(history, 5)),
    (Rule::Complete, "watchers who are told of different changes", |history| {
        let Change::Put(kv) = &mut events_mut(&mut history.watches[1], 0)[0].change else { panic!() };
        kv.value = "other".into();
    }),
    (Rule::Kept, "an acknowledged write at the end that is gone", |history| {
        forget(history, 8);
        forget(history, 7);
    }),
    (Rule::Kept, "an acknowledged write of another value than the one that was stored", |history| {
        writer(history, "second").request = Request::put("b", "written over");
    }),
    (Rule::Once, "two writes that were acknowledged with one revision", |history| {
        let mut twin = writer(history, "second").clone();
        twin.id = history.operations.len();
        history.operations.push(twin);
    }),
    (Rule::Once, "a write whose revision is not the one that it made", |history| {
        let first = writer(history, "first").outcome.clone();
        writer(history, "second").outcome = first;
    }),
    (Rule::Once, "an unanswered write that happens twice", |history| {
        let sixth = writer(history, "sixth");
        sixth.request = Request::put("a9", "never");
        sixth.outcome = Outcome::Unknown("lost".into());
        let told = history.watches.iter_mut().flat_map(|watch| &mut watch.told);
        told.for_each(|(_, told)| rewrite_sixth(told));
    }),
    (Rule::Refused, "a refused write that happened", |history| {
        writer(history, "sixth").outcome = Outcome::Failed("etcdserver: no".into());
    }),
    (Rule::Asked, "a change that nobody asked for", |history| {
        let id = writer(history, "happened").id;
        history.operations[id].request = Request::put("a3", "something else");
    }),
    (Rule::Asked, "an unanswered write that happened before it was called", |history| {
        let last = writer(history, "last").returned;
        let unanswered = writer(history, "happened");
        unanswered.called = last.unwrap();
    }),
    (Rule::Answered, "a read of what was never there", |history| {
        let Answer::Range { kvs, .. } = answer_mut(reader(history)) else { panic!() };
        kvs[0].value = "never written".into();
    }),
    (Rule::Answered, "a read that misses a key", |history| {
        let Answer::Range { kvs, count } = answer_mut(reader(history)) else { panic!() };
        kvs.pop();
        *count -= 1;
    }),
    (Rule::Answered, "a serializable read that is not of its revision", |history| {
        let reads = |operation: &&mut Operation| operation.request.is_serializable();
        *revision_mut(history.operations.iter_mut().find(reads).unwrap()) = 2;
    }),
    (Rule::Answered, "a read of the future", |history| *revision_mut(reader(history)) = 9),
    (Rule::Answered, "a previous value that is not what was there", |history| {
        let Answer::Range { kvs, .. } = answer_mut(reader(history)).clone() else { panic!() };
        *answer_mut(writer(history, "sixth")) = Answer::Put { prev: kvs.into_iter().next() };
    }),
    (Rule::Answered, "a comparison that held, and was said not to", |history| {
        let Answer::Txn { succeeded, .. } = answer_mut(writer(history, "never")) else { panic!() };
        *succeeded = true;
    }),
    (Rule::Fresh, "a read, right at its revision, that is older than an acknowledged write", stale_read),
    (Rule::Forward, "the same, of one client", stale_read),
    (Rule::Fresh, "a write that is acknowledged with a revision from before its call", |history| {
        let last = writer(history, "last").returned;
        writer(history, "second").called = last.unwrap();
    }),
    (Rule::Fresh, "a read that is older than what a watcher was told", |history| {
        let told = history.watches[0].told.last().unwrap().0;
        let read = reader(history);
        read.client = 77;
        read.called = told;
    }),
    (Rule::Ordered, "events out of order", |history| {
        let (first, second) = (events_mut(&mut history.watches[0], 0).clone(), events_mut(&mut history.watches[0], 1));
        let second = std::mem::replace(second, first);
        *events_mut(&mut history.watches[0], 0) = second;
    }),
    (Rule::Unique, "an event that is told twice", |history| {
        let told = history.watches[1].told.last().unwrap().clone();
        let again = events_mut(&mut history.watches[1], 0).clone();
        history.watches[1].told.push((told.0, Told::Events { revision: 8, events: again }));
    }),
    (Rule::Reliable, "an event in the middle that is not told", |history| {
        events_mut(&mut history.watches[1], 1).clear();
    }),
    (Rule::Reliable, "half of a revision", |history| {
        events_mut(&mut history.watches[1], 0).pop();
    }),
    (Rule::Atomic, "a revision in two responses", |history| {
        let at = history.watches[1].told.iter().position(|(_, told)| matches!(told, Told::Events { .. })).unwrap();
        let half = events_mut(&mut history.watches[1], 0).pop().unwrap();
        let moment = history.watches[1].told[at].0;
        history.watches[1].told.insert(at + 1, (moment, Told::Events { revision: 4, events: vec![half] }));
    }),
    (Rule::Resumable, "a watch from a revision that begins later", |history| {
        events_mut(&mut history.watches[1], 0).clear();
    }),
    (Rule::Resumable, "a watch from a revision that begins earlier", |history| {
        history.watches[1].watched.start = 5;
    }),
    (Rule::Bookmarkable, "an event after the bookmark of a later revision", |history| {
        let at = bookmark(&history.watches[1]);
        let bookmark = history.watches[1].told.remove(at);
        history.watches[1].told.insert(1, bookmark);
    }),
    (Rule::Bookmarkable, "a bookmark before everything was told", |history| {
        let late = history.watches[1].told.len() - 2;
        assert!(matches!(history.watches[1].told[late].1, Told::Events { .. }));
        history.watches[1].told.remove(late);
    }),
    (Rule::Filtered, "a key that was not asked for", |history| {
        history.watches[1].watched.keys = Keys::Prefix("a1".into());
    }),
    (Rule::Filtered, "an event that was filtered out", |history| {
        history.watches[1].watched.filter = Some(Filter::NoPut);
    }),
    (Rule::Created, "a key that seems to have been there", |history| {
        let Change::Put(kv) = &mut events_mut(&mut history.watches[1], 2)[0].change else { panic!() };
        kv.create_revision -= 1;
    }),
    (Rule::Created, "a version that does not follow", |history| {
        let Change::Put(kv) = &mut events_mut(&mut history.watches[0], 0)[0].change else { panic!() };
        kv.version = 2;
    }),
    (Rule::Previous, "what was there before is not told", |history| {
        events_mut(&mut history.watches[0], 2)[0].prev = None;
    }),
    (Rule::Previous, "something was there before that was not", |history| {
        let Change::Put(kv) = events_mut(&mut history.watches[0], 0)[0].change.clone() else { panic!() };
        events_mut(&mut history.watches[0], 0)[0].prev = Some(kv);
    }),
];

#[test]
fn each_rule_finds_its_violation() {
    for (rule, name, plant) in PLANTED {
        let mut history = sample();
        plant(&mut history);
        let found = check(&history).expect_err(name);
        assert!(found.iter().any(|violation| violation.rule == *rule), "{name}: {found:?}");
    }
}

/// A read moves behind everything, with the answer that was right before.
fn stale_read(history: &mut History) {
    let last = writer(history, "last").returned.unwrap();
    reader(history).called = last;
}

/// The sixth write's event becomes one of the unanswered write's value.
fn rewrite_sixth(told: &mut Told) {
    let Told::Events { events, .. } = told else { return };
    for event in events {
        if let Change::Put(kv) = &mut event.change
            && kv.value == "sixth"
        {
            "happened".clone_into(&mut kv.value);
        }
    }
}

/// Calls of many clients overlap in every way that a correct store allows.
#[test]
fn concurrent_clients_of_an_honest_store_break_no_rule() {
    for seed in 0..60 {
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut store = Honest::new();
        store.watch(Watched::everything());
        for step in 0..300 {
            match dice.random_range(0..10) {
                0..4 => store.call(dice.random_range(0..8), request(&mut dice, step)),
                4..7 => store.execute(&mut dice),
                7..9 => store.reply(&mut dice),
                _ => store.progress(),
            }
        }
        let history = store.history();
        let report = check(&history).unwrap_or_else(|found| panic!("seed {seed}: {found:#?}"));
        assert!(report.unknown > 0 && report.acknowledged > 5, "seed {seed}: {report}");
    }
}

/// Any request; each value is written once.
fn request(dice: &mut Xoshiro256PlusPlus, step: usize) -> Request {
    let key = format!("k{}", dice.random_range(0..4));
    match dice.random_range(0..6) {
        0 | 1 => Request::put(key, format!("v{step}")),
        2 => Request::Delete { keys: Keys::One(key), prev: true },
        3 => Request::Txn {
            compares: vec![Compare { key: key.clone(), target: Target::Version(dice.random_range(0..3)) }],
            success: vec![Request::put(key.clone(), format!("v{step}")), Request::put("both", format!("w{step}"))],
            failure: vec![Request::Delete { keys: Keys::One(key), prev: false }],
        },
        4 => Request::read(Keys::Prefix("k".into())),
        _ => Request::Range { keys: Keys::All, revision: 0, serializable: true, limit: 0 },
    }
}

/// The search for an order is made of histories that no other rule objects to; it must not depend on that.
#[test]
fn the_search_finds_what_has_no_order() {
    let cases: [(&str, Plant); 4] = [
        ("a read that is older than an acknowledged write", stale_read),
        ("an acknowledged write that nobody has seen", |history| {
            writer(history, "second").request = Request::put("b", "another");
        }),
        ("a comparison that held, and was said not to", |history| {
            let Answer::Txn { succeeded, .. } = answer_mut(writer(history, "never")) else { panic!() };
            *succeeded = true;
        }),
        ("a write that was acknowledged before another that was called after it", |history| {
            let last = writer(history, "last").returned.unwrap();
            writer(history, "second").called = last;
        }),
    ];
    let searched = |history: &History| {
        let log = Log::gathered(&history.watches).unwrap();
        let found = unknown::assign(&log, &history.operations, &order::floors(history));
        search::check(&log, &history.operations, &found)
    };
    assert_eq!(searched(&sample()), None);
    for (name, plant) in cases {
        let mut history = sample();
        plant(&mut history);
        assert_eq!(searched(&history).expect(name).rule, Rule::Linearizable, "{name}");
    }
}

#[test]
fn a_saved_history_is_the_same_when_it_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let history = sample();
    history.save(&path).unwrap();
    assert_eq!(History::load(&path).unwrap(), history);
}

#[test]
fn a_lease_that_ends_is_asked_for_by_nobody_and_a_part_of_it_is() {
    let leased = |key: &str, value: &str| Request::Put { key: key.into(), value: value.into(), lease: 7, prev: false };
    let mut store = Honest::new();
    store.watch(Watched::everything());
    store.ask(&leased("a", "1"));
    store.ask(&leased("b", "2"));
    store.happen(&Request::Delete { keys: Keys::All, prev: false });
    check(&store.history()).unwrap();

    let mut store = Honest::new();
    store.watch(Watched::everything());
    store.ask(&leased("a", "1"));
    store.ask(&leased("b", "2"));
    store.happen(&Request::Delete { keys: Keys::One("a".into()), prev: false });
    assert_eq!(check(&store.history()).unwrap_err()[0].rule, Rule::Asked);
}

/// A clock that stands still does not make calls overlap that did not.
#[test]
fn moments_are_ordered_though_the_clock_is_not() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let recorder = Recorder::new(|| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        0
    });
    let call = recorder.call(1, "a", Request::read(Keys::All));
    recorder.returned(call, Outcome::Failed("no".into()));
    recorder.call(1, "a", Request::read(Keys::All));
    let operations = recorder.history().operations;
    assert!(operations[0].returned.unwrap() < operations[1].called);
    assert_eq!(CALLS.load(Ordering::Relaxed), 3);
}
