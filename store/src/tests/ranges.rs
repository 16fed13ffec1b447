//! Reads, by example.

use std::num::NonZeroU64;

use types::KeyRange;

use super::*;

fn fruit() -> Rig {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("apple", "3"), put("cherry", "1"), put("banana", "2"), put("apple", "4"), put("date", "0")]);
    rig
}

#[test]
fn count_ignores_limit_and_filters_and_more_says_that_the_limit_cut() {
    let rig = fruit();
    let all = || Range::new(KeyRange::all());
    let filtered = Range { mod_revisions: Bounds::from_wire(4, 5), ..all() };
    let limit = |range: Range, limit| Range { limit: NonZeroU64::new(limit), ..range };
    let cases = [
        (all(), vec!["apple=4", "banana=2", "cherry=1", "date=0"], false),
        (limit(all(), 2), vec!["apple=4", "banana=2"], true),
        (limit(all(), 4), vec!["apple=4", "banana=2", "cherry=1", "date=0"], false),
        (filtered.clone(), vec!["apple=4", "banana=2"], false),
        (limit(filtered, 1), vec!["apple=4"], true),
        (Range { show: Show::CountOnly, ..limit(all(), 1) }, vec![], false),
        (
            Range { order: Order { by: OrderBy::Value, descending: false }, ..limit(all(), 2) },
            vec!["date=0", "cherry=1"],
            true,
        ),
        (Range { revision: Some(revision(3)), ..all() }, vec!["apple=3", "cherry=1"], false),
    ];
    for (range, expected, more) in cases {
        let answer = rig.view().range(&range).expect("readable");
        assert_eq!(answer.kvs.iter().map(text).collect::<Vec<_>>(), expected, "{range:?}");
        let count = if range.revision.is_some() { 2 } else { 4 };
        assert_eq!((answer.more, answer.count, answer.revision), (more, count, revision(6)), "{range:?}");
    }
}

#[test]
fn many_old_versions_are_passed_over() {
    let mut rig = Rig::in_memory();
    for round in 0..100 {
        rig.apply(vec![put("a", &round.to_string()), put("b", &round.to_string())]);
    }
    let at = |value| Range { revision: Some(revision(value)), ..Range::new(KeyRange::all()) };
    for (asked, expected) in
        [(2, vec!["a=0"]), (3, vec!["a=0", "b=0"]), (100, vec!["a=49", "b=48"]), (201, vec!["a=99", "b=99"])]
    {
        let answer = rig.view().range(&at(asked)).expect("readable");
        assert_eq!(answer.kvs.iter().map(text).collect::<Vec<_>>(), expected, "{asked}");
    }
}

#[test]
fn only_readable_revisions_are_read() {
    let mut rig = fruit();
    rig.run(compact(4)).expect("not yet compacted");
    let read = |value| rig.view().range(&Range { revision: Some(revision(value)), ..Range::new(one("apple")) });
    assert!(matches!(read(3), Err(Failure::Refused(Refusal::Compacted { asked: 3, oldest: 4 }))));
    assert_eq!(read(4).expect("readable").kvs.len(), 1);
    assert!(matches!(read(7), Err(Failure::Refused(Refusal::FutureRevision { asked: 7, .. }))));
}

#[test]
fn a_view_sees_nothing_before_it_is_published() {
    let mut rig = Rig::in_memory();
    let view = rig.view();
    let Parts { engine, store, .. } = rig.parts();
    let mut batch = Batch::new();
    store.apply(&mut batch, put("a", "1")).expect("the engine works").expect("a put");
    store.apply(&mut batch, grant(1)).expect("the engine works").expect("a grant");
    let seen = |view: &View| {
        (view.revision().get(), view.leases().len(), view.range(&Range::new(one("a"))).expect("readable").count)
    };
    assert_eq!(seen(&view), (1, 0, 0));
    engine.write(batch, Durability::Buffered).expect("the engine works");
    assert_eq!(seen(&view), (1, 0, 0));
    store.publish();
    assert_eq!(seen(&view), (2, 1, 1));
}

#[test]
fn what_was_written_or_read_lately_is_read_at_once() {
    let mut rig = Rig::on_disk();
    rig.apply((0..10).map(|number| put(&format!("k{number}"), "value")).collect());
    let all = Range::new(KeyRange::AtLeast(bytes("k")));
    let at_once = |rig: &Rig, keys_max| {
        let answer = rig.view().range_at_once(&all, keys_max).expect("the engine works");
        answer.map(|answer| answer.kvs.iter().map(text).collect::<Vec<_>>())
    };
    assert_eq!(at_once(&rig, 10), Some(rig.show(KeyRange::AtLeast(bytes("k")))));
    assert_eq!(at_once(&rig, 9), None, "too many");

    rig.reopen();
    assert_eq!(at_once(&rig, 10), None, "only the disk has them");
    let read = rig.show(KeyRange::AtLeast(bytes("k")));
    assert_eq!(at_once(&rig, 10), Some(read));
}
