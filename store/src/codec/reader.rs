//! Commands read back.
//!
//! Owns: the exact inverse of what the parent module writes.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;
use types::{KeyRange, LeaseId, Revision};

use super::tag;
use crate::{
    Alarm, AlarmChange, AlarmKind, Bounds, Compare, CompareResult, CompareTarget, DecodeError, DeleteRange, Op, Order,
    OrderBy, Put, PutLease, PutValue, Range, Show, TokenDigest, Txn, varint,
};

type Result<T> = std::result::Result<T, DecodeError>;

/// Bytes that are still to be read.
pub(super) struct Reader<'a> {
    all: &'a Bytes,
    rest: &'a [u8],
}

fn malformed<T>(what: &'static str) -> Result<T> {
    Err(DecodeError::Malformed(what))
}

impl<'a> Reader<'a> {
    pub(super) fn new(all: &'a Bytes) -> Self {
        Self { all, rest: all }
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { malformed("something follows the command") }
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let Some((&byte, rest)) = self.rest.split_first() else { return malformed("cut short") };
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn number(&mut self) -> Result<u64> {
        varint::take(&mut self.rest).ok_or(DecodeError::Malformed("not a number"))
    }

    pub(super) fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    fn fixed(&mut self) -> Result<i64> {
        self.chunk().map(i64::from_be_bytes)
    }

    pub(super) fn digest(&mut self) -> Result<TokenDigest> {
        self.chunk()
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((&chunk, rest)) = self.rest.split_first_chunk() else { return malformed("cut short") };
        self.rest = rest;
        Ok(chunk)
    }

    fn flag(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => malformed("a flag is 0 or 1"),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes> {
        let len = self.number()?;
        let Some((bytes, rest)) = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len)) else {
            return malformed("cut short");
        };
        self.rest = rest;
        Ok(self.all.slice_ref(bytes))
    }

    /// Every item takes at least a byte, so a length that cannot be true takes no memory.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let len = self.number()?;
        if len > self.rest.len() as u64 {
            return malformed("cut short");
        }
        (0..len).map(|_| item(self)).collect()
    }

    fn optional(&mut self) -> Result<Option<i64>> {
        match self.byte()? {
            tag::ABSENT => Ok(None),
            tag::PRESENT => self.signed().map(Some),
            _ => malformed("there or not there"),
        }
    }

    pub(super) fn seconds(&mut self) -> Result<Duration> {
        self.number().map(Duration::from_secs)
    }

    pub(super) fn alarm_change(&mut self) -> Result<AlarmChange> {
        let kind = AlarmKind::from_number(self.byte()?).ok_or(DecodeError::Malformed("unknown alarm"))?;
        let alarm = Alarm { kind, member: self.fixed()?.cast_unsigned() };
        Ok(AlarmChange { alarm, raised: self.flag()? })
    }

    pub(super) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.into()).or(malformed("a text is UTF-8"))
    }

    pub(super) fn lease(&mut self) -> Result<LeaseId> {
        LeaseId::new(self.fixed()?).ok_or(DecodeError::Malformed("a lease is not 0"))
    }

    pub(super) fn checkpoint(&mut self) -> Result<(LeaseId, Option<Duration>)> {
        let id = self.lease()?;
        match self.byte()? {
            tag::ABSENT => Ok((id, None)),
            tag::PRESENT => Ok((id, Some(self.seconds()?))),
            _ => malformed("all or some of a lease is left"),
        }
    }

    pub(super) fn keys(&mut self) -> Result<KeyRange> {
        match self.byte()? {
            tag::ONE => self.bytes().map(KeyRange::One),
            tag::BETWEEN => Ok(KeyRange::Between(self.bytes()?, self.bytes()?)),
            tag::AT_LEAST => self.bytes().map(KeyRange::AtLeast),
            _ => malformed("unknown range"),
        }
    }

    pub(super) fn put(&mut self) -> Result<Put> {
        let key = self.bytes()?;
        let value = match self.byte()? {
            tag::PRESENT => PutValue::Set(self.bytes()?),
            tag::KEEP => PutValue::Keep,
            _ => return malformed("unknown value"),
        };
        let lease = match self.byte()? {
            tag::ABSENT => PutLease::Set(None),
            tag::PRESENT => PutLease::Set(Some(self.lease()?)),
            tag::KEEP => PutLease::Keep,
            _ => return malformed("unknown lease"),
        };
        Ok(Put { key, value, lease, prev_kv: self.flag()? })
    }

    pub(super) fn delete_range(&mut self) -> Result<DeleteRange> {
        Ok(DeleteRange { keys: self.keys()?, prev_kv: self.flag()? })
    }

    pub(super) fn txn(&mut self, depth: usize) -> Result<Txn> {
        let Some(depth) = depth.checked_sub(1) else { return malformed("nested too deep") };
        Ok(Txn {
            compares: self.list(Self::compare)?,
            success: self.list(|reader| reader.op(depth))?,
            failure: self.list(|reader| reader.op(depth))?,
        })
    }

    fn compare(&mut self) -> Result<Compare> {
        let keys = self.keys()?;
        let result = match self.byte()? {
            1 => CompareResult::Equal,
            2 => CompareResult::Greater,
            3 => CompareResult::Less,
            4 => CompareResult::NotEqual,
            _ => return malformed("unknown comparison"),
        };
        let target = match self.byte()? {
            1 => CompareTarget::Version(self.signed()?),
            2 => CompareTarget::CreateRevision(self.signed()?),
            3 => CompareTarget::ModRevision(self.signed()?),
            4 => CompareTarget::Value(self.bytes()?),
            5 => CompareTarget::Lease(self.fixed()?),
            _ => return malformed("unknown target"),
        };
        Ok(Compare { keys, result, target })
    }

    fn op(&mut self, depth: usize) -> Result<Op> {
        match self.byte()? {
            tag::RANGE => self.range().map(Op::Range),
            tag::PUT => self.put().map(Op::Put),
            tag::DELETE_RANGE => self.delete_range().map(Op::DeleteRange),
            tag::TXN => self.txn(depth).map(Op::Txn),
            _ => malformed("unknown operation"),
        }
    }

    fn range(&mut self) -> Result<Range> {
        Ok(Range {
            keys: self.keys()?,
            revision: self.revision()?,
            limit: NonZeroU64::new(self.number()?),
            order: self.order()?,
            show: match self.byte()? {
                1 => Show::Whole,
                2 => Show::KeysOnly,
                3 => Show::CountOnly,
                _ => return malformed("unknown detail"),
            },
            mod_revisions: self.bounds()?,
            create_revisions: self.bounds()?,
        })
    }

    fn revision(&mut self) -> Result<Option<Revision>> {
        let Some(revision) = self.optional()? else { return Ok(None) };
        Revision::new(revision).map(Some).ok_or(DecodeError::Malformed("a revision is positive"))
    }

    fn order(&mut self) -> Result<Order> {
        let by = match self.byte()? {
            1 => OrderBy::Key,
            2 => OrderBy::Version,
            3 => OrderBy::CreateRevision,
            4 => OrderBy::ModRevision,
            5 => OrderBy::Value,
            _ => return malformed("unknown order"),
        };
        Ok(Order { by, descending: self.flag()? })
    }

    fn bounds(&mut self) -> Result<Bounds> {
        Ok(Bounds { min: self.optional()?, max: self.optional()? })
    }
}
