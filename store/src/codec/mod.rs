//! Commands as bytes.
//!
//! Owns: the form that commands have in the log. It outlives versions of this program, so it only ever grows.
//!
//! - The first byte is the format. What is written in a format can be read as long as that format is listed here.
//! - An entry has one encoding, and every byte of it counts: nothing may follow.
//! - Decoding shares the input's memory, never panics, and recurses no deeper than transactions may nest.

mod auth;
mod reader;

use bytes::Bytes;
use types::{KeyRange, Release};

use self::reader::Reader;
use crate::{
    Actor, Alarm, AlarmChange, Bounds, Command, Compact, Compare, CompareResult, CompareTarget, DecodeError,
    DeleteRange, Entry, LeaseCheckpoint, LeaseGrant, LeaseRevoke, Op, Order, OrderBy, Put, PutLease, PutValue, Range,
    Show, Txn, validate::TXN_DEPTH_MAX, varint,
};

/// A command alone, which nobody in particular gave.
const FORMAT: u8 = 1;
/// An actor, and then what follows the first byte of [`FORMAT`].
const FORMAT_WITH_ACTOR: u8 = 2;

/// One byte each says which variant follows; numbers are never reused.
mod tag {
    pub(super) const PUT: u8 = 1;
    pub(super) const DELETE_RANGE: u8 = 2;
    pub(super) const TXN: u8 = 3;
    pub(super) const COMPACT: u8 = 4;
    pub(super) const LEASE_GRANT: u8 = 5;
    pub(super) const LEASE_REVOKE: u8 = 6;
    pub(super) const RANGE: u8 = 7;
    pub(super) const AUTH: u8 = 16;
    pub(super) const ALARM: u8 = 32;
    pub(super) const SETTLE: u8 = 34;
    pub(super) const LEASE_CHECKPOINT: u8 = 35;

    pub(super) const ONE: u8 = 1;
    pub(super) const BETWEEN: u8 = 2;
    pub(super) const AT_LEAST: u8 = 3;

    pub(super) const ABSENT: u8 = 0;
    pub(super) const PRESENT: u8 = 1;
    pub(super) const KEEP: u8 = 2;
}

impl Entry {
    /// The entry as it goes into the log.
    pub fn encode(&self) -> Bytes {
        self.command.encode_as(&self.actor)
    }

    /// Reads an entry back; its keys and values share the memory of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that no version of [`Entry::encode`] up to this one makes.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let actor = match reader.byte()? {
            FORMAT => Actor::Nobody,
            FORMAT_WITH_ACTOR => reader.actor()?,
            format => return Err(DecodeError::Format(format)),
        };
        let command = reader.command()?;
        reader.end()?;
        Ok(Self { actor, command })
    }
}

impl Command {
    /// The first release that has such commands, which all members must run before one is proposed. A new variant, or a
    /// new field in the log, is of the release that brings it.
    pub fn since(&self) -> Release {
        match self {
            Self::Put(_)
            | Self::DeleteRange(_)
            | Self::Txn(_)
            | Self::Compact(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::LeaseCheckpoint(_)
            | Self::Alarm(_)
            | Self::Settle
            | Self::Auth(_) => Release::FIRST,
        }
    }

    /// The entry of this command as the actor's: see [`Entry::encode`].
    pub fn encode_as(&self, actor: &Actor) -> Bytes {
        let mut out = vec![if *actor == Actor::Nobody { FORMAT } else { FORMAT_WITH_ACTOR }];
        auth::put_actor(&mut out, actor);
        self.put(&mut out);
        out.into()
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put(put) => out.tagged(tag::PUT).put(put),
            Self::DeleteRange(delete) => out.tagged(tag::DELETE_RANGE).delete_range(delete),
            Self::Txn(txn) => out.tagged(tag::TXN).txn(txn),
            Self::Compact(Compact { revision }) => out.tagged(tag::COMPACT).signed(*revision),
            Self::LeaseGrant(LeaseGrant { id, ttl }) => {
                out.tagged(tag::LEASE_GRANT).fixed(id.get());
                out.number(ttl.as_secs());
            }
            Self::LeaseRevoke(LeaseRevoke { ids }) => {
                out.tagged(tag::LEASE_REVOKE).list(ids, |out, id| out.fixed(id.get()));
            }
            Self::LeaseCheckpoint(LeaseCheckpoint { remaining }) => {
                out.tagged(tag::LEASE_CHECKPOINT).list(remaining, |out, (id, remaining)| {
                    out.fixed(id.get());
                    match remaining {
                        None => out.push(tag::ABSENT),
                        Some(remaining) => out.tagged(tag::PRESENT).number(remaining.as_secs()),
                    }
                });
            }
            Self::Alarm(AlarmChange { alarm: Alarm { kind, member }, raised }) => {
                out.tagged(tag::ALARM).tagged(kind.number()).fixed(member.cast_signed());
                out.flag(*raised);
            }
            Self::Settle => out.push(tag::SETTLE),
            Self::Auth(command) => auth::put_command(out.tagged(tag::AUTH), command),
        }
    }
}

impl Reader<'_> {
    fn command(&mut self) -> Result<Command, DecodeError> {
        Ok(match self.byte()? {
            tag::PUT => Command::Put(self.put()?),
            tag::DELETE_RANGE => Command::DeleteRange(self.delete_range()?),
            tag::TXN => Command::Txn(self.txn(TXN_DEPTH_MAX)?),
            tag::COMPACT => Command::Compact(Compact { revision: self.signed()? }),
            tag::LEASE_GRANT => Command::LeaseGrant(LeaseGrant { id: self.lease()?, ttl: self.seconds()? }),
            tag::LEASE_REVOKE => Command::LeaseRevoke(LeaseRevoke { ids: self.list(Reader::lease)? }),
            tag::LEASE_CHECKPOINT => {
                Command::LeaseCheckpoint(LeaseCheckpoint { remaining: self.list(Reader::checkpoint)? })
            }
            tag::ALARM => Command::Alarm(self.alarm_change()?),
            tag::SETTLE => Command::Settle,
            tag::AUTH => Command::Auth(self.auth()?),
            kind => return Err(DecodeError::Kind(kind)),
        })
    }
}

/// How the parts of a command are appended.
trait Write {
    fn tagged(&mut self, tag: u8) -> &mut Self;
    fn number(&mut self, value: u64);
    fn signed(&mut self, value: i64);
    fn fixed(&mut self, value: i64);
    fn flag(&mut self, value: bool);
    fn bytes(&mut self, bytes: &[u8]);
    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T));
    fn optional(&mut self, value: Option<i64>);
    fn keys(&mut self, keys: &KeyRange);
    fn put(&mut self, put: &Put);
    fn delete_range(&mut self, delete: &DeleteRange);
    fn txn(&mut self, txn: &Txn);
    fn compare(&mut self, compare: &Compare);
    fn op(&mut self, op: &Op);
    fn range(&mut self, range: &Range);
}

impl Write for Vec<u8> {
    fn tagged(&mut self, tag: u8) -> &mut Self {
        self.push(tag);
        self
    }

    fn number(&mut self, value: u64) {
        varint::put(self, value);
    }

    /// Small numbers of either sign take few bytes.
    fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// For numbers that are as likely large as small.
    fn fixed(&mut self, value: i64) {
        self.extend(value.to_be_bytes());
    }

    fn flag(&mut self, value: bool) {
        self.push(u8::from(value));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    fn optional(&mut self, value: Option<i64>) {
        match value {
            None => self.push(tag::ABSENT),
            Some(value) => self.tagged(tag::PRESENT).signed(value),
        }
    }

    fn keys(&mut self, keys: &KeyRange) {
        match keys {
            KeyRange::One(key) => self.tagged(tag::ONE).bytes(key),
            KeyRange::Between(start, end) => {
                self.tagged(tag::BETWEEN).bytes(start);
                self.bytes(end);
            }
            KeyRange::AtLeast(start) => self.tagged(tag::AT_LEAST).bytes(start),
        }
    }

    fn put(&mut self, put: &Put) {
        self.bytes(&put.key);
        match &put.value {
            PutValue::Set(value) => self.tagged(tag::PRESENT).bytes(value),
            PutValue::Keep => self.push(tag::KEEP),
        }
        match put.lease {
            PutLease::Set(None) => self.push(tag::ABSENT),
            PutLease::Set(Some(id)) => self.tagged(tag::PRESENT).fixed(id.get()),
            PutLease::Keep => self.push(tag::KEEP),
        }
        self.flag(put.prev_kv);
    }

    fn delete_range(&mut self, delete: &DeleteRange) {
        self.keys(&delete.keys);
        self.flag(delete.prev_kv);
    }

    fn txn(&mut self, txn: &Txn) {
        self.list(&txn.compares, Self::compare);
        self.list(&txn.success, Self::op);
        self.list(&txn.failure, Self::op);
    }

    fn compare(&mut self, compare: &Compare) {
        self.keys(&compare.keys);
        self.push(match compare.result {
            CompareResult::Equal => 1,
            CompareResult::Greater => 2,
            CompareResult::Less => 3,
            CompareResult::NotEqual => 4,
        });
        match &compare.target {
            CompareTarget::Version(number) => self.tagged(1).signed(*number),
            CompareTarget::CreateRevision(number) => self.tagged(2).signed(*number),
            CompareTarget::ModRevision(number) => self.tagged(3).signed(*number),
            CompareTarget::Value(value) => self.tagged(4).bytes(value),
            CompareTarget::Lease(number) => self.tagged(5).fixed(*number),
        }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Range(range) => self.tagged(tag::RANGE).range(range),
            Op::Put(put) => self.tagged(tag::PUT).put(put),
            Op::DeleteRange(delete) => self.tagged(tag::DELETE_RANGE).delete_range(delete),
            Op::Txn(txn) => self.tagged(tag::TXN).txn(txn),
        }
    }

    fn range(&mut self, range: &Range) {
        self.keys(&range.keys);
        self.optional(range.revision.map(types::Revision::get));
        self.number(range.limit.map_or(0, std::num::NonZeroU64::get));
        let Order { by, descending } = range.order;
        self.push(match by {
            OrderBy::Key => 1,
            OrderBy::Version => 2,
            OrderBy::CreateRevision => 3,
            OrderBy::ModRevision => 4,
            OrderBy::Value => 5,
        });
        self.flag(descending);
        self.push(match range.show {
            Show::Whole => 1,
            Show::KeysOnly => 2,
            Show::CountOnly => 3,
        });
        for Bounds { min, max } in [range.mod_revisions, range.create_revisions] {
            self.optional(min);
            self.optional(max);
        }
    }
}

#[cfg(test)]
mod tests;
