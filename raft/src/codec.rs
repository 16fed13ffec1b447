//! How the log is written down.
//!
//! Owns: the bytes of entries, votes, log ids, the member's identity and the machine's record, independent of the
//!       version of any library.
//!
//! - A record is a format byte, its fields, and a CRC-32 of both; integers are big-endian.
//! - Whatever bytes are read, the outcome is a value that encodes to them again, or an error; never a panic, and never
//!   an allocation larger than the bytes themselves justify.

use std::{collections::BTreeSet, mem::size_of};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::{EmptyNode, EntryPayload};

use crate::types::{Entry, LogId, Membership, Proposal, StoredMembership, Tag, Vote, log_id};

/// The only format so far. A reader refuses what it does not know.
const FORMAT: u8 = 1;
const CRC_BYTES: usize = size_of::<u32>();

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it is cut short")]
    Short,
    #[error("its checksum does not match")]
    Checksum,
    #[error("format {0} is unknown to this version")]
    Format(u8),
    #[error("field {0} has an impossible value")]
    Value(&'static str),
    #[error("it is longer than its fields")]
    Long,
}

/// Whose log this is, and how often the member was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
    pub(crate) starts: u64,
}

/// What the machine stores with the effects of the entries it applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    seal(payload_bytes(entry) + 64, |out| {
        put_log_id(out, &entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => out.put_u8(0),
            EntryPayload::Normal(proposal) => {
                out.put_u8(1);
                put_proposal(out, proposal);
            }
            EntryPayload::Membership(membership) => {
                out.put_u8(2);
                put_membership(out, membership);
            }
        }
    })
}

pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, Damage> {
    open(bytes, |fields| {
        let log_id = fields.log_id()?;
        let payload = match fields.u8()? {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(fields.proposal()?),
            2 => EntryPayload::Membership(fields.membership()?),
            _ => return Err(Damage::Value("payload")),
        };
        Ok(Entry { log_id, payload })
    })
}

/// About how much memory the entry takes, and how long its record is.
pub(crate) fn payload_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(proposal) => proposal.bytes() + proposal.commands.len() * size_of::<u32>(),
        EntryPayload::Membership(membership) => {
            let voters: usize = membership.get_joint_config().iter().map(|voters| 4 + voters.len() * 8).sum();
            8 + voters + membership.nodes().count() * 8
        }
    }
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    seal(32, |out| {
        out.put_u64(vote.leader_id.term);
        out.put_u64(vote.leader_id.voted_for);
        out.put_u8(u8::from(vote.committed));
    })
}

pub(crate) fn decode_vote(bytes: Bytes) -> Result<Vote, Damage> {
    open(bytes, |fields| {
        let (term, voted_for) = (fields.u64()?, fields.u64()?);
        Ok(if fields.flag("committed")? { Vote::new_committed(term, voted_for) } else { Vote::new(term, voted_for) })
    })
}

pub(crate) fn encode_log_id(log_id: &LogId) -> Bytes {
    seal(32, |out| put_log_id(out, log_id))
}

pub(crate) fn decode_log_id(bytes: Bytes) -> Result<LogId, Damage> {
    open(bytes, Fields::log_id)
}

pub(crate) fn encode_identity(identity: &Identity) -> Bytes {
    seal(32, |out| {
        out.put_u64(identity.cluster);
        out.put_u64(identity.member);
        out.put_u64(identity.starts);
    })
}

pub(crate) fn decode_identity(bytes: Bytes) -> Result<Identity, Damage> {
    open(bytes, |fields| Ok(Identity { cluster: fields.u64()?, member: fields.u64()?, starts: fields.u64()? }))
}

pub(crate) fn encode_record(record: &Record) -> Bytes {
    seal(128, |out| {
        put_optional_log_id(out, record.applied.as_ref());
        put_optional_log_id(out, record.membership.log_id().as_ref());
        put_membership(out, record.membership.membership());
    })
}

pub(crate) fn decode_record(bytes: Bytes) -> Result<Record, Damage> {
    open(bytes, |fields| {
        let applied = fields.optional_log_id()?;
        let changed_at = fields.optional_log_id()?;
        Ok(Record { applied, membership: StoredMembership::new(changed_at, fields.membership()?) })
    })
}

/// A record around the fields that `write` puts.
fn seal(bytes: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes);
    out.put_u8(FORMAT);
    write(&mut out);
    let checksum = crc32fast::hash(&out);
    out.put_u32(checksum);
    out.freeze()
}

/// The value that `read` takes from a record's fields, all of them.
fn open<T>(mut bytes: Bytes, read: impl FnOnce(&mut Fields) -> Result<T, Damage>) -> Result<T, Damage> {
    if bytes.len() <= CRC_BYTES {
        return Err(Damage::Short);
    }
    let mut checksum = bytes.split_off(bytes.len() - CRC_BYTES);
    if checksum.get_u32() != crc32fast::hash(&bytes) {
        return Err(Damage::Checksum);
    }
    let mut fields = Fields(bytes);
    match fields.u8()? {
        FORMAT => {}
        other => return Err(Damage::Format(other)),
    }
    let value = read(&mut fields)?;
    if fields.0.is_empty() { Ok(value) } else { Err(Damage::Long) }
}

fn put_log_id(out: &mut BytesMut, log_id: &LogId) {
    out.put_u64(log_id.leader_id.term);
    out.put_u64(log_id.index);
}

fn put_optional_log_id(out: &mut BytesMut, log_id: Option<&LogId>) {
    out.put_u8(u8::from(log_id.is_some()));
    if let Some(log_id) = log_id {
        put_log_id(out, log_id);
    }
}

fn put_proposal(out: &mut BytesMut, proposal: &Proposal) {
    out.put_u64(proposal.tag.member);
    out.put_u64(proposal.tag.start);
    out.put_u64(proposal.tag.sequence);
    put_count(out, proposal.commands.len());
    for command in proposal.commands.iter() {
        put_count(out, command.len());
        out.put_slice(command);
    }
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    let configs = membership.get_joint_config();
    put_count(out, configs.len());
    for voters in configs {
        put_count(out, voters.len());
        for voter in voters {
            out.put_u64(*voter);
        }
    }
    put_count(out, membership.nodes().count());
    for (node, EmptyNode {}) in membership.nodes() {
        out.put_u64(*node);
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).expect("Config bounds commands and their number far below 2^32"));
}

/// What is left to read of a record.
struct Fields(Bytes);

impl Fields {
    fn u8(&mut self) -> Result<u8, Damage> {
        self.0.try_get_u8().map_err(|_| Damage::Short)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.0.try_get_u64().map_err(|_| Damage::Short)
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, Damage> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damage::Value(field)),
        }
    }

    /// How many items follow, each of at least `item_bytes`: no more than there is room for.
    fn count(&mut self, item_bytes: usize) -> Result<usize, Damage> {
        let count = self.0.try_get_u32().map_err(|_| Damage::Short)? as usize;
        if count > self.0.len() / item_bytes { Err(Damage::Short) } else { Ok(count) }
    }

    fn log_id(&mut self) -> Result<LogId, Damage> {
        Ok(log_id(self.u64()?, self.u64()?))
    }

    fn optional_log_id(&mut self) -> Result<Option<LogId>, Damage> {
        if self.flag("log id")? { self.log_id().map(Some) } else { Ok(None) }
    }

    fn proposal(&mut self) -> Result<Proposal, Damage> {
        let tag = Tag { member: self.u64()?, start: self.u64()?, sequence: self.u64()? };
        let commands = (0..self.count(size_of::<u32>())?).map(|_| self.command()).collect::<Result<_, _>>()?;
        Ok(Proposal { tag, commands })
    }

    fn command(&mut self) -> Result<Bytes, Damage> {
        let bytes = self.count(1)?;
        Ok(self.0.split_to(bytes))
    }

    fn membership(&mut self) -> Result<Membership, Damage> {
        let configs = (0..self.count(size_of::<u32>())?).map(|_| self.members()).collect::<Result<Vec<_>, _>>()?;
        let nodes = self.members()?;
        if configs.iter().flatten().any(|voter| !nodes.contains(voter)) {
            return Err(Damage::Value("voters"));
        }
        Ok(Membership::new_with_defaults(configs, nodes))
    }

    /// Ids in ascending order.
    fn members(&mut self) -> Result<BTreeSet<u64>, Damage> {
        let mut members = BTreeSet::new();
        for _ in 0..self.count(size_of::<u64>())? {
            let member = self.u64()?;
            if members.last().is_some_and(|last| *last >= member) {
                return Err(Damage::Value("members"));
            }
            members.insert(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests;
