//! Where a member stands: who leads, and whether it has anybody beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{
    ServerState, async_runtime::watch::WatchReceiver, errors::Fatal as OpenraftFatal, metrics::RaftServerMetrics,
};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::{
    Leadership, MemberId, RaftError,
    fatal::Fatal,
    types::{LogId, Openraft, Types},
};

/// What every request asks, kept where asking costs next to nothing.
#[derive(Debug)]
pub(crate) struct Standing {
    member: MemberId,
    term: AtomicU64,
    /// This member acts as the leader of a cluster that has no other voter: nobody else can have acknowledged anything.
    leads_alone: AtomicBool,
    /// This member is in the cluster, and has no vote.
    is_learner: AtomicBool,
    /// Changes of the voters that this member is making. It takes nothing for granted meanwhile.
    changes: AtomicU64,
    /// When a leader was heard last, and of which term.
    heard: Mutex<Option<(u64, Instant)>>,
}

/// Held by whoever is changing the voters.
pub(crate) struct Changing<'a>(&'a Standing);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changes.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Standing {
    pub(crate) fn new(member: MemberId) -> Self {
        let (term, leads_alone, changes) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
        Self { member, term, leads_alone, is_learner: AtomicBool::new(false), changes, heard: Mutex::default() }
    }

    pub(crate) fn member(&self) -> MemberId {
        self.member
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(crate) fn leads_alone(&self) -> bool {
        self.leads_alone.load(Ordering::Acquire) && self.changes.load(Ordering::Acquire) == 0
    }

    pub(crate) fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    /// The leader of `term` has just sent something.
    pub(crate) fn hear(&self, term: u64) {
        let mut heard = self.heard.lock();
        if heard.is_none_or(|(latest, _)| latest <= term) {
            *heard = Some((term, Instant::now()));
        }
    }

    /// Whether the leader of `term` was heard so lately.
    pub(crate) fn has_heard(&self, term: u64, lately: Duration) -> bool {
        self.heard.lock().is_some_and(|(of, at)| of == term && at.elapsed() < lately)
    }

    /// From here until the guard is dropped, and for as long as there are other voters then, this member asks others
    /// whether it leads.
    pub(crate) fn change(&self) -> Changing<'_> {
        self.changes.fetch_add(1, Ordering::AcqRel);
        Changing(self)
    }

    fn set(&self, leadership: Leadership, is_alone: bool, is_learner: bool) {
        self.is_learner.store(is_learner, Ordering::Relaxed);
        self.term.store(leadership.term, Ordering::Relaxed);
        self.leads_alone.store(leadership.acting && is_alone, Ordering::Release);
    }
}

/// Follows openraft until it ends, and reports why it did.
pub(crate) fn watch_leadership(
    openraft: &Openraft,
    standing: Arc<Standing>,
    mut applied: watch::Receiver<Option<LogId>>,
    fatal: Fatal,
    tasks: &TaskTracker,
) -> watch::Receiver<Leadership> {
    let (sender, leadership) = watch::channel(Leadership::default());
    let (mut server, metrics) = (openraft.server_metrics(), openraft.metrics());
    tasks.spawn(async move {
        let member = standing.member;
        loop {
            let acting = {
                let server = server.borrow_watched();
                let now = current_leadership(&server, *applied.borrow_and_update());
                let is_alone = server.membership_config.voter_ids().all(|voter| voter == member.0);
                let is_member = server.membership_config.nodes().any(|(id, _)| *id == member.0);
                let is_learner = is_member && server.membership_config.voter_ids().all(|voter| voter != member.0);
                standing.set(now, is_alone, is_learner);
                sender.send_if_modified(|before| std::mem::replace(before, now) != now);
                now.acting
            };
            tokio::select! {
                changed = server.changed() => if changed.is_err() { break },
                // Until a new leader's first entry is applied.
                Ok(()) = applied.changed(), if !acting => {}
            }
        }
        let ended = Leadership { term: sender.borrow().term, ..Leadership::default() };
        standing.set(ended, false, false);
        sender.send_replace(ended);
        match &metrics.borrow_watched().running_state {
            Ok(()) | Err(OpenraftFatal::Stopped) => info!(%member, "raft ended"),
            Err(error) => fatal.report(RaftError::Stopped { reason: error.to_string() }),
        }
    });
    leadership
}

/// A new leader's first entry follows all that earlier ones committed: once it is applied, so are they.
fn current_leadership(server: &RaftServerMetrics<Types>, applied: Option<LogId>) -> Leadership {
    let term = server.vote.leader_id.term;
    let is_current = applied.is_some_and(|applied| applied.leader_id.term == term);
    let acting = server.state == ServerState::Leader && is_current;
    Leadership { term, leader: server.current_leader.map(MemberId), acting }
}
