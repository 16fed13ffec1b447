//! How the log is written down.
//!
//! Owns: the bytes of entries, votes, log ids, the member's identity and the machine's record, independent of the
//!       version of any library.
//!
//! - A record is a format byte, its fields, and a CRC-32 of both; integers are big-endian.
//! - Every older format is read, and a later one is told from damage: its checksum is right. Format 1 had no names and URLs of members, no removed members and no incarnation.
//! - Whatever bytes are read, the outcome is a value that encodes to them again, or an error; never a panic, and never
//!   an allocation larger than the bytes themselves justify.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::size_of,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EntryPayload;

use crate::{
    RaftError,
    life::{Disk, Held, Known, SESSIONS_MAX},
    node::{Node, Roster},
    types::{COUNT_MAX, Entry, LogId, Membership, Proposal, StoredMembership, Tag, Vote, log_id},
};

/// The format that is written, since release 0.1. A reader refuses what it does not know: a further format is read by one
/// release, and written by the next.
pub(crate) const FORMAT: u8 = 2;
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

impl Damage {
    /// Whether nothing is wrong but that a later release has written it; in which format.
    pub(crate) fn later(self) -> Option<u8> {
        match self {
            Self::Format(format) if format > FORMAT => Some(format),
            _ => None,
        }
    }

    /// Why this member cannot go on with what it read.
    pub(crate) fn of(self, what: impl Into<String>) -> RaftError {
        let what = what.into();
        match self.later() {
            Some(format) => RaftError::Later { what, format },
            None => RaftError::Corrupt { what, reason: self.to_string() },
        }
    }
}

/// Whose log this is, and on which disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: u64,
    pub(crate) member: u64,
    pub(crate) disk: Disk,
}

/// The sessions of a member's last starts, the last one's first. Beside the identity, since release 0.1 knows none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// How often the member had been started then. Release 0.1 counts its starts, and leaves this as it was.
    pub(crate) starts: u64,
    pub(crate) sessions: Vec<u64>,
}

/// What the machine stores with the effects of the entries it applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) applied: Option<LogId>,
    pub(crate) roster: Roster,
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
            8 + voters + membership.nodes().map(|(_, node)| 8 + node_bytes(node)).sum::<usize>()
        }
    }
}

fn node_bytes(node: &Node) -> usize {
    let texts = [&node.name].into_iter().chain(&node.peer_urls).chain(&node.client_urls);
    1 + 2 * size_of::<u32>() + texts.map(|text| size_of::<u32>() + text.len()).sum::<usize>()
}

/// A proposal on its way to the leader.
pub(crate) fn encode_proposal(proposal: &Proposal) -> Bytes {
    let bytes = proposal.bytes() + proposal.commands.len() * size_of::<u32>();
    seal(bytes + 64, |out| put_proposal(out, proposal))
}

pub(crate) fn decode_proposal(bytes: Bytes) -> Result<Proposal, Damage> {
    open(bytes, Fields::proposal)
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
        let (term, voted_for) = (fields.counted("term")?, fields.u64()?);
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
        out.put_u64(identity.disk.starts);
        out.put_u64(identity.disk.incarnation);
    })
}

pub(crate) fn decode_identity(bytes: Bytes) -> Result<Identity, Damage> {
    open(bytes, |fields| {
        let (cluster, member, starts) = (fields.u64()?, fields.u64()?, fields.counted("starts")?);
        let incarnation = if fields.format > 1 { fields.u64()? } else { 0 };
        Ok(Identity { cluster, member, disk: Disk { incarnation, starts } })
    })
}

pub(crate) fn encode_sessions(Sessions { starts, sessions }: &Sessions) -> Bytes {
    seal(32 + sessions.len() * size_of::<u64>(), |out| {
        out.put_u64(*starts);
        put_count(out, sessions.len());
        for session in sessions {
            out.put_u64(*session);
        }
    })
}

pub(crate) fn decode_sessions(bytes: Bytes) -> Result<Sessions, Damage> {
    open(bytes, |fields| {
        let starts = fields.u64()?;
        let count = fields.count(size_of::<u64>())?;
        if count > SESSIONS_MAX {
            return Err(Damage::Value("sessions"));
        }
        Ok(Sessions { starts, sessions: (0..count).map(|_| fields.u64()).collect::<Result<_, _>>()? })
    })
}

pub(crate) fn encode_disk(disk: &Disk) -> Bytes {
    seal(32, |out| {
        out.put_u64(disk.incarnation);
        out.put_u64(disk.starts);
    })
}

pub(crate) fn decode_disk(bytes: Bytes) -> Result<Disk, Damage> {
    open(bytes, |fields| Ok(Disk { incarnation: fields.u64()?, starts: fields.u64()? }))
}

/// All that is remembered of a member; its disk once more, to tell whether release 0.1 has remembered a later start since.
pub(crate) fn encode_known(known: &Known) -> Bytes {
    seal(64, |out| {
        out.put_u64(known.disk.incarnation);
        out.put_u64(known.disk.starts);
        out.put_u64(known.session);
        out.put_u64(known.held.map_or(0, |held| held.starts));
        put_optional_log_id(out, known.held.map(|held| held.log_id).as_ref());
    })
}

pub(crate) fn decode_known(bytes: Bytes) -> Result<Known, Damage> {
    open(bytes, |fields| {
        let disk = Disk { incarnation: fields.u64()?, starts: fields.u64()? };
        let (session, starts) = (fields.u64()?, fields.u64()?);
        let held = fields.optional_log_id()?.map(|log_id| Held { starts, log_id });
        if held.is_none() && starts != 0 {
            return Err(Damage::Value("starts"));
        }
        Ok(Known { disk, session, held })
    })
}

pub(crate) fn encode_record(record: &Record) -> Bytes {
    let Roster { membership, removed } = &record.roster;
    seal(256, |out| {
        put_optional_log_id(out, record.applied.as_ref());
        put_optional_log_id(out, membership.log_id().as_ref());
        put_membership(out, membership.membership());
        put_members(out, removed);
    })
}

pub(crate) fn decode_record(bytes: Bytes) -> Result<Record, Damage> {
    open(bytes, |fields| {
        let applied = fields.optional_log_id()?;
        let changed_at = fields.optional_log_id()?;
        let membership = StoredMembership::new(changed_at, fields.membership()?);
        let removed = if fields.format > 1 { fields.members()? } else { BTreeSet::new() };
        Ok(Record { applied, roster: Roster { membership, removed } })
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
    let format = bytes.get_u8();
    if !(1..=FORMAT).contains(&format) {
        return Err(Damage::Format(format));
    }
    let mut fields = Fields { format, rest: bytes };
    let value = read(&mut fields)?;
    if fields.rest.is_empty() { Ok(value) } else { Err(Damage::Long) }
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
    out.put_u64(proposal.tag.session);
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
        put_members(out, voters);
    }
    put_count(out, membership.nodes().count());
    for (member, node) in membership.nodes() {
        out.put_u64(*member);
        put_text(out, &node.name);
        put_texts(out, &node.peer_urls);
        put_texts(out, &node.client_urls);
        out.put_u8(u8::from(node.wants_vote));
    }
}

fn put_members(out: &mut BytesMut, members: &BTreeSet<u64>) {
    put_count(out, members.len());
    for member in members {
        out.put_u64(*member);
    }
}

fn put_texts(out: &mut BytesMut, texts: &[String]) {
    put_count(out, texts.len());
    for text in texts {
        put_text(out, text);
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_count(out, text.len());
    out.put_slice(text.as_bytes());
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).expect("Config bounds commands and their number far below 2^32"));
}

/// What is left to read of a record of some format.
struct Fields {
    format: u8,
    rest: Bytes,
}

impl Fields {
    fn u8(&mut self) -> Result<u8, Damage> {
        self.rest.try_get_u8().map_err(|_| Damage::Short)
    }

    fn u64(&mut self) -> Result<u64, Damage> {
        self.rest.try_get_u64().map_err(|_| Damage::Short)
    }

    fn counted(&mut self, field: &'static str) -> Result<u64, Damage> {
        let count = self.u64()?;
        if count > COUNT_MAX { Err(Damage::Value(field)) } else { Ok(count) }
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
        let count = self.rest.try_get_u32().map_err(|_| Damage::Short)? as usize;
        if count > self.rest.len() / item_bytes { Err(Damage::Short) } else { Ok(count) }
    }

    fn log_id(&mut self) -> Result<LogId, Damage> {
        Ok(log_id(self.counted("term")?, self.counted("index")?))
    }

    fn optional_log_id(&mut self) -> Result<Option<LogId>, Damage> {
        if self.flag("log id")? { self.log_id().map(Some) } else { Ok(None) }
    }

    fn proposal(&mut self) -> Result<Proposal, Damage> {
        let tag = Tag { member: self.u64()?, session: self.u64()?, sequence: self.u64()? };
        let commands = (0..self.count(size_of::<u32>())?).map(|_| self.command()).collect::<Result<_, _>>()?;
        Ok(Proposal { tag, commands })
    }

    fn command(&mut self) -> Result<Bytes, Damage> {
        let bytes = self.count(1)?;
        Ok(self.rest.split_to(bytes))
    }

    fn membership(&mut self) -> Result<Membership, Damage> {
        let configs = (0..self.count(size_of::<u32>())?).map(|_| self.members()).collect::<Result<Vec<_>, _>>()?;
        let nodes = if self.format > 1 { self.nodes()? } else { self.ids()? };
        Membership::new(configs, nodes).map_err(|_| Damage::Value("voters"))
    }

    fn ids(&mut self) -> Result<BTreeMap<u64, Node>, Damage> {
        Ok(self.members()?.into_iter().map(|member| (member, Node::default())).collect())
    }

    /// Members in the ascending order of their ids.
    fn nodes(&mut self) -> Result<BTreeMap<u64, Node>, Damage> {
        let mut nodes = BTreeMap::new();
        for _ in 0..self.count(size_of::<u64>() + 3 * size_of::<u32>() + 1)? {
            let member = self.u64()?;
            if nodes.last_key_value().is_some_and(|(last, _)| *last >= member) {
                return Err(Damage::Value("members"));
            }
            let (name, peer_urls, client_urls) = (self.text()?, self.texts()?, self.texts()?);
            let wants_vote = self.flag("wants_vote")?;
            let node = Node { name, peer_urls, client_urls, wants_vote };
            nodes.insert(member, node);
        }
        Ok(nodes)
    }

    fn texts(&mut self) -> Result<Vec<String>, Damage> {
        (0..self.count(size_of::<u32>())?).map(|_| self.text()).collect()
    }

    fn text(&mut self) -> Result<String, Damage> {
        let bytes = self.count(1)?;
        String::from_utf8(self.rest.split_to(bytes).into()).map_err(|_| Damage::Value("text"))
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
