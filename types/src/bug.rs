//! Bugs that are planted, to prove that the simulation (`tests/sim`) finds such bugs.
//!
//! - Without the feature `planted`, which nothing but `make planted` turns on, there is none: the compiler answers the
//!   question, and leaves out what would follow.

/// A bug that somebody could make, each at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// An entry is acknowledged before it is on stable storage.
    AckBeforeSync,
    /// A vote is given and not written down.
    VoteNotKept,
    /// A linearizable read is answered without asking anybody.
    ReadWithoutQuorum,
    /// A read does not wait until this member has applied what was committed before it.
    ReadBeforeApplied,
    /// An entry that was on its way to a leader when the connection broke is sent again.
    ForwardedTwice,
    /// Some entries are applied twice.
    AppliedTwice,
    /// That entries were applied is noted after what they did, and not with it.
    AppliedNotedApart,
    /// The log is purged although the state is not on stable storage.
    StateNotSynced,
    /// An image is installed without one of its parts.
    ImageCutShort,
    /// A watch stream that is too slow loses events.
    EventLost,
    /// A watcher that lags behind a compaction passes over what was compacted.
    CompactedPassedOver,
    /// A sweep takes versions that a compaction leaves.
    SweptTooMuch,
    /// A new leader gives leases less time than they have.
    LeaseCutShort,
    /// Leases are timed by the wall clock.
    LeaseByWallClock,
    /// A lease whose time is over is forgotten, and does not end.
    LeaseForgotten,
    /// Who may do what is decided by the member that is asked, as it knows users and roles by then, and not in the log.
    JudgedBeforeTheLog,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::AckBeforeSync,
        Self::VoteNotKept,
        Self::ReadWithoutQuorum,
        Self::ReadBeforeApplied,
        Self::ForwardedTwice,
        Self::AppliedTwice,
        Self::AppliedNotedApart,
        Self::StateNotSynced,
        Self::ImageCutShort,
        Self::EventLost,
        Self::CompactedPassedOver,
        Self::SweptTooMuch,
        Self::LeaseCutShort,
        Self::LeaseByWallClock,
        Self::LeaseForgotten,
        Self::JudgedBeforeTheLog,
    ];

    /// Whether this thread runs with the bug.
    #[cfg(not(feature = "planted"))]
    pub const fn is_planted(self) -> bool {
        false
    }

    /// Whether this thread runs with the bug.
    #[cfg(feature = "planted")]
    pub fn is_planted(self) -> bool {
        planted::HERE.get() == Some(self)
    }

    /// Has this thread run with the bug from now on.
    #[cfg(feature = "planted")]
    pub fn plant(self) {
        planted::HERE.set(Some(self));
    }
}

#[cfg(feature = "planted")]
mod planted {
    use std::cell::Cell;

    thread_local! {
        pub(super) static HERE: Cell<Option<super::Bug>> = const { Cell::new(None) };
    }
}
