//! One member's state takes the place of another's, on real disks.

use std::time::Duration;

use ca::{LedgerCommand, LedgerView};
use raft::Machine;
use store::{
    Actor, Command, LeaseGrant, Limits, Put, PutLease, PutValue, Range, Renewal, View, WatchId, WatchRequest,
    WatchStart,
};
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
        let machine = StateMachine::new(
            home,
            (store, ledger),
            shared,
            Release::THIS,
            (clock, Arc::new(Metrics::new(Arc::default()))),
        );
        let machine = machine.expect("it opens");
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
        self.store(&put(key, value));
    }

    fn store(&mut self, command: &Command) {
        self.apply(vec![Proposal::store(command, &Actor::Nobody).into_bytes()]);
    }

    /// Users changed, or logged in, all of it by one entry.
    fn store_trusted(&mut self, commands: Vec<AuthCommand>) {
        let proposal = |command| Proposal::store(&Command::Auth(command), &Actor::Trusted).into_bytes();
        self.apply(commands.into_iter().map(proposal).collect());
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

fn put(key: &str, value: &str) -> Command {
    let (key, value) = (key.to_owned().into(), PutValue::Set(value.to_owned().into()));
    Command::Put(Put { key, value, lease: PutLease::Set(None), prev_kv: false })
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
    from.apply(vec![Proposal::ledger(&genesis).into_bytes()]);
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
    from.store(&Command::LeaseGrant(LeaseGrant { id, ttl }));
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

#[test]
fn the_version_is_kept_never_falls_and_comes_along_in_images() {
    let version = |version| Proposal::cluster(ClusterCommand::Version(version)).into_bytes();
    let mut rig = Rig::new();
    assert_eq!(rig.machine.version(), None);
    rig.apply(vec![version(Release::THIS), Proposal::cluster(ClusterCommand::Probe).into_bytes()]);
    assert_eq!(rig.machine.version(), Some(Release::THIS));
    rig.apply(vec![version(Release::FIRST)]);
    let mut rig = rig.reopen();
    assert_eq!(rig.machine.version(), Some(Release::THIS));

    let image = rig.machine.image().expect("made");
    let mut other = Rig::new();
    other.take_over(&*image);
    assert_eq!(other.machine.version(), Some(Release::THIS));
}

#[test]
fn a_member_that_is_too_old_for_a_command_stops_before_it() {
    let mut rig = Rig::new();
    rig.machine.release = Release::FIRST;
    rig.put("a", "1");
    let put = Proposal::store(&put("a", "2"), &Actor::Nobody).into_bytes();
    let commands = vec![put, Proposal::cluster(ClusterCommand::Version(Release::THIS)).into_bytes()];
    let outcome = rig.machine.apply(vec![Committed { index: 2, term: 1, commands }], record(2));
    let error = outcome.map(drop).expect_err("it cannot be read");
    let told = std::error::Error::source(&error).expect("why").to_string();
    assert!(told.contains("since release 0.2") && told.contains("release 0.1 does not understand"), "{told}");
    assert_eq!((rig.get("a"), rig.machine.version()), (Some("1".into()), None), "nothing of the entry was done");
    assert_eq!(rig.machine.record().expect("readable"), Some(record(1)));
}

#[tokio::test]
async fn a_token_has_ended_by_the_revision_that_ends_it() {
    const LOGINS: usize = 500;
    let mut rig = Rig::new();
    let password = || store::PasswordHash::new("hash");
    for command in [
        AuthCommand::UserAdd { name: "root".to_owned(), password: Some(password()) },
        AuthCommand::UserGrantRole { user: "root".to_owned(), role: "root".to_owned() },
        AuthCommand::Enable,
    ] {
        rig.store(&Command::Auth(command));
    }
    let (words, digests): (Vec<_>, Vec<_>) = (0..LOGINS).map(|_| new_word()).unzip();
    for _ in 0..20 {
        let checked_at = rig.view.auth_revision();
        let login = |token| AuthCommand::Authenticate { user: "root".to_owned(), checked_at, token: Some(token) };
        rig.store_trusted(vec![login(digests[0])]);
        let token = format!("{}.{}", words[0], rig.index);
        let (view, tokens) = (rig.view.clone(), Arc::clone(&rig.tokens));
        let spied = std::thread::spawn(move || {
            // As whoever recognizes a caller reads them.
            let mut seen = (view.auth_revision(), tokens.find(&token));
            while let (revision, Found::User(_)) = seen {
                assert_eq!(revision, checked_at, "a token lives that had ended before");
                seen = (view.auth_revision(), tokens.find(&token));
            }
        });
        // Others log in at the same moment.
        let ends = AuthCommand::UserChangePassword { name: "root".to_owned(), password: password() };
        rig.store_trusted(digests[1..].iter().copied().map(login).chain([ends]).collect());
        spied.join().expect("no token outlives its end");
    }
}
