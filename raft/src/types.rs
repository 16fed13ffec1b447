//! How this room fills in what openraft leaves open.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use engine::Workers;
use openraft::type_config::alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use tokio::sync::OwnedSemaphorePermit;

use crate::{Collector, apply::Driver, node::Node};

openraft::declare_raft_types!(
    /// One leader a term, so that a term alone is a fencing token; answers travel apart from openraft's (see
    /// [`crate::waiters`]).
    pub(crate) Types:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = Node,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Openraft = openraft::Raft<Types, Driver>;
pub(crate) type Entry = EntryOf<Types>;
pub(crate) type LogId = LogIdOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
pub(crate) type Snapshot = SnapshotOf<Types, State>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<Types>;
pub(crate) type StoredMembership = StoredMembershipOf<Types>;
pub(crate) type Vote = VoteOf<Types>;

/// Terms, indexes and starts are counted one by one: what is above this was never counted. So who counts on need not fear
/// that the numbers end.
pub(crate) const COUNT_MAX: u64 = u64::MAX >> 1;

/// The log id of `index` in `term`.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: openraft::vote::leader_id_std::CommittedLeaderId::new(term), index }
}

/// The data of a snapshot: a machine's own durable state is all the snapshot that a member keeps.
pub(crate) enum State {
    /// The state of this member's machine. Only who sends it has an image of it made.
    Ours,
    /// Another member's, ready to be installed.
    Collected(Collected),
}

/// Another member's image, as far as it came.
pub(crate) struct Collected {
    pub(crate) collector: Box<dyn Collector>,
    /// Where the collector does its work.
    pub(crate) workers: Workers,
    /// While this is held, no other image is taken.
    pub(crate) only: OwnedSemaphorePermit,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "Ours",
            Self::Collected(_) => "Collected",
        })
    }
}

/// Who proposed an entry, and which of its entries it is. No two entries of a log bear the same tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) member: u64,
    /// Of the member's start, so that an entry replayed after a restart, or proposed on a copy of its disk, finds no caller
    /// of today.
    pub(crate) session: u64,
    pub(crate) sequence: u64,
}

/// The commands of one entry, and who waits for their answers. Clones share the commands.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) tag: Tag,
    pub(crate) commands: Arc<[Bytes]>,
}

impl Proposal {
    /// Bytes of all commands together.
    pub(crate) fn bytes(&self) -> usize {
        self.commands.iter().map(Bytes::len).sum()
    }
}

/// Commands may hold secrets: only their number is shown.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tag { member, session, sequence } = self.tag;
        write!(f, "{} commands of {member:x}.{session:x}.{sequence}", self.commands.len())
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
