//! Where entries go: to openraft here, or to another member.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use proto::peer::ForwardOutcome;
use tokio::time::Instant;
use tracing::debug;

use crate::{
    Leadership, MemberId,
    peer::{Forwarding, Peers},
    types::Proposal,
};

/// The way to the leader of one term.
pub(super) struct Path {
    peers: Arc<Peers>,
    /// Entries that may be in flight on it.
    entries_max: usize,
    /// Before another attempt to open it.
    pause: Duration,
    way: Way,
}

enum Way {
    /// Nobody is known to lead.
    None,
    /// This member leads.
    Here { term: u64 },
    /// Another one leads; the stream to it is being opened.
    Opening { leader: MemberId, term: u64, opening: BoxFuture<'static, Option<Box<Forwarding>>> },
    /// The stream to it is open.
    Open { leader: MemberId, forwarding: Box<Forwarding> },
}

/// What came of an attempt to send an entry.
pub(super) enum Sent {
    /// It is to be given to openraft.
    Here,
    /// It is on its way to another member.
    Away,
    /// It was not sent.
    Not,
}

impl Path {
    pub(super) fn new(peers: Arc<Peers>, entries_max: usize, pause: Duration) -> Self {
        Self { peers, entries_max, pause, way: Way::None }
    }

    /// Turns to the leader of now, if that is another one than before; whether it is.
    pub(super) fn turn_to(&mut self, now: Leadership, me: MemberId) -> bool {
        let before = match &self.way {
            Way::None => None,
            Way::Here { term } => Some((me, *term)),
            Way::Opening { leader, term, .. } => Some((*leader, *term)),
            Way::Open { leader, forwarding } => Some((*leader, forwarding.term)),
        };
        let leader = now.leader.map(|leader| (leader, now.term));
        if before == leader {
            return false;
        }
        self.way = match leader {
            None => Way::None,
            Some((leader, term)) if leader == me => Way::Here { term },
            Some((leader, term)) => self.opening(leader, term, Duration::ZERO),
        };
        true
    }

    fn opening(&self, leader: MemberId, term: u64, after: Duration) -> Way {
        let (peers, entries_max) = (Arc::clone(&self.peers), self.entries_max);
        let opening = async move {
            tokio::time::sleep(after).await;
            let opened = peers.forward(leader, term, entries_max).await;
            opened.inspect_err(|error| debug!(%error, "cannot forward proposals")).ok().map(Box::new)
        };
        Way::Opening { leader, term, opening: Box::pin(opening) }
    }

    /// Whether entries can be sent now.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.way, Way::Here { .. } | Way::Open { .. })
    }

    /// The term in which what is sent now may be appended.
    pub(super) fn term(&self) -> Option<u64> {
        match &self.way {
            Way::Here { term } => Some(*term),
            Way::Open { forwarding, .. } => Some(forwarding.term),
            Way::None | Way::Opening { .. } => None,
        }
    }

    /// Sends an entry. Another member does not append it after `until`.
    pub(super) fn send(&self, proposal: &Proposal, until: impl FnOnce() -> Option<Instant>) -> Sent {
        match &self.way {
            Way::Here { .. } => Sent::Here,
            Way::Open { forwarding, .. } if forwarding.send(proposal, until()) => Sent::Away,
            Way::None | Way::Opening { .. } | Way::Open { .. } => Sent::Not,
        }
    }

    /// The next that another member says of an entry; `None` when the stream was opened or broke. Dropped in the middle
    /// it loses nothing.
    pub(super) async fn next(&mut self) -> Option<(u64, ForwardOutcome)> {
        match &mut self.way {
            Way::None | Way::Here { .. } => pending().await,
            Way::Opening { leader, term, opening } => {
                let (leader, term) = (*leader, *term);
                self.way = match opening.await {
                    Some(forwarding) => Way::Open { leader, forwarding },
                    None => self.opening(leader, term, self.pause),
                };
                None
            }
            Way::Open { leader, forwarding } => {
                let (leader, term) = (*leader, forwarding.term);
                let outcome = forwarding.next().await;
                if outcome.is_none() {
                    // What was sent may have been appended: the apply thread will tell.
                    self.way = self.opening(leader, term, self.pause);
                }
                outcome
            }
        }
    }
}
