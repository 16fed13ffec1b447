//! What everybody in a run shares: the time, the record of what clients saw, and when the trouble is over.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use client::{Client, Config, User};
use raft::{ClusterId, MemberId};

use crate::{
    history::Recorder, leases::LeaseBook, network::client_channel, permissions::PermissionBook, plan::Plan, seat::Seat,
    users,
};

/// How long a client waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// And for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What is shared by all who act in a run. Clones share it.
#[derive(Clone)]
pub(crate) struct Stage(Rc<Inner>);

struct Inner {
    plan: Plan,
    clock: Arc<AtomicU64>,
    recorder: Recorder,
    leases: RefCell<LeaseBook>,
    permissions: RefCell<PermissionBook>,
    /// Those of members that clients may ask.
    seats: RefCell<Vec<Seat>>,
    /// Nothing more is done to the members.
    is_calm: Cell<bool>,
    /// Those who act until all is calm, and are not done yet.
    busy: Cell<usize>,
    /// At which history was to be compacted.
    compactions: RefCell<BTreeSet<i64>>,
    /// The last revision that an observer was told.
    observed: Cell<i64>,
    /// The store's last revision, once nobody writes any more.
    last: Cell<Option<i64>>,
    /// Members that were added, and wait to be started.
    added: RefCell<Vec<(usize, ClusterId, MemberId)>>,
    /// What was found wrong while the run went on.
    faults: RefCell<Vec<String>>,
}

impl Stage {
    pub(crate) fn new(plan: &Plan, seats: &[Seat]) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let recorder = {
            let clock = Arc::clone(&clock);
            Recorder::new(move || clock.load(Ordering::Relaxed))
        };
        Self(Rc::new(Inner {
            plan: plan.clone(),
            clock,
            recorder,
            leases: RefCell::default(),
            permissions: RefCell::default(),
            seats: RefCell::new(seats.to_vec()),
            is_calm: Cell::new(false),
            busy: Cell::new(0),
            compactions: RefCell::default(),
            observed: Cell::new(0),
            last: Cell::new(None),
            added: RefCell::default(),
            faults: RefCell::default(),
        }))
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    pub(crate) fn leases(&self) -> &RefCell<LeaseBook> {
        &self.0.leases
    }

    pub(crate) fn permissions(&self) -> &RefCell<PermissionBook> {
        &self.0.permissions
    }

    /// Since the run began.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.0.clock.load(Ordering::Relaxed))
    }

    pub(crate) fn set_now(&self, now: Duration) {
        self.0.clock.store(u64::try_from(now.as_nanos()).expect("a run ends within centuries"), Ordering::Relaxed);
    }

    pub(crate) fn hosts(&self) -> Vec<String> {
        self.0.seats.borrow().iter().map(|seat| seat.name().to_owned()).collect()
    }

    pub(crate) fn set_seats(&self, seats: &[Seat]) {
        self.0.seats.replace(seats.to_vec());
    }

    /// Whether a member at one of these hosts knows of a change of voters that is not complete.
    pub(crate) fn changes_voters(&self, hosts: &[String]) -> bool {
        self.0.seats.borrow().iter().any(|seat| hosts.iter().any(|host| host == seat.name()) && seat.changes_voters())
    }

    /// All members, the one at this place first.
    pub(crate) fn hosts_from(&self, preferred: usize) -> Vec<String> {
        let mut hosts = self.hosts();
        let hosts_count = hosts.len();
        hosts.rotate_left(preferred % hosts_count);
        hosts
    }

    /// A client of all members, which prefers the one at this place.
    pub(crate) fn client(&self, preferred: usize) -> Client {
        self.client_of(self.hosts_from(preferred))
    }

    /// A client of these members, who may do everything.
    pub(crate) fn client_of(&self, hosts: Vec<String>) -> Client {
        dialed(hosts, self.plan().has_users.then(users::root))
    }

    /// A client of these members, who is this user.
    pub(crate) fn client_as(user: User, hosts: Vec<String>) -> Client {
        dialed(hosts, Some(user))
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.0.is_calm.get()
    }

    pub(crate) fn calm(&self) {
        self.0.is_calm.set(true);
    }

    /// Does what goes on until all is calm.
    pub(crate) async fn until_calm<T>(self, act: impl Future<Output = T>) -> T {
        self.0.busy.set(self.0.busy.get() + 1);
        let done = act.await;
        self.0.busy.set(self.0.busy.get() - 1);
        done
    }

    /// Whether somebody is not done who acts until all is calm.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.busy.get() > 0
    }

    /// Somebody asks to compact history at a revision.
    pub(crate) fn compact(&self, revision: i64) {
        self.0.compactions.borrow_mut().insert(revision);
    }

    pub(crate) fn compactions(&self) -> BTreeSet<i64> {
        self.0.compactions.borrow().clone()
    }

    /// An observer was told all up to a revision.
    pub(crate) fn observe(&self, revision: i64) {
        self.0.observed.set(self.0.observed.get().max(revision));
    }

    pub(crate) fn observed(&self) -> i64 {
        self.0.observed.get()
    }

    /// Nobody writes any more.
    pub(crate) fn finish_at(&self, last: i64) {
        self.0.last.set(Some(last));
    }

    /// Whether everything has been told that ever will be.
    pub(crate) fn is_told(&self) -> bool {
        self.0.last.get().is_some_and(|last| self.observed() >= last)
    }

    pub(crate) fn add(&self, number: usize, ids: (ClusterId, MemberId)) {
        self.0.added.borrow_mut().push((number, ids.0, ids.1));
    }

    pub(crate) fn take_added(&self) -> Vec<(usize, ClusterId, MemberId)> {
        self.0.added.take()
    }

    /// Something is wrong that no history shows.
    pub(crate) fn fault(&self, what: impl Into<String>) {
        self.0.faults.borrow_mut().push(what.into());
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.0.faults.borrow().clone()
    }
}

fn dialed(hosts: Vec<String>, user: Option<User>) -> Client {
    let config =
        Config { request_timeout: REQUEST_TIMEOUT, connect_timeout: CONNECT_TIMEOUT, user, ..Config::new(hosts) };
    Client::dialed(&config, |host| client_channel(host, CONNECT_TIMEOUT)).expect("there is an endpoint")
}
