//! Watches, by example.

use types::KeyRange;

use super::*;
use crate::{Limits, QueueLimits, tests::*};

fn at(value: i64) -> WatchStart {
    WatchStart::At(revision(value))
}

fn said(value: i64, changes: &[&str]) -> Told {
    (value, changes.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn a_watcher_starts_with_the_next_revision_or_the_one_it_names() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("a", "1"), put("b", "1"), put("a", "2")]);
    let mut stream = Reader::new(&rig);
    assert_eq!(stream.watch(request(0, one("a"), WatchStart::Next)), Ok(revision(4)));
    assert_eq!(stream.watch(request(1, one("a"), at(2))), Ok(revision(4)));
    assert_eq!(stream.watch(request(2, one("a"), at(6))), Ok(revision(4)));
    assert_eq!(stream.watch(request(1, one("b"), at(2))), Err(DuplicateWatch(WatchId(1))));
    assert_eq!(events(&mut stream, 1).await, said(2, &["put a=1"]));
    assert_eq!(events(&mut stream, 1).await, said(4, &["put a=2"]));
    rig.run(put("a", "3")).expect("a put");
    assert_eq!(events(&mut stream, 0).await, said(5, &["put a=3"]));
    assert_eq!(events(&mut stream, 1).await, said(5, &["put a=3"]));
    rig.run(delete(one("a"))).expect("a delete");
    for id in 0..3 {
        assert_eq!(events(&mut stream, id).await, said(6, &["delete a"]));
    }
}

#[tokio::test]
async fn a_revision_comes_whole_and_filtered() {
    let mut rig = Rig::in_memory();
    let mut stream = Reader::new(&rig);
    let no_put = Filter { no_put: true, no_delete: false };
    let no_delete = Filter { no_put: false, no_delete: true };
    let all = || request(0, KeyRange::all(), WatchStart::Next);
    stream.watch(all()).expect("a free id");
    stream.watch(WatchRequest { id: WatchId(1), filter: no_put, prev_kv: true, ..all() }).expect("a free id");
    stream.watch(WatchRequest { id: WatchId(2), filter: no_delete, ..all() }).expect("a free id");
    rig.apply(vec![put("a", "1"), put("b", "1")]);
    let ops = vec![
        crate::Op::DeleteRange(crate::DeleteRange { keys: KeyRange::prefix("a"), prev_kv: false }),
        crate::Op::Put(put_op("b", "2")),
        crate::Op::Put(put_op("c", "1")),
    ];
    rig.run(crate::Command::Txn(crate::Txn { success: ops, ..crate::Txn::default() })).expect("a transaction");
    for id in [0, 2] {
        assert_eq!(events(&mut stream, id).await, said(2, &["put a=1"]));
    }
    for id in [0, 2] {
        assert_eq!(events(&mut stream, id).await, said(3, &["put b=1"]));
    }
    assert_eq!(events(&mut stream, 0).await, said(4, &["delete a", "put b=2", "put c=1"]));
    assert_eq!(events(&mut stream, 1).await, said(4, &["delete a was a=1"]));
    assert_eq!(events(&mut stream, 2).await, said(4, &["put b=2", "put c=1"]));
}

#[tokio::test]
async fn the_previous_version_is_told_while_it_is_there() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("a", "1"), put("a", "2"), delete(one("a")), put("a", "3")]);
    let mut stream = Reader::new(&rig);
    stream.watch(WatchRequest { prev_kv: true, ..request(0, one("a"), at(2)) }).expect("a free id");
    for expected in
        [said(2, &["put a=1"]), said(3, &["put a=2 was a=1"]), said(4, &["delete a was a=2"]), said(5, &["put a=3"])]
    {
        assert_eq!(events(&mut stream, 0).await, expected);
    }
    rig.run(put("a", "4")).expect("a put");
    assert_eq!(events(&mut stream, 0).await, said(6, &["put a=4 was a=3"]));
}

#[tokio::test]
async fn a_compacted_start_ends_the_watcher_and_one_at_the_compaction_does_not() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("a", "1"), delete(one("a")), put("b", "1")]);
    rig.run(compact(3)).expect("a compaction");
    rig.sweep_all();
    let mut stream = Reader::new(&rig);
    stream.watch(request(7, KeyRange::all(), at(2))).expect("a free id");
    assert!(
        matches!(next(&mut stream).await, Delivery::Compacted { watcher: WatchId(7), oldest } if oldest == revision(3))
    );
    assert!(!stream.contains(WatchId(7)));
    stream.watch(request(7, KeyRange::all(), at(3))).expect("the id is free again");
    assert_eq!(events(&mut stream, 7).await, said(3, &["delete a"]));
    assert_eq!(events(&mut stream, 7).await, said(4, &["put b=1"]));
}

#[tokio::test]
async fn a_full_queue_is_made_up_for_from_history() {
    let watch_queue = QueueLimits { revisions: 3, ..Limits::default().watch_queue };
    let mut rig = Rig::with_limits(Limits { watch_queue, ..Limits::default() });
    let mut stream = Reader::new(&rig);
    stream.watch(request(0, KeyRange::prefix("a"), WatchStart::Next)).expect("a free id");
    stream.watch(request(1, one("b"), at(1200))).expect("a free id");
    for value in 2..=1500 {
        rig.run(put(if value % 2 == 0 { "a" } else { "b" }, &value.to_string())).expect("a put");
    }
    dispatched(&rig).await;
    assert_eq!(stream.progress(WatchId(0)), Some(revision(1)), "the first one queued is 2");
    for value in 2..=1500 {
        if value % 2 == 0 {
            assert_eq!(events(&mut stream, 0).await, said(value, &[&format!("put a={value}")]));
        } else if value >= 1200 {
            assert_eq!(events(&mut stream, 1).await, said(value, &[&format!("put b={value}")]));
        }
    }
    stream.request_progress();
    assert!(matches!(next(&mut stream).await, Delivery::Progress { revision: reached } if reached == revision(1500)));
    assert_eq!(stream.progress(WatchId(0)), Some(revision(1500)));
}

#[tokio::test]
async fn a_full_feed_is_made_up_for_from_history() {
    let watch_feed = QueueLimits { revisions: 2, ..Limits::default().watch_feed };
    let mut rig = Rig::with_limits(Limits { watch_feed, ..Limits::default() });
    let mut stream = Reader::new(&rig);
    stream.watch(request(0, KeyRange::all(), WatchStart::Next)).expect("a free id");
    rig.apply((2..=50).map(|value| put("a", &value.to_string())).collect());
    for value in 2..=50 {
        assert_eq!(events(&mut stream, 0).await, said(value, &[&format!("put a={value}")]));
    }
    rig.run(put("a", "51")).expect("a put");
    assert_eq!(events(&mut stream, 0).await, said(51, &["put a=51"]));
}

#[tokio::test]
async fn progress_comes_after_its_events_and_only_when_all_have_started() {
    let mut rig = Rig::in_memory();
    let mut stream = Reader::new(&rig);
    stream.watch(request(0, one("a"), WatchStart::Next)).expect("a free id");
    rig.apply(vec![put("a", "1"), put("b", "1")]);
    stream.request_progress();
    assert_eq!(events(&mut stream, 0).await, said(2, &["put a=1"]));
    assert!(matches!(next(&mut stream).await, Delivery::Progress { revision: reached } if reached == revision(3)));
    stream.watch(request(1, one("a"), at(5))).expect("a free id");
    stream.request_progress();
    rig.apply(vec![put("a", "2")]);
    assert_eq!(events(&mut stream, 0).await, said(4, &["put a=2"]));
    dispatched(&rig).await;
    assert_eq!((stream.progress(WatchId(0)), stream.progress(WatchId(1))), (Some(revision(4)), None));
    rig.apply(vec![put("b", "2")]);
    stream.request_progress();
    assert!(matches!(next(&mut stream).await, Delivery::Progress { revision: reached } if reached == revision(5)));
}

#[tokio::test]
async fn a_cancelled_watcher_is_told_nothing_more_and_a_closed_store_ends_the_stream() {
    let mut rig = Rig::in_memory();
    let mut stream = Reader::new(&rig);
    for id in 0..2 {
        stream.watch(request(id, one("a"), WatchStart::Next)).expect("a free id");
    }
    rig.apply(vec![put("a", "1"), put("a", "2")]);
    assert_eq!(events(&mut stream, 0).await, said(2, &["put a=1"]));
    assert!(stream.cancel(WatchId(1)));
    assert!(!stream.cancel(WatchId(1)));
    assert_eq!(events(&mut stream, 0).await, said(3, &["put a=2"]));
    drop(rig);
    assert!(soon(stream.next()).await.expect("the engine works").is_none());
}

#[tokio::test]
async fn ten_thousand_watchers_of_one_stream_are_told_of_one_queued_revision() {
    let watch_queue = QueueLimits { revisions: 1, ..Limits::default().watch_queue };
    let mut rig = Rig::with_limits(Limits { watch_queue, ..Limits::default() });
    let mut stream = Reader::new(&rig);
    for id in 0..10_000 {
        stream.watch(request(id, one("a"), WatchStart::Next)).expect("a free id");
    }
    rig.run(put("a", "1")).expect("a put");
    for id in 0..10_000 {
        assert_eq!(events(&mut stream, id).await, said(2, &["put a=1"]));
    }
    assert_eq!(Reader::new(&rig).progress(WatchId(0)), None);
}
