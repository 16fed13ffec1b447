//! What a member tells about itself, and a leader about the others.

use std::time::Duration;

use types::Release;

use crate::MemberId;

/// One member's view at one moment. Entry 0 forms the cluster: an index of 0 means that nothing else is there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub member: MemberId,
    /// Who leads, as far as this member knows: nobody, when two election timeouts have passed without a word of the
    /// leader, or, if it leads itself, of a quorum.
    pub leader: Option<MemberId>,
    /// The term that this member is in.
    pub term: u64,
    /// The last entry in this member's log.
    pub log_index: u64,
    /// The last entry known to be committed.
    pub commit_index: u64,
    /// The last entry applied to this member's state machine.
    pub applied_index: u64,
}

/// Who leads, at which term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term. Never goes back.
    pub term: u64,
    /// The leader of that term, once known.
    pub leader: Option<MemberId>,
    /// This member leads `term`, and has applied all that earlier leaders committed: its state is fit to act on
    /// (leases are timed from here).
    pub acting: bool,
}

/// How another member is, as seen from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// That member.
    pub member: MemberId,
    /// If this member leads: the last entry that the other is known to have on stable storage.
    pub matched: Option<u64>,
    /// If this member leads: how long ago it sent what the other answered last.
    pub last_contact: Option<Duration>,
    /// If the other answered the last greeting, which was at most some ten seconds ago: how long that took.
    pub round_trip: Option<Duration>,
    /// The last entry that the other had applied then.
    pub applied_index: Option<u64>,
    /// The release that the other said it runs, if it was heard of since this member started.
    pub release: Option<Release>,
}
