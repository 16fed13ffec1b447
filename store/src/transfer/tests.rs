//! A store that was moved, against the one that it came from.

use bytes::Bytes;
use engine::Engine;
use proptest::{collection::vec, prelude::*};
use types::{KeyRange, LeaseId, Revision};

use super::*;
use crate::{
    KeyValue, Limits, Range, Refusal, Store, View,
    tests::{
        Rig,
        strategy::{command, range},
    },
};

fn revision(value: i64) -> Revision {
    Revision::new(value).expect("positive")
}

fn moved(from: &Engine) -> (Engine, Loaded) {
    let (pinned, to) = (from.pin(), Engine::in_memory(Store::SPACES));
    let export = Export::new(&pinned).expect("readable");
    let mut load = Load::new(&to).expect("empty");
    for lease in export.leases().expect("readable") {
        load.lease(&lease).expect("the engine works");
    }
    for alarm in export.alarms().expect("readable") {
        load.alarm(alarm).expect("the engine works");
    }
    for step in export.steps().expect("readable") {
        load.step(&step.expect("readable")).expect("in order");
    }
    let loaded = load.finish(export.compacted(), export.swept()).expect("the engine works");
    assert_eq!(loaded.revision, export.revision());
    (to, loaded)
}

fn open(engine: &Engine) -> (Store, View) {
    Store::open(engine.clone(), Limits::default()).expect("the engine works")
}

/// What every read says, at every revision.
fn reads(view: &View, ranges: &[Range]) -> Vec<String> {
    let mut answers = vec![format!("{:?} {:?} {:?}", view.revision(), view.compacted(), view.leases())];
    answers.extend(view.leases().iter().map(|lease| format!("{:?}", view.lease_keys(lease.id).expect("it exists"))));
    let oldest = view.compacted().unwrap_or(Revision::FIRST);
    for at in oldest.get()..=view.revision().get() {
        for range in ranges {
            let range = Range { revision: Some(revision(at)), ..range.clone() };
            answers.push(format!("{:?}", view.range(&range).expect("readable")));
        }
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn it_answers_every_read_alike(
        commands in vec(command(), 1..60), sweeps in vec(any::<bool>(), 60), ranges in vec(range(), 4), later in vec(command(), 1..8),
    ) {
        let mut rig = Rig::with_limits(Limits { sweep_rows: 3, ..Limits::default() });
        for (command, sweep) in commands.into_iter().zip(sweeps) {
            rig.run(command).ok();
            if sweep {
                rig.sweep();
            }
        }
        let ranges: Vec<_> = ranges.into_iter().chain([Range::new(KeyRange::AtLeast(Bytes::new()))]).collect();
        let (engine, _) = moved(&rig.engine());
        prop_assert_eq!(reads(&open(&engine).1, &ranges), reads(&rig.view(), &ranges));
        let mut moved = Rig::on(engine);
        for command in later {
            prop_assert_eq!(moved.run(command.clone()), rig.run(command));
        }
        moved.sweep_all();
        rig.sweep_all();
        prop_assert_eq!(reads(&moved.view(), &ranges), reads(&rig.view(), &ranges));
    }

    #[test]
    fn without_a_sweep_it_is_the_same_row_for_row(commands in vec(command(), 1..60)) {
        let mut rig = Rig::in_memory();
        for command in commands {
            rig.run(command).ok();
        }
        let mut moved = Rig::on(moved(&rig.engine()).0);
        for &space in Store::SPACES {
            prop_assert_eq!(moved.rows(space), rig.rows(space), "{}", space.name());
        }
    }
}

fn put(key: &'static str, at: i64, place: u32, version: i64, lease: Option<i64>) -> Step {
    let change = Change::Put(KeyValue {
        key: key.into(),
        value: "v".into(),
        create_revision: revision(at - version + 1),
        mod_revision: revision(at),
        version,
        lease: lease.and_then(LeaseId::new),
    });
    Step { place, change }
}

fn delete(key: &'static str, at: i64, place: u32) -> Step {
    Step { place, change: Change::Delete { key: key.into(), revision: revision(at) } }
}

fn loaded(steps: &[Step], compacted: Option<i64>) -> Result<(Engine, Loaded), LoadError> {
    let engine = Engine::in_memory(Store::SPACES);
    let mut load = Load::new(&engine)?;
    let ttl = std::time::Duration::from_secs(9);
    load.lease(&crate::Lease { id: LeaseId::new(1).expect("not 0"), ttl, remaining: None })?;
    steps.iter().try_for_each(|step| load.step(step))?;
    let loaded = load.finish(compacted, None)?;
    Ok((engine, loaded))
}

#[test]
fn a_key_that_a_revision_writes_twice_is_what_it_wrote_last() {
    let put_then_deleted = [put("a", 2, 0, 1, Some(1)), put("a", 3, 0, 2, None), delete("a", 3, 1)];
    let deleted_then_put = [put("a", 2, 0, 1, Some(1)), delete("a", 3, 0), put("a", 3, 1, 1, Some(1))];
    for (steps, alive, attached) in [(put_then_deleted, 0, 0), (deleted_then_put, 1, 1)] {
        let (engine, loaded) = loaded(&steps, None).expect("loads");
        assert_eq!((loaded.steps, loaded.left_out), (2, 1));
        let (_, view) = open(&engine);
        assert_eq!(view.range(&Range::new(KeyRange::One("a".into()))).expect("readable").count, alive);
        assert_eq!(view.lease_keys(LeaseId::new(1).expect("not 0")).expect("it exists").len(), attached);
        assert_eq!(moved(&engine).1.steps, 2);
    }
}

#[test]
fn a_compaction_above_the_last_write_is_the_revision() {
    let (engine, loaded) = loaded(&[put("a", 2, 0, 1, None)], Some(1_000_000)).expect("loads");
    assert_eq!(loaded.revision, revision(1_000_000));
    let mut rig = Rig::on(engine);
    rig.sweep_all();
    assert_eq!(rig.show(KeyRange::AtLeast(Bytes::new())).len(), 1);
    let old = Range { revision: Some(revision(2)), ..Range::new(KeyRange::One("a".into())) };
    assert!(matches!(rig.view().range(&old), Err(crate::Failure::Refused(Refusal::Compacted { .. }))));
    rig.reopen();
    assert_eq!(rig.view().revision(), revision(1_000_000));
    assert_eq!(moved(&rig.engine()).1.revision, revision(1_000_000));
}

#[test]
fn a_key_of_a_lease_that_is_gone_hangs_on_none() {
    let (engine, _) = loaded(&[put("a", 2, 0, 1, Some(7)), put("a", 3, 0, 2, Some(1))], None).expect("loads");
    assert_eq!(open(&engine).1.lease_keys(LeaseId::new(1).expect("not 0")).expect("it exists"), ["a"]);
}

#[test]
fn what_no_store_has_written_is_refused() {
    let cases = [vec![put("a", 2, 0, 0, None)], vec![put("a", 3, 0, 1, None), put("b", 2, 0, 1, None)]];
    for steps in cases {
        assert!(matches!(loaded(&steps, None), Err(LoadError::Impossible { .. })), "{steps:?}");
    }
    let (engine, _) = loaded(&[], None).expect("loads");
    assert!(matches!(Load::new(&engine), Err(LoadError::NotEmpty)));
}
