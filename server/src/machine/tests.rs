//! One member's state takes the place of another's, on real disks.

use std::time::Duration;

use ca::LedgerView;
use raft::Machine;
use store::{LeaseGrant, Limits, Put, PutLease, PutValue, Range, Renewal, View, WatchId, WatchRequest, WatchStart};
use tempfile::TempDir;
use types::{KeyRange, LeaseId, TrustDomain};

use super::*;
use crate::{
    auth::{Found, new_word},
    member::open_state,
};

/// A machine with what stands around it.
struct Rig {
    dir: TempDir,
    machine: StateMachine,
    view: View,
    ledger: LedgerView,
    lessor: Arc<Mutex<Lessor>>,
    tokens: Arc<SimpleTokens>,
    index: u64,
}

impl Rig {
    fn new() -> Self {
        Self::on(tempfile::tempdir().expect("a temporary folder"))
    }

    fn on(dir: TempDir) -> Self {
        let home = open_state(dir.path().join("state")).expect("it opens");
        let (store, view) = Store::open(home.engine(), Limits::default()).expect("it opens");
        let (ledger, ledger_view) = Ledger::open(home.engine()).expect("it opens");
        let clock = Clock::start();
        let (lessor, tokens) = (
            Arc::new(Mutex::new(Lessor::new(Limits::default().lease_checkpoint_interval))),
            Arc::new(SimpleTokens::new(Duration::from_mins(5), clock)),
        );
        let shared = (Arc::clone(&lessor), Arc::clone(&tokens));
        let machine = StateMachine::new(home, (store, ledger), shared, clock, Arc::default());
        Self { dir, machine, view, ledger: ledger_view, lessor, tokens, index: 0 }
    }

    fn reopen(self) -> Self {
        let Self { dir, machine, view, ledger, .. } = self;
        drop((machine, view, ledger));
        Self::on(dir)
    }

    fn apply(&mut self, commands: Vec<Bytes>) {
        self.index += 1;
        let entry = Committed { index: self.index, term: 1, commands };
        self.machine.apply(vec![entry], record(self.index)).expect("applied");
    }

    fn put(&mut self, key: &str, value: &str) {
        let (key, value) = (key.to_owned().into(), PutValue::Set(value.to_owned().into()));
        self.store(Command::Put(Put { key, value, lease: PutLease::Set(None), prev_kv: false }));
    }

    fn store(&mut self, command: Command) {
        self.apply(vec![store_command(&Entry::from(command).encode())]);
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        let range = Range::new(KeyRange::One(key.to_owned().into()));
        self.view.range(&range).expect("readable").kvs.first().map(|kv| kv.value.clone())
    }

    /// Takes over another machine's state, in pieces.
    fn take_over(&mut self, image: &dyn Image) {
        let mut collector = self.machine.collect(image.id()).expect("an id");
        for (number, part) in image.parts().iter().enumerate() {
            while collector.held(part) < part.bytes {
                let held = collector.held(part);
                let piece = image.read(number, held, 4096).expect("readable");
                collector.write(part, held, piece).expect("writable");
            }
        }
        collector.finish(image.parts()).expect("it is whole");
        self.machine.install(collector).expect("it takes over");
    }
}

fn record(index: u64) -> Bytes {
    format!("record {index}").into()
}

#[tokio::test]
async fn a_member_takes_over_anothers_state_while_it_is_read_and_watched() {
    let (mut from, mut to) = (Rig::new(), Rig::new());
    from.put("a", "1");
    to.put("a", "1");
    let mut watch = to.view.watches().stream();
    let keys = KeyRange::all();
    let request =
        WatchRequest { id: WatchId(1), keys, start: WatchStart::Next, filter: store::Filter::default(), prev_kv: true };
    watch.watch(request).expect("a free id");

    from.put("a", "2");
    from.put("b", "1");
    let custody = tempfile::tempdir().expect("a temporary folder");
    let custody = ca::Custody::new(custody.path().join("ca"), custody.path().join("kek"));
    let genesis = custody.found(&TrustDomain::parse("cluster.local").expect("a name"), ca::Time::now());
    let genesis = LedgerCommand::Genesis(genesis.expect("founded"));
    from.apply(vec![ledger_command(&genesis.encode())]);
    let image = from.machine.image().expect("made");
    from.put("a", "later");

    let founded = to.machine.founded();
    to.take_over(&*image);
    assert_eq!(to.machine.record().expect("readable"), Some(record(4)));
    assert_eq!((to.get("a"), to.get("b")), (Some("2".into()), Some("1".into())));
    assert_eq!(to.ledger.tree_head().expect("readable"), from.ledger.tree_head().expect("readable"));
    assert!(to.ledger.genesis().expect("readable").is_some() && founded.load(Ordering::Relaxed));
    to.index = 4;
    to.put("c", "1");
    let mut told = Vec::new();
    while told.len() < 3 {
        match watch.next().await.expect("history is readable") {
            Some(store::Delivery::Events(events)) => told.extend(events.iter().map(|(change, _)| change.clone())),
            other => panic!("{other:?}"),
        }
    }
    let told = told.iter().map(|change| match change {
        store::Change::Put(kv) => (kv.mod_revision.get(), &kv.key[..]),
        store::Change::Delete { .. } => panic!("nothing was deleted"),
    });
    assert!(told.eq([(3, &b"a"[..]), (4, b"b"), (5, b"c")]));
    drop((watch, image));
    let to = to.reopen();
    assert_eq!(to.machine.record().expect("readable"), Some(record(5)));
    assert_eq!((to.get("a"), to.get("c")), (Some("2".into()), Some("1".into())));
}

#[test]
fn leases_are_not_timed_and_tokens_not_known_by_what_was_passed_over() {
    let (mut from, mut to) = (Rig::new(), Rig::new());
    let id = LeaseId::new(7).expect("not 0");
    let ttl = Duration::from_mins(1);
    to.lessor.lock().promote(Duration::ZERO, [store::Lease { id, ttl, remaining: None }], Duration::ZERO);
    let (word, digest) = new_word();
    to.tokens.tell(News::Given { digest, index: 3, user: "u".into() });
    from.store(Command::LeaseGrant(LeaseGrant { id, ttl }));
    let image = from.machine.image().expect("made");
    to.take_over(&*image);
    assert_eq!(to.lessor.lock().renew(id, Duration::ZERO), Renewal::NotLeading);
    assert_eq!(to.tokens.find(&format!("{word}.3")), Found::Unknown { index: 3 });
    assert_eq!(to.view.lease(id).expect("it is in the state").ttl, ttl);
}

#[test]
fn what_another_machine_collected_is_refused() {
    struct Other;
    impl Collector for Other {
        fn held(&self, _part: &raft::Part) -> u64 {
            0
        }
        fn write(&mut self, _part: &raft::Part, _offset: u64, _data: Bytes) -> Result<(), MachineError> {
            Ok(())
        }
        fn finish(&mut self, _parts: &[raft::Part]) -> Result<(), MachineError> {
            Ok(())
        }
    }
    let mut rig = Rig::new();
    rig.put("a", "1");
    assert!(rig.machine.install(Box::new(Other)).is_err());
    assert_eq!(rig.get("a"), Some("1".into()));
}
