//! Watchers against the log itself, with lag, compaction, sweeps, and watchers that come and go.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use types::{KeyRange, Revision};

use super::*;
use crate::{
    Change, Command, KeyValue, Limits, QueueLimits,
    tests::{
        Rig,
        model::{Happened, Model},
        strategy,
    },
};

/// What happens beside the watching.
#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Command>),
    /// Another member applies more, and this one takes over its state.
    Adopt(Vec<Command>),
    Sweep,
    SweepThere,
    Watch {
        id: i64,
        keys: KeyRange,
        start: Option<i64>,
        filter: Filter,
        prev_kv: bool,
    },
    Cancel {
        id: i64,
    },
    /// The stream is read this often, and not at all in between.
    Read {
        deliveries: usize,
    },
    Progress,
}

fn step() -> impl Strategy<Value = Step> {
    let filter = prop_oneof![
        4 => Just(Filter::default()),
        1 => Just(Filter { no_put: true, no_delete: false }),
        1 => Just(Filter { no_put: false, no_delete: true }),
    ];
    prop_oneof![
        8 => vec(strategy::command(), 1..8).prop_map(Step::Batch),
        1 => vec(strategy::command(), 0..12).prop_map(Step::Adopt),
        1 => Just(Step::Sweep),
        1 => Just(Step::SweepThere),
        4 => (0..6_i64, strategy::keys(), prop::option::of(1..40_i64), filter, any::<bool>())
            .prop_map(|(id, keys, start, filter, prev_kv)| Step::Watch { id, keys, start, filter, prev_kv }),
        1 => (0..6_i64).prop_map(|id| Step::Cancel { id }),
        4 => (1..12_usize).prop_map(|deliveries| Step::Read { deliveries }),
        1 => Just(Step::Progress),
    ]
}

/// A watcher, and what it is owed.
struct Expected {
    request: WatchRequest,
    next: i64,
}

struct Watching {
    rig: Rig,
    /// Another member, of the same log.
    other: Rig,
    model: Model,
    stream: WatchStream,
    watchers: BTreeMap<i64, Expected>,
    progress: Option<Revision>,
}

impl Watching {
    fn new() -> Self {
        let tiny = QueueLimits { revisions: 2, bytes: 1 << 20 };
        let limits =
            Limits { watch_queue: tiny, watch_feed: QueueLimits { revisions: 6, ..tiny }, ..Limits::default() };
        let other = Rig::with_limits(limits.clone());
        let rig = Rig::with_limits(limits);
        let stream = rig.view().watches().stream();
        Self { rig, other, model: Model::default(), stream, watchers: BTreeMap::new(), progress: None }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Batch(commands) => {
                for command in &commands {
                    let _answer = self.model.apply(command);
                }
                self.other.apply(commands.clone());
                self.rig.apply(commands);
            }
            Step::Adopt(commands) => {
                for command in &commands {
                    let _answer = self.model.apply(command);
                }
                self.other.apply_alone(commands);
                self.rig.adopt(&self.other);
                self.rig.settle();
                self.other.settle();
            }
            Step::Sweep => {
                self.rig.sweep();
            }
            Step::SweepThere => {
                self.other.sweep();
            }
            Step::Watch { id, keys, start, filter, prev_kv } => self.watch(id, keys, start, filter, prev_kv),
            Step::Cancel { id } => assert_eq!(self.stream.cancel(WatchId(id)), self.watchers.remove(&id).is_some()),
            Step::Read { deliveries } => self.read(deliveries).await,
            Step::Progress => {
                self.stream.request_progress();
                self.progress = Some(self.model.revision());
            }
        }
    }

    fn watch(&mut self, id: i64, keys: KeyRange, start: Option<i64>, filter: Filter, prev_kv: bool) {
        let at = start.map_or(WatchStart::Next, |start| WatchStart::At(Revision::new(start).expect("positive")));
        let request = WatchRequest { id: WatchId(id), keys, start: at, filter, prev_kv };
        let taken = self.stream.watch(request.clone());
        assert_eq!(taken.is_err(), self.watchers.contains_key(&id));
        if taken.is_ok() {
            let next = start.unwrap_or(self.model.revision().get() + 1);
            self.watchers.insert(id, Expected { request, next });
        }
    }

    /// Reads some deliveries, if that many are owed.
    async fn read(&mut self, deliveries: usize) {
        for _ in 0..deliveries {
            if self.watchers.values().all(|watcher| self.owed(watcher).is_none()) {
                return;
            }
            self.read_one().await;
        }
    }

    async fn read_one(&mut self) {
        match next(&mut self.stream).await {
            Delivery::Events(events) => self.check_events(&events),
            Delivery::Compacted { watcher, oldest } => {
                let ended = self.watchers.remove(&watcher.0).expect("a watcher that is there");
                assert!(ended.next < oldest.get() && oldest.get() <= self.model.compacted, "ended without a reason");
            }
            Delivery::Progress { revision } => {
                assert!(revision >= self.progress.take().expect("asked for"));
                let owes = |watcher: &Expected| self.owed(watcher).is_some_and(|(owed, _)| owed <= revision.get());
                assert!(!self.watchers.values().any(owes), "progress overtook its events");
            }
        }
    }

    fn check_events(&mut self, events: &Events) {
        let id = events.watcher().0;
        let told: Vec<_> = events.iter().collect();
        for told in told.chunk_by(|(one, _), (next, _)| one.revision() == next.revision()) {
            let (revision, owed) = self.owed(&self.watchers[&id]).expect("nothing is delivered that is not owed");
            assert_eq!(told[0].0.revision().get(), revision, "watcher {id} has a gap or a duplicate");
            assert_eq!(told.iter().map(|(change, _)| happened(change)).collect::<Vec<_>>(), owed);
            for (change, previous) in told {
                self.check_previous(&self.watchers[&id], revision, change.key(), *previous);
            }
            self.watchers.get_mut(&id).expect("it is there").next = revision + 1;
        }
        assert_eq!(events.revision().get(), self.watchers[&id].next - 1);
    }

    /// The version before is told if it was asked for; it may be missing only if it is compacted.
    fn check_previous(&self, watcher: &Expected, revision: i64, key: &bytes::Bytes, told: Option<&KeyValue>) {
        let before = usize::try_from(revision - 2).expect("the first revision has no events");
        let expected = self.model.states[before].get(key).filter(|_| watcher.request.prev_kv);
        let compacted = revision - 1 < self.model.compacted;
        assert!(told == expected || (told.is_none() && compacted), "{told:?} instead of {expected:?}");
    }

    /// The next revision that a watcher must be told of, and what in it.
    fn owed(&self, watcher: &Expected) -> Option<(i64, Vec<Happened>)> {
        (watcher.next..=self.model.revision().get()).find_map(|revision| {
            let events = &self.model.events[usize::try_from(revision - 1).expect("positive")];
            let wanted = |(key, kv): &&Happened| {
                let Filter { no_put, no_delete } = watcher.request.filter;
                watcher.request.keys.contains(key) && !if kv.is_some() { no_put } else { no_delete }
            };
            let owed: Vec<_> = events.iter().filter(wanted).cloned().collect();
            (!owed.is_empty()).then_some((revision, owed))
        })
    }
}

fn happened(change: &Change) -> Happened {
    match change {
        Change::Put(kv) => (kv.key.clone(), Some(kv.clone())),
        Change::Delete { key, .. } => (key.clone(), None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_watcher_sees_every_event_once_in_order(steps in vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut watching = Watching::new();
            for step in steps {
                watching.step(step).await;
            }
            watching.read(usize::MAX).await;
        });
    }
}

/// A writer that does not wait, a sweeper, and readers of different speed, each on a thread of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_any_speed_see_the_log() {
    const REVISIONS: i64 = 6000;
    let queue = QueueLimits { revisions: 16, bytes: 1 << 20 };
    let mut rig = Rig::with_limits(Limits { watch_queue: queue, watch_feed: queue, ..Limits::default() });
    let readers: Vec<_> = (0..4_u64)
        .map(|pause_every| {
            let mut stream = Reader::new(&rig);
            stream.watch(request(0, KeyRange::prefix("k"), WatchStart::Next)).expect("a free id");
            tokio::spawn(async move {
                for expected in 2..=REVISIONS {
                    assert_eq!(events(&mut stream, 0).await.0, expected);
                    if pause_every > 0 && expected % 500 == 0 {
                        tokio::time::sleep(Duration::from_millis(pause_every)).await;
                    }
                }
            })
        })
        .collect();
    let writer = tokio::task::spawn_blocking(move || {
        for first in (2..=REVISIONS).step_by(7) {
            let last = (first + 6).min(REVISIONS);
            rig.apply((first..=last).map(|value| crate::tests::put(&format!("k{}", value % 10), "v")).collect());
        }
        rig
    });
    for reader in readers {
        reader.await.expect("it saw the log");
    }
    drop(writer.await.expect("it wrote"));
}
