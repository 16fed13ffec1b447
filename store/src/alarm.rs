//! What is wrong with a member, told to all.
//!
//! Owns: the alarms that are raised, and which commands each of them stops.
//! In:   alarms raised and cleared through the log.
//! Out:  a refusal of what may not be applied; the alarms, to whoever asks.
//!
//! - A command is decided on by the alarms raised before it in the log: the same on every member.
//! - Without space nothing may grow: puts, transactions that may put, and leases are refused; all else goes on.
//! - With a corrupt member nothing may be written until a person has looked.

use std::collections::BTreeSet;

use bytes::Bytes;
use engine::Read;

use crate::{Command, Op, Refusal, StoreError, Txn, layout};

/// What can be wrong. Source: etcd v3 `AlarmType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// A member's space quota is used up.
    NoSpace,
    /// A member's state differs from the others'.
    Corrupt,
}

/// One member's alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// With which member, by its id.
    pub member: u64,
}

/// Raises or clears an alarm. Source: etcd v3 `AlarmRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmChange {
    /// Which one.
    pub alarm: Alarm,
    /// Whether it is raised; it is cleared otherwise.
    pub raised: bool,
}

const NO_SPACE: u8 = 1;
const CORRUPT: u8 = 2;

impl AlarmKind {
    /// The number that stands for it in the log and on disk, and in etcd's API.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::NoSpace => NO_SPACE,
            Self::Corrupt => CORRUPT,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            NO_SPACE => Some(Self::NoSpace),
            CORRUPT => Some(Self::Corrupt),
            _ => None,
        }
    }
}

/// The alarms that are raised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms(BTreeSet<Alarm>);

impl Alarms {
    pub(crate) fn load(engine: &impl Read) -> Result<Self, StoreError> {
        let mut alarms = BTreeSet::new();
        engine.walk(layout::ALARMS, |key, _| {
            alarms.insert(Alarm::read(key).ok_or_else(|| layout::corrupt(layout::ALARMS, "an alarm is 9 bytes"))?);
            Ok::<_, StoreError>(())
        })?;
        Ok(Self(alarms))
    }

    pub(crate) fn raised(&self) -> impl Iterator<Item = Alarm> {
        self.0.iter().copied()
    }

    /// Makes a change, and returns whether it made a difference.
    pub(crate) fn change(&mut self, change: AlarmChange) -> bool {
        if change.raised { self.0.insert(change.alarm) } else { self.0.remove(&change.alarm) }
    }

    /// Why a command may not be applied, if so. Source: etcd `server/etcdserver/apply/{corrupt,capped}.go`.
    pub(crate) fn refusal(&self, command: &Command) -> Option<Refusal> {
        if self.0.is_empty() {
            return None;
        }
        let is_raised = |kind: AlarmKind| self.0.iter().any(|alarm| alarm.kind == kind);
        if is_raised(AlarmKind::Corrupt) && writes(command) {
            Some(Refusal::Corrupt)
        } else if is_raised(AlarmKind::NoSpace) && grows(command) {
            Some(Refusal::NoSpace)
        } else {
            None
        }
    }
}

impl Alarm {
    /// Its row's key; the row has no value.
    pub(crate) fn key(self) -> Bytes {
        let mut key = vec![self.kind.number()];
        key.extend(self.member.to_be_bytes());
        key.into()
    }

    fn read(key: &[u8]) -> Option<Self> {
        let (&kind, member) = key.split_first()?;
        Some(Self { kind: AlarmKind::from_number(kind)?, member: u64::from_be_bytes(member.try_into().ok()?) })
    }
}

/// Whether a command is one of those that a corrupt member stops.
fn writes(command: &Command) -> bool {
    match command {
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::Compact(_)
        | Command::LeaseGrant(_)
        | Command::LeaseRevoke(_) => true,
        Command::LeaseCheckpoint(_) | Command::Alarm(_) | Command::Settle | Command::Auth(_) => false,
    }
}

/// Whether a command may need space that it does not give back.
pub(crate) fn grows(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(txn) => may_put(txn),
        Command::DeleteRange(_)
        | Command::Compact(_)
        | Command::LeaseRevoke(_)
        | Command::LeaseCheckpoint(_)
        | Command::Alarm(_)
        | Command::Settle
        | Command::Auth(_) => false,
    }
}

/// Whether one of a transaction's branches puts, at any depth.
fn may_put(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Put(_) => true,
        Op::Txn(txn) => may_put(txn),
        Op::Range(_) | Op::DeleteRange(_) => false,
    })
}
