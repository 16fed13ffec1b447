//! Watches: every event once, in order, in whole revisions, whatever connections do.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod fake;

use fake::{Fake, Node, WatchFault, until};
use meshstore_client::{Client, ClientError, Config, Event, EventFilter, Watch, WatchBatch, WatchOptions};
use proptest::prelude::*;
use std::{sync::atomic::Ordering, time::Duration};
use tokio::time::timeout;
use tokio_stream::StreamExt;
use types::{KeyRange, Revision};

async fn watch_from(client: &Client, start: Option<i64>) -> Watch {
    let options = WatchOptions { start: start.and_then(Revision::new), ..WatchOptions::default() };
    client.watch(KeyRange::all(), options).await.unwrap()
}

async fn next(watch: &mut Watch) -> Option<Result<WatchBatch, ClientError>> {
    timeout(Duration::from_secs(10), watch.next()).await.expect("a batch in time")
}

/// Reads until `last` has come, checking that revisions are whole and in order: `(revision, keys)` of each.
async fn read_until(watch: &mut Watch, last: i64) -> Vec<(i64, Vec<String>)> {
    let mut seen: Vec<(i64, Vec<String>)> = Vec::new();
    while seen.last().is_none_or(|(revision, _)| *revision < last) {
        let batch = next(watch).await.unwrap().unwrap();
        assert_eq!(batch.events.last().map(Event::revision), Some(batch.revision));
        let before = seen.last().map_or(0, |(revision, _)| *revision);
        for event in batch.events {
            let (revision, key) = (event.revision().get(), String::from_utf8(event.key().to_vec()).unwrap());
            assert!(revision > before, "revision {revision} was spread over two batches, or came again");
            match seen.last_mut() {
                Some((last, keys)) if *last == revision => keys.push(key),
                _ => seen.push((revision, vec![key])),
            }
        }
    }
    seen
}

#[tokio::test]
async fn a_watch_from_now_sees_what_comes_after_it() {
    let fake = Fake::new();
    fake.write(&["before"]);
    let mut watch = watch_from(&Client::in_process(fake.routes()), None).await;
    assert_eq!(watch.since().get(), 3);
    fake.write(&["a"]);
    fake.write(&["b"]);
    assert_eq!(read_until(&mut watch, 4).await, [(3, vec!["a".into()]), (4, vec!["b".into()])]);
}

#[tokio::test]
async fn a_watch_from_now_that_breaks_before_any_event_still_misses_none() {
    let fake = Fake::new();
    fake.state().watch_faults.extend([WatchFault::CutAfter(0), WatchFault::Refuse]);
    let mut watch = watch_from(&Client::in_process(fake.routes()), None).await;
    fake.write(&["a"]);
    assert_eq!(read_until(&mut watch, 2).await, [(2, vec!["a".into()])]);
}

#[tokio::test]
async fn a_watch_goes_on_at_another_endpoint() {
    let fake = Fake::new();
    let (mut first, second) = (Node::start(&fake), Node::start(&fake));
    let client = Client::connect(&Config::new([first.endpoint(), second.endpoint()])).unwrap();
    let mut watch = watch_from(&client, Some(2)).await;
    fake.write(&["a"]);
    assert_eq!(read_until(&mut watch, 2).await.len(), 1);
    first.kill();
    fake.write(&["b", "c"]);
    fake.write(&["d"]);
    let expected = [(3, vec!["b".to_owned(), "c".to_owned()]), (4, vec!["d".to_owned()])];
    assert_eq!(read_until(&mut watch, 4).await, expected);
}

#[tokio::test]
async fn a_watch_waits_out_a_server_that_restarts() {
    let fake = Fake::new();
    let mut node = Node::start(&fake);
    let client = Client::connect(&Config::new([node.endpoint()])).unwrap();
    let mut watch = watch_from(&client, Some(2)).await;
    fake.write(&["a"]);
    read_until(&mut watch, 2).await;
    let address = node.address;
    node.kill();
    fake.write(&["b"]);
    let reader = tokio::spawn(async move { read_until(&mut watch, 3).await });
    until("the port is free again", || std::net::TcpListener::bind(address).is_ok()).await;
    let _again = Node::start_at(&fake, address);
    assert_eq!(reader.await.unwrap(), [(3, vec!["b".into()])]);
}

#[tokio::test]
async fn compacted_history_ends_a_watch_and_says_where_to_go_on() {
    let fake = Fake::new();
    for key in ["a", "b", "c"] {
        fake.write(&[key]);
    }
    fake.compact(4);
    let mut watch = watch_from(&Client::in_process(fake.routes()), Some(2)).await;
    let error = next(&mut watch).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Compacted { oldest: Some(oldest), .. } if oldest.get() == 4), "{error:?}");
    assert!(next(&mut watch).await.is_none());
}

#[tokio::test]
async fn a_progress_report_is_a_place_to_resume_from() {
    let fake = Fake::new();
    fake.state().progress = true;
    // The second connection is cut before the second event; by then all before it is compacted.
    fake.state().watch_faults.push_back(WatchFault::CutAfter(1));
    let client = Client::in_process(fake.routes());
    let options = WatchOptions { start: Revision::new(2), progress: true, ..WatchOptions::default() };
    for _ in 0..5 {
        fake.write(&["other"]);
    }
    let mut watch = client.watch(KeyRange::One("mine".into()), options).await.unwrap();
    let report = next(&mut watch).await.unwrap().unwrap();
    assert_eq!((report.revision.get(), report.events.len()), (6, 0));
    fake.compact(7);
    fake.write(&["mine"]);
    let batch = next(&mut watch).await.unwrap().unwrap();
    assert_eq!((batch.revision.get(), batch.events.len()), (7, 1));
}

#[tokio::test]
async fn what_every_endpoint_would_refuse_ends_a_watch() {
    type Is = fn(&ClientError) -> bool;
    let cases: [(&str, Is); 3] = [
        ("etcdserver: permission denied", |error| matches!(error, ClientError::Denied { .. })),
        ("mvcc: watcher range is empty", |error| matches!(error, ClientError::Refused { .. })),
        ("etcdserver: mvcc: required revision has been compacted", |error| {
            matches!(error, ClientError::Compacted { oldest: None, .. })
        }),
    ];
    for (reason, expected) in cases {
        let fake = Fake::new();
        fake.state().watch_faults.push_back(WatchFault::Cancel(reason.into()));
        let mut watch = watch_from(&Client::in_process(fake.routes()), None).await;
        let error = next(&mut watch).await.unwrap().unwrap_err();
        assert!(expected(&error) && error.to_string() == reason, "{error:?}");
        assert!(next(&mut watch).await.is_none());
    }
}

#[tokio::test]
async fn a_dropped_watch_is_canceled_on_the_server() {
    let fake = Fake::new();
    let node = Node::start(&fake);
    let clients = [Client::in_process(fake.routes()), Client::connect(&Config::new([node.endpoint()])).unwrap()];
    for client in clients {
        let watch = watch_from(&client, None).await;
        until("the watch lives", || fake.live_watches.load(Ordering::SeqCst) == 1).await;
        drop(watch);
        until("the watch is gone", || fake.live_watches.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn a_watch_that_nobody_reads_does_not_hold_back_calls() {
    let fake = Fake::new();
    let node = Node::start(&fake);
    let client = Client::connect(&Config::new([node.endpoint()])).unwrap();
    let mut watches = Vec::new();
    for _ in 0..40 {
        watches.push(watch_from(&client, Some(2)).await);
    }
    let key = "k".repeat(1 << 20);
    for _ in 0..4 {
        fake.write(&[&key]);
    }
    let put = client.put(meshstore_client::Put::new("a", "1"));
    timeout(Duration::from_secs(10), put).await.expect("the put is not held back").unwrap();
    assert_eq!(read_until(&mut watches[0], 6).await.len(), 5);
}

#[tokio::test]
async fn nobody_to_watch_at_is_said_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = Config { request_timeout: Duration::from_millis(200), ..Config::new([endpoint]) };
    let client = Client::connect(&config).unwrap();
    let options = WatchOptions { without: Some(EventFilter::Deletes), ..WatchOptions::default() };
    let error = client.watch(KeyRange::all(), options).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error:?}");
}

fn any_fault() -> impl Strategy<Value = WatchFault> {
    prop_oneof![4 => (0_usize..6).prop_map(WatchFault::CutAfter), 1 => Just(WatchFault::Refuse)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_event_comes_once_whatever_breaks(
        writes in prop::collection::vec(1_usize..6, 1..12),
        early in 0_usize..12,
        faults in prop::collection::vec(any_fault(), 0..4),
        fragment_events in 0_usize..4,
        progress in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(async {
            let fake = Fake::new();
            {
                let mut state = fake.state();
                (state.fragment_events, state.progress) = (fragment_events, progress);
                state.watch_faults.extend(faults);
            }
            let keys = ["a", "b", "c", "d", "e", "f"];
            let early = early.min(writes.len());
            for &count in &writes[..early] {
                fake.write(&keys[..count]);
            }
            let mut watch = watch_from(&Client::in_process(fake.routes()), Some(2)).await;
            let (writer, rest) = (fake.clone(), writes[early..].to_vec());
            let late = tokio::spawn(async move {
                for count in rest {
                    writer.write(&keys[..count]);
                    tokio::task::yield_now().await;
                }
            });
            let seen = read_until(&mut watch, i64::try_from(writes.len()).unwrap() + 1).await;
            late.await.unwrap();
            seen
        });
        let counts: Vec<_> = seen.iter().map(|(_, keys)| keys.len()).collect();
        prop_assert_eq!(counts, writes);
    }
}
