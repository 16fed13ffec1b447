//! The members as the wires have them. Who they are, the membership of the log says, and nothing else.

use proto::{etcdserverpb, member as pb};
use raft::{Member, Role};

/// As members tell one another.
pub(crate) fn wire_member(member: Member) -> pb::Member {
    let Member { id, role, node } = member;
    pb::Member { id: id.0, name: node.name, peer_urls: node.peer_urls, is_learner: role == Role::Learner }
}

/// As etcd tells clients.
pub(crate) fn etcd_member(member: Member) -> etcdserverpb::Member {
    let Member { id, role, node } = member;
    etcdserverpb::Member {
        id: id.0,
        name: node.name,
        peer_ur_ls: node.peer_urls,
        client_ur_ls: node.client_urls,
        is_learner: role == Role::Learner,
    }
}

/// Members without a vote.
pub(crate) fn learners(members: &[Member]) -> usize {
    members.iter().filter(|member| member.role == Role::Learner).count()
}

/// Whether a member has one of these peer addresses.
pub(crate) fn has_any(member: &Member, addresses: &[String]) -> bool {
    member.node.peer_urls.iter().any(|address| addresses.contains(address))
}
