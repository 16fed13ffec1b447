//! Who the members are.

use std::collections::BTreeSet;

use crate::{
    MemberId,
    types::{LogId, StoredMembership},
};

/// What the cluster knows of a member beside its id. Part of the log: every member has the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// A name for people. Empty until the member told it.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it. Empty until the member told it.
    pub client_urls: Vec<String>,
    /// A learner that was added to vote: it is to be promoted once it has caught up.
    pub wants_vote: bool,
}

impl Node {
    /// Longest text, and most URLs of a kind, that a node may have.
    pub(crate) const TEXT_BYTES_MAX: usize = 4_096;
    pub(crate) const URLS_MAX: usize = 64;

    /// What is wrong with it, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        let urls = || self.peer_urls.iter().chain(&self.client_urls);
        if self.peer_urls.len() > Self::URLS_MAX || self.client_urls.len() > Self::URLS_MAX {
            return Some(format!("a member has more than {} URLs", Self::URLS_MAX));
        }
        let too_long = urls().chain([&self.name]).any(|text| text.len() > Self::TEXT_BYTES_MAX);
        too_long.then(|| format!("a name or URL is longer than {} bytes", Self::TEXT_BYTES_MAX))
    }
}

/// What a member takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has a vote.
    Voter,
    /// It gets the log, and has no vote.
    Learner,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// What it takes part in. In the middle of a change of voters, those before and after it are voters.
    pub role: Role,
    /// What else is known of it.
    pub node: Node,
}

/// The members as of one entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    pub(crate) membership: StoredMembership,
    /// Members once, and never again.
    pub(crate) removed: BTreeSet<u64>,
}

impl Roster {
    /// The roster after the membership became `membership`.
    pub(crate) fn next(&self, log_id: LogId, membership: crate::types::Membership) -> Self {
        let gone = self.membership.nodes().map(|(id, _)| *id).filter(|id| membership.get_node(id).is_none());
        let removed = self.removed.iter().copied().chain(gone).collect();
        Self { membership: StoredMembership::new(Some(log_id), membership), removed }
    }

    /// All members, in the order of their ids.
    pub(crate) fn members(&self) -> Vec<Member> {
        let voters: BTreeSet<u64> = self.membership.voter_ids().collect();
        let role = |id: &u64| if voters.contains(id) { Role::Voter } else { Role::Learner };
        let member = |(id, node): (&u64, &Node)| Member { id: MemberId(*id), role: role(id), node: node.clone() };
        self.membership.nodes().map(member).collect()
    }
}
