//! Changes of the members, and transfers of the lead, which only the leader makes.
//!
//! - One change at a time. A change of voters goes through a joint membership; if the leader is lost in its middle, the
//!   next one completes it (see [`crate::duties`]).
//! - What would leave too few members in touch for a quorum is refused, as is a vote for a learner that is not caught up.
//! - No two members have the same name.
//! - A member's id is used once: one that was removed is not added again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use openraft::{
    ChangeMembers, Instant as _,
    async_runtime::watch::WatchReceiver,
    errors::{ChangeMembershipError, ClientWriteError, RaftError},
    metrics::RaftMetrics,
};
use proto::peer::{self as pb, change_request};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    ChangeError, Config, Leadership, MemberId, Node,
    node::Roster,
    peer::{Peers, wire},
    standing::Standing,
    types::{Openraft, Types},
};

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    AddLearner(MemberId, Node),
    Promote(MemberId),
    Remove(MemberId),
    Update(MemberId, Node),
    Transfer(MemberId),
}

/// Makes changes here if this member leads, or has the leader make them.
pub(crate) struct Changes {
    pub(crate) config: Config,
    pub(crate) raft: Openraft,
    pub(crate) standing: Arc<Standing>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) roster: watch::Receiver<Arc<Roster>>,
    pub(crate) peers: Arc<Peers>,
    /// Held by whoever makes one.
    pub(crate) one_at_a_time: tokio::sync::Mutex<()>,
}

impl Change {
    pub(crate) fn out(self) -> change_request::Change {
        let of = |member: MemberId, node| pb::NodeOf { member: member.0, node: Some(wire::node_out(node)) };
        match self {
            Self::AddLearner(member, node) => change_request::Change::AddLearner(of(member, node)),
            Self::Promote(member) => change_request::Change::Promote(member.0),
            Self::Remove(member) => change_request::Change::Remove(member.0),
            Self::Update(member, node) => change_request::Change::Update(of(member, node)),
            Self::Transfer(member) => change_request::Change::Transfer(member.0),
        }
    }

    pub(crate) fn read(change: change_request::Change) -> Self {
        let of = |of: pb::NodeOf| (MemberId(of.member), wire::node_in(of.node.unwrap_or_default()));
        match change {
            change_request::Change::AddLearner(learner) => {
                let (member, node) = of(learner);
                Self::AddLearner(member, node)
            }
            change_request::Change::Promote(member) => Self::Promote(MemberId(member)),
            change_request::Change::Remove(member) => Self::Remove(MemberId(member)),
            change_request::Change::Update(updated) => {
                let (member, node) = of(updated);
                Self::Update(member, node)
            }
            change_request::Change::Transfer(member) => Self::Transfer(MemberId(member)),
        }
    }
}

impl Changes {
    /// Has the change made by whoever leads, and returns once it is applied here too.
    pub(crate) async fn make(&self, change: Change) -> Result<(), ChangeError> {
        let until = Instant::now() + self.config.patience;
        let mut leadership = self.leadership.clone();
        loop {
            let leader = leadership.borrow_and_update().leader;
            let made = match leader {
                Some(leader) if leader == self.standing.member() => {
                    // Given up in the middle, it may still be made.
                    let made = timeout_at(until, self.make_here(change.clone())).await;
                    made.unwrap_or(Err(ChangeError::Unknown))
                }
                Some(leader) => {
                    let left = until.saturating_duration_since(Instant::now());
                    self.peers.change(leader, change.clone().out(), left).await
                }
                None => Err(ChangeError::NoLeader),
            };
            match made {
                // A removed member need not hear of it by the log.
                Ok(_) if change == Change::Remove(self.standing.member()) => return Ok(()),
                Ok(index) => return self.applied(index, until).await,
                Err(ChangeError::NoLeader) if Instant::now() < until => {}
                Err(error) => return Err(error),
            }
            let again = timeout_at(until, timeout(self.config.heartbeat, leadership.changed())).await;
            if let Ok(Ok(Err(_))) = again {
                return Err(ChangeError::Stopped);
            }
        }
    }

    /// Makes the change as the leader, and gives the entry that made it; 0 if it took none.
    pub(crate) async fn make_here(&self, change: Change) -> Result<u64, ChangeError> {
        let Ok(_guard) = timeout(self.config.patience, self.one_at_a_time.lock()).await else {
            return Err(ChangeError::InProgress);
        };
        self.caught_up().await?;
        self.complete().await?;
        // A new leader has not heard of everybody yet.
        let heard_by = Instant::now() + self.config.election_timeout * 2;
        while let Err(error) = self.may(&change) {
            if error != ChangeError::WouldLoseQuorum || Instant::now() >= heard_by {
                return Err(error);
            }
            tokio::time::sleep(self.config.heartbeat).await;
        }
        match change {
            Change::AddLearner(member, node) => {
                self.submit(ChangeMembers::AddNodes(BTreeMap::from([(member.0, node)])), true).await
            }
            Change::Promote(member) => {
                let _changing = self.standing.change();
                self.submit(ChangeMembers::AddVoterIds(BTreeSet::from([member.0])), true).await
            }
            Change::Remove(member) => self.remove(member).await,
            Change::Update(member, node) => {
                self.submit(ChangeMembers::SetNodes(BTreeMap::from([(member.0, node)])), true).await
            }
            Change::Transfer(member) => self.transfer(member).await.map(|()| 0),
        }
    }

    /// Returns once the last change is applied here: who was removed by it is known then.
    async fn caught_up(&self) -> Result<(), ChangeError> {
        let last = *self.metrics().membership_config.log_id();
        let mut roster = self.roster.clone();
        let applied = roster.wait_for(|roster| *roster.membership.log_id() >= last);
        match timeout(self.config.patience, applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ChangeError::Stopped),
            Err(_) => Err(ChangeError::InProgress),
        }
    }

    /// Whether the change makes sense now, and does no harm.
    fn may(&self, change: &Change) -> Result<(), ChangeError> {
        if !self.leadership.borrow().acting {
            return Err(ChangeError::NoLeader);
        }
        let (metrics, roster) = (self.metrics(), self.roster.borrow().clone());
        let view = View { metrics: &metrics, roster: &roster, config: &self.config };
        match change {
            Change::AddLearner(member, node) => view.may_add(*member, node),
            Change::Promote(member) => view.may_promote(*member),
            Change::Remove(member) => view.may_remove(*member),
            Change::Update(member, node) => view.may_update(*member, node),
            Change::Transfer(member) => view.may_lead(*member),
        }
    }

    /// The leader does not remove itself: it hands over, and leaves that to the next one.
    async fn remove(&self, member: MemberId) -> Result<u64, ChangeError> {
        if member == self.standing.member() {
            let handed_over = self.hand_over().await?;
            return Err(handed_over.map_or(ChangeError::WouldLoseQuorum, |_| ChangeError::NoLeader));
        }
        if self.metrics().membership_config.voter_ids().any(|voter| voter == member.0) {
            let _changing = self.standing.change();
            return self.submit(ChangeMembers::RemoveVoters(BTreeSet::from([member.0])), false).await;
        }
        self.submit(ChangeMembers::RemoveNodes(BTreeSet::from([member.0])), false).await
    }

    async fn submit(&self, change: ChangeMembers<u64, Node>, retain: bool) -> Result<u64, ChangeError> {
        match self.raft.change_membership(change, retain).await {
            Ok(response) => Ok(response.log_id.index),
            Err(RaftError::APIError(error)) => Err(refusal(&error)),
            Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        }
    }

    /// Completes a change of voters that another leader had begun; whether there was one.
    pub(crate) async fn complete_joint(&self) -> bool {
        let Ok(_guard) = self.one_at_a_time.try_lock() else { return false };
        self.complete().await == Ok(true)
    }

    /// The same, while nobody else makes a change. Any further change would complete it, too, and keep who was to be removed.
    async fn complete(&self) -> Result<bool, ChangeError> {
        let is_joint = self.metrics().membership_config.get_joint_config().len() > 1;
        if !is_joint || !self.leadership.borrow().acting {
            return Ok(false);
        }
        let _changing = self.standing.change();
        self.submit(ChangeMembers::AddVoterIds(BTreeSet::new()), false).await.map(|_| true)
    }

    /// Has `member` take the lead, and returns once it is not this member's any more.
    pub(crate) async fn transfer(&self, member: MemberId) -> Result<(), ChangeError> {
        if member == self.standing.member() {
            return Ok(());
        }
        let mut leadership = self.leadership.clone();
        self.raft.trigger().transfer_leader(member.0).await.map_err(|_| ChangeError::Stopped)?;
        let me = Some(self.standing.member());
        let given = leadership.wait_for(|now| now.leader.is_some() && now.leader != me);
        match timeout(self.config.election_timeout * 2, given).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ChangeError::Stopped),
            Err(_) => Err(ChangeError::Unknown),
        }
    }

    /// Hands over to the voter that is best placed, if there is one. For a member that is about to end, or whose disk is
    /// too slow.
    pub(crate) async fn hand_over(&self) -> Result<Option<MemberId>, ChangeError> {
        let next = {
            let metrics = self.metrics();
            View { metrics: &metrics, roster: &self.roster.borrow().clone(), config: &self.config }.next_leader()
        };
        if let Some(next) = next {
            self.transfer(next).await?;
        }
        Ok(next)
    }

    pub(crate) fn metrics(&self) -> RaftMetrics<Types> {
        self.raft.metrics().borrow_watched().clone()
    }

    async fn applied(&self, index: u64, until: Instant) -> Result<(), ChangeError> {
        let mut roster = self.roster.clone();
        let applied = roster.wait_for(|roster| roster.membership.log_id().map_or(0, |changed| changed.index) >= index);
        match timeout_at(until, applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ChangeError::Stopped),
            Err(_) => Err(ChangeError::Unknown),
        }
    }
}

/// What a leader knows when it is asked for a change.
struct View<'a> {
    metrics: &'a RaftMetrics<Types>,
    roster: &'a Roster,
    config: &'a Config,
}

impl View<'_> {
    fn node(&self, member: MemberId) -> Option<&Node> {
        self.metrics.membership_config.get_node(&member.0)
    }

    fn is_voter(&self, member: MemberId) -> bool {
        self.metrics.membership_config.voter_ids().any(|voter| voter == member.0)
    }

    /// Whether it is this member, or answered it lately.
    fn is_in_touch(&self, member: u64) -> bool {
        let heard = self.metrics.heartbeat.as_ref().and_then(|heard| heard.get(&member).copied().flatten());
        member == self.metrics.id || heard.is_some_and(|heard| heard.elapsed() < self.config.election_timeout * 2)
    }

    fn matched(&self, member: u64) -> u64 {
        let matched = self.metrics.replication.as_ref().and_then(|matched| matched.get(&member).copied().flatten());
        matched.map_or(0, |matched| matched.index)
    }

    fn may_add(&self, member: MemberId, node: &Node) -> Result<(), ChangeError> {
        if member.0 == 0 {
            return Err(ChangeError::Invalid("member id 0 means \"nobody\"".to_owned()));
        }
        if self.roster.removed.contains(&member.0) {
            return Err(ChangeError::Removed(member));
        }
        if self.node(member).is_some() {
            return Err(ChangeError::Exists(member));
        }
        self.is_free(member, &node.name)?;
        node.fault().map_or(Ok(()), |reason| Err(ChangeError::Invalid(reason)))
    }

    /// Whether no other member has a name: people and tools tell members by it.
    fn is_free(&self, member: MemberId, name: &str) -> Result<(), ChangeError> {
        let mut nodes = self.metrics.membership_config.nodes();
        let other = nodes.find(|(id, node)| **id != member.0 && !name.is_empty() && node.name == name);
        let taken = |(by, _): (&u64, &Node)| ChangeError::NameTaken { name: name.to_owned(), by: MemberId(*by) };
        other.map(taken).map_or(Ok(()), Err)
    }

    fn may_update(&self, member: MemberId, node: &Node) -> Result<(), ChangeError> {
        let before = self.node(member).ok_or(ChangeError::NotFound(member))?;
        // Namesakes that an earlier release let in may move.
        if node.name != before.name {
            self.is_free(member, &node.name)?;
        }
        node.fault().map_or(Ok(()), |reason| Err(ChangeError::Invalid(reason)))
    }

    /// A learner gets a vote when it has nine tenths of the leader's log, and a quorum of the voters that there are then
    /// is in touch. Source: etcd's `isLearnerReady` and `IsReadyToPromoteMember`.
    fn may_promote(&self, member: MemberId) -> Result<(), ChangeError> {
        self.node(member).ok_or(ChangeError::NotFound(member))?;
        if self.is_voter(member) {
            return Err(ChangeError::NotLearner(member));
        }
        let (matched, last) = (self.matched(member.0), self.metrics.last_log_index.unwrap_or(0));
        if u128::from(matched) * 10 < u128::from(last) * 9 || !self.is_in_touch(member.0) {
            return Err(ChangeError::NotReady { member, matched, last });
        }
        self.quorum_of(&self.voters().chain([member.0]).collect())
    }

    /// One that is out of touch can always be removed from among others that are not.
    fn may_remove(&self, member: MemberId) -> Result<(), ChangeError> {
        self.node(member).ok_or(ChangeError::NotFound(member))?;
        if !self.is_voter(member) {
            return Ok(());
        }
        self.quorum_of(&self.voters().filter(|voter| *voter != member.0).collect())
    }

    fn may_lead(&self, member: MemberId) -> Result<(), ChangeError> {
        self.node(member).ok_or(ChangeError::NotFound(member))?;
        if !self.is_voter(member) {
            return Err(ChangeError::NotVoter(member));
        }
        if self.is_in_touch(member.0) { Ok(()) } else { Err(ChangeError::WouldLoseQuorum) }
    }

    fn voters(&self) -> impl Iterator<Item = u64> {
        self.metrics.membership_config.voter_ids()
    }

    fn quorum_of(&self, voters: &BTreeSet<u64>) -> Result<(), ChangeError> {
        let in_touch = voters.iter().filter(|voter| self.is_in_touch(**voter)).count();
        if in_touch > voters.len() / 2 { Ok(()) } else { Err(ChangeError::WouldLoseQuorum) }
    }

    /// The other voter that is in touch and has most of the log.
    fn next_leader(&self) -> Option<MemberId> {
        let others = self.voters().filter(|voter| *voter != self.metrics.id && self.is_in_touch(*voter));
        others.max_by_key(|voter| self.matched(*voter)).map(MemberId)
    }
}

fn refusal(error: &ClientWriteError<Types>) -> ChangeError {
    match error {
        ClientWriteError::ForwardToLeader(_) => ChangeError::NoLeader,
        ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_) => ChangeError::Unknown,
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                ChangeError::InProgress
            }
            ChangeMembershipError::EmptyMembership(_) => ChangeError::WouldLoseQuorum,
            ChangeMembershipError::LearnerNotFound(missing) => ChangeError::NotFound(MemberId(missing.node_id)),
            ChangeMembershipError::UnsupportedMembershipTransition(_)
            | ChangeMembershipError::NodeMetadataChanged(_) => ChangeError::Invalid(error.to_string()),
        },
    }
}
