//! Members who meet, without a network: each check alone, since the other side may be of a release without it.

use engine::Engine;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    Config,
    life::Disk,
    log::{self, LogStore},
    tests::copy,
    threads::Idle,
    types::log_id,
};

/// A member that runs, as far as others get to know it.
struct Side {
    member: u64,
    acquaintances: Acquaintances,
    fatal: Fatal,
    store: LogStore,
    writer: JoinHandle<()>,
}

fn disk() -> Engine {
    Engine::in_memory(log::SPACES)
}

impl Side {
    fn start(member: u64, disk: &Engine) -> Self {
        Self::try_start(member, disk).unwrap()
    }

    fn try_start(member: u64, disk: &Engine) -> Result<Self, RaftError> {
        let who = (ClusterId(1), MemberId(member));
        let recovered = log::recover(disk, &Config::new(who.0, who.1), None)?;
        let (lives, fatal) = ((recovered.own.clone(), recovered.known.clone()), Fatal::new());
        let (store, writer, _) = LogStore::new(disk.clone(), recovered, usize::MAX, fatal.clone());
        let (releases, roster) =
            (Releases::new(Release::THIS, watch::channel(None).1), watch::channel(Arc::default()).1);
        let acquaintances = Acquaintances::new(who, lives, releases, store.notes(), roster, fatal.clone());
        Ok(Self { member, acquaintances, fatal, store, writer: tokio::spawn(writer.run(Idle::default())) })
    }

    /// Stops, once all is on the disk.
    async fn end(self) {
        drop(self.store);
        self.writer.await.unwrap();
    }

    fn header(&self, to: &Side) -> pb::Header {
        self.acquaintances.header(to.member)
    }

    async fn admit(&self, header: pb::Header) -> Result<u64, Refusal> {
        self.acquaintances.admit(Some(&header)).await
    }

    async fn call(&self, to: &Side) -> Result<u64, Refusal> {
        to.admit(self.header(to)).await
    }

    fn known(&self, member: u64) -> Option<Known> {
        self.acquaintances.all().into_iter().find_map(|(who, known)| (who == member).then_some(known))
    }

    /// Why it stopped.
    fn reason(&self) -> String {
        match self.fatal.get() {
            Some(RaftError::Forgetful { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn forgetful(refused: Result<u64, Refusal>) -> String {
    match refused {
        Err(Refusal::Forgetful(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// Member 1, which has met member 2; and that one on an older copy of its disk, started just as often; and the copy.
async fn one_and_a_copy() -> (Side, Side, Engine) {
    let (one, right) = (Side::start(1, &disk()), disk());
    Side::start(2, &right).end().await;
    let older = copy(&right, log::SPACES);
    let two = Side::start(2, &right);
    two.call(&one).await.unwrap();
    two.end().await;
    (one, Side::start(2, &older), older)
}

#[tokio::test]
async fn who_calls_from_an_older_copy_is_refused() {
    let (one, copied, _) = one_and_a_copy().await;
    let reason = forgetful(copied.call(&one).await);
    assert_eq!(reason, "member 2 had another start 2: this is an older copy of it, or two of them were started");
}

#[tokio::test]
async fn who_is_called_on_an_older_copy_stops_and_does_not_start_again() {
    let (one, copied, older) = one_and_a_copy().await;
    assert_eq!(one.call(&copied).await, Err(Refusal::Stopped));
    let reason = copied.reason();
    assert!(reason.starts_with("member 1 says: it had another start 2"), "{reason}");
    let third = Side::start(3, &disk());
    assert_eq!(third.call(&copied).await, Err(Refusal::Stopped), "whoever calls");
    copied.end().await;
    match Side::try_start(2, &older) {
        Err(RaftError::Forgetful { reason: kept }) => assert_eq!(kept, reason),
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test]
async fn who_hears_that_it_is_on_an_older_copy_stops() {
    let (one, copied, _) = one_and_a_copy().await;
    copied.acquaintances.learn(1, one.acquaintances.all()).await;
    assert!(copied.reason().starts_with("member 1 says: it had another start 2"));
}

/// Release 0.1 tells only on which disk it takes the other to be.
#[tokio::test]
async fn who_is_called_on_another_disk_stops() {
    let (one, two) = (Side::start(1, &disk()), Side::start(2, &disk()));
    two.call(&one).await.unwrap();
    let emptied = Side::start(2, &disk());
    let header = pb::Header { addressee_known: None, ..one.header(&emptied) };
    assert_eq!(emptied.admit(header).await, Err(Refusal::Stopped));
    assert_eq!(emptied.reason(), "member 1 says: it had another disk before");
}

#[tokio::test]
async fn who_is_on_no_disk_is_not_met() {
    let (one, two) = (Side::start(1, &disk()), Side::start(2, &disk()));
    let header = pb::Header { sender_incarnation: 0, ..two.header(&one) };
    assert_eq!(one.admit(header).await, Err(Refusal::Senseless(Fault::Missing("incarnation"))));
    assert_eq!(one.known(2), None);
}

/// Release 0.1 tells no sessions; the same start may tell its own to another member, or later.
#[tokio::test]
async fn a_session_that_is_told_later_is_remembered() {
    let (one, two) = (Side::start(1, &disk()), Side::start(2, &disk()));
    one.admit(pb::Header { sender_sessions: Vec::new(), ..two.header(&one) }).await.unwrap();
    assert_eq!(one.known(2).unwrap().session, 0);
    two.call(&one).await.unwrap();
    assert_eq!(one.known(2), Some(two.acquaintances.own().known()));
}

#[tokio::test]
async fn who_lost_what_it_had_acknowledged_is_refused_until_it_is_started_again() {
    let (one, right) = (Side::start(1, &disk()), disk());
    let two = Side::start(2, &right);
    two.call(&one).await.unwrap();
    one.acquaintances.has_lost(2, &log_id(1, 5));
    assert_eq!(forgetful(two.call(&one).await), "member 2 lost entries that it had acknowledged");
    let header = one.header(&two);
    two.end().await;

    let two = Side::start(2, &right);
    two.admit(header.clone()).await.unwrap();
    two.call(&one).await.unwrap();
    assert!(header.addressee_lost && !one.header(&two).addressee_lost);
    one.acquaintances.has_lost(2, &log_id(1, 5));
    assert_eq!(one.call(&two).await, Err(Refusal::Stopped));
    assert_eq!(two.reason(), "member 1 says: it lost entries that it had acknowledged");
}

#[tokio::test]
async fn what_a_member_has_is_remembered_across_starts_and_told() {
    let held = |index| Some(Held { starts: 1, log_id: log_id(1, index) });
    let (mine, right) = (disk(), disk());
    let (one, two, third) = (Side::start(1, &mine), Side::start(2, &right), Side::start(3, &disk()));
    two.call(&one).await.unwrap();
    two.call(&third).await.unwrap();
    one.acquaintances.holds(2, held(5).unwrap());
    one.acquaintances.keep().await;
    one.end().await;
    two.end().await;

    let (one, two) = (Side::start(1, &mine), Side::start(2, &right));
    assert_eq!(one.known(2).unwrap().held, held(5), "it is on the disk");
    assert!(forgetful(two.call(&one).await).contains("its log ended at entry 0"));
    let found = Some(pb::LogId { term: 1, index: 5 });
    one.admit(pb::Header { sender_found: found, ..two.header(&one) }).await.unwrap();
    one.end().await;
    let one = Side::start(1, &mine);
    assert_eq!(one.known(2), Some(Known { held: held(5), ..two.acquaintances.own().known() }), "so it is with a start");

    // To who met it, and to who did not.
    let fourth = Side::start(4, &disk());
    for other in [&third, &fourth] {
        other.acquaintances.learn(1, one.acquaintances.all()).await;
        let known = other.known(2).unwrap();
        assert_eq!((known.disk.incarnation, known.held), (two.acquaintances.own().disk.incarnation, held(5)));
        let elsewhere = Known { disk: Disk { incarnation: 1, starts: 9 }, session: 9, held: held(9) };
        other.acquaintances.learn(1, [(2, elsewhere)]).await;
        assert_eq!(other.known(2), Some(known), "another disk's");
    }
}
