//! What tells one life of a member from another.
//!
//! Owns: what a member shows of itself, what others remember of it, and when the two contradict each other.
//!
//! - Each start of a member draws a number, its session, and stores it before the member says anything. A copy of its disk
//!   that is started again draws another one: it shows who remembers the first that the start was not the same.
//! - A member tells the sessions of its last starts, so that one that was started in vain some times is found out still.
//! - What a member once had of the committed log it has ever after. A copy that was made while the member ran shows by
//!   where its log ended when it was started.
//! - What is not told, as by release 0.1, is not compared.

use std::fmt;

use crate::types::LogId;

/// A member tells the sessions of so many starts.
pub(crate) const SESSIONS_MAX: usize = 16;

/// A member's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Drawn when the disk was first used; 0 for one that was first used before there were incarnations.
    pub(crate) incarnation: u64,
    /// How often the member was started on it.
    pub(crate) starts: u64,
}

/// A member since its last start, as it shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) disk: Disk,
    /// Of its last starts, this one's first; 0 where one is not known.
    pub(crate) sessions: Vec<u64>,
    /// Where its log ended when it was started.
    pub(crate) found: Option<LogId>,
}

/// What is remembered of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) disk: Disk,
    /// Of the start that the disk tells of; 0 if it is not known.
    pub(crate) session: u64,
    pub(crate) held: Option<Held>,
}

/// A committed entry that a member had on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// In this of its starts.
    pub(crate) starts: u64,
    pub(crate) log_id: LogId,
}

/// How a member's life contradicts what is remembered of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contradiction {
    /// It had another disk.
    Disk,
    /// It had been started more often.
    Starts { now: u64, before: u64 },
    /// It had been started so often before, and that was another start.
    Session { starts: u64 },
    /// It has not what it had.
    Log { found: LogId, held: LogId },
}

/// Follows the name of the member.
impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk => f.write_str("had another disk before"),
            Self::Starts { now, before } => {
                write!(f, "had been started {before} times, and this is start {now}: this is an older copy of it")
            }
            Self::Session { starts } => {
                write!(f, "had another start {starts}: this is an older copy of it, or two of them were started")
            }
            Self::Log { found, held } => write!(
                f,
                "had committed entry {} of term {}, and its log ended at entry {} of term {} when it was started: this \
                 is an older copy of it",
                held.index, held.leader_id.term, found.index, found.leader_id.term
            ),
        }
    }
}

impl Life {
    /// The session of this start; 0 if it is not known.
    pub(crate) fn session(&self) -> u64 {
        self.session_of(self.disk.starts)
    }

    /// The session of an earlier start, or of this one; 0 if it is not known.
    fn session_of(&self, starts: u64) -> u64 {
        let ago = self.disk.starts.checked_sub(starts).and_then(|ago| usize::try_from(ago).ok());
        ago.and_then(|ago| self.sessions.get(ago)).copied().unwrap_or(0)
    }

    /// Whether this can not be the member of which that is remembered.
    pub(crate) fn contradiction(&self, known: &Known) -> Option<Contradiction> {
        let (now, before) = (self.disk.starts, known.disk.starts);
        if self.disk.incarnation != known.disk.incarnation {
            return Some(Contradiction::Disk);
        }
        if before > now {
            return Some(Contradiction::Starts { now, before });
        }
        let session = self.session_of(before);
        if session != 0 && known.session != 0 && session != known.session {
            return Some(Contradiction::Session { starts: before });
        }
        match (self.found, known.held) {
            (Some(found), Some(held)) if held.starts < now && held.log_id > found => {
                Some(Contradiction::Log { found, held: held.log_id })
            }
            _ => None,
        }
    }

    /// Whether nothing of it is left to remember.
    pub(crate) fn is_all_in(&self, known: &Known) -> bool {
        let session = self.session();
        self.disk == known.disk && (session == 0 || session == known.session)
    }

    /// What is to be remembered of it.
    pub(crate) fn known(&self) -> Known {
        Known { disk: self.disk, session: self.session(), held: None }
    }
}

impl Known {
    /// Takes over what a member holds, if that is more.
    pub(crate) fn hold(&mut self, held: Held) -> bool {
        let more = self.held.is_none_or(|known| known.log_id < held.log_id);
        if more {
            self.held = Some(held);
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn life(starts: u64, sessions: &[u64], found: u64) -> Life {
        Life { disk: Disk { incarnation: 7, starts }, sessions: sessions.to_vec(), found: Some(log_id(1, found)) }
    }

    fn known(starts: u64, session: u64, held: Option<(u64, u64)>) -> Known {
        let held = held.map(|(starts, index)| Held { starts, log_id: log_id(1, index) });
        Known { disk: Disk { incarnation: 7, starts }, session, held }
    }

    #[test]
    fn a_life_is_told_from_those_of_copies() {
        let log = |found, held| Some(Contradiction::Log { found: log_id(1, found), held: log_id(1, held) });
        let session = |starts| Some(Contradiction::Session { starts });
        let now = life(6, &[66, 55, 44], 100);
        let cases = [
            ("the same", now.clone(), known(6, 66, Some((6, 900))), None),
            ("a restart", now.clone(), known(5, 55, Some((5, 100))), None),
            ("two restarts", now.clone(), known(4, 44, Some((3, 90))), None),
            ("more than are told", now.clone(), known(3, 33, None), None),
            ("two starts ago", now.clone(), known(7, 77, None), Some(Contradiction::Starts { now: 6, before: 7 })),
            ("one start ago", now.clone(), known(6, 99, None), session(6)),
            ("one start ago, started again", now.clone(), known(5, 99, None), session(5)),
            ("a copy of a running member", now.clone(), known(5, 55, Some((5, 101))), log(100, 101)),
            ("the same, known already", now.clone(), known(6, 66, Some((5, 101))), log(100, 101)),
            ("none was told", now.clone(), known(6, 0, None), None),
            ("none is told", Life { sessions: vec![], found: None, ..now.clone() }, known(6, 66, Some((5, 900))), None),
            ("one is not known", life(6, &[66, 0], 100), known(5, 55, None), None),
        ];
        for (what, life, known, expected) in cases {
            assert_eq!(life.contradiction(&known), expected, "{what}");
        }
        let other = Known { disk: Disk { incarnation: 8, starts: 6 }, ..known(6, 66, None) };
        assert_eq!(now.contradiction(&other), Some(Contradiction::Disk));
    }

    #[test]
    fn what_a_member_holds_never_becomes_less() {
        let mut remembered = known(6, 66, None);
        let held = |index| Held { starts: 6, log_id: log_id(1, index) };
        assert!(remembered.hold(held(5)));
        assert!(!remembered.hold(held(4)));
        assert_eq!(remembered.held, Some(held(5)));
    }
}
