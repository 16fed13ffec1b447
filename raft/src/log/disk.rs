//! Where the log lies on the engine, and what a member finds there when it starts.
//!
//! - An entry's key is its index, big-endian, so that the engine's order is the log's.
//! - Each start reads the whole log once: damage is found then, and not when a follower needs the entry.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Space};
use openraft::{AsyncRuntime, log_id::LogIdOptionExt, type_config::alias::AsyncRuntimeOf};
use rand::RngExt;

use super::tail::{Span, Tail};
use crate::{
    ClusterId, Config, MemberId, RaftError,
    codec::{self, Damage, Identity, Known, payload_bytes},
    types::{Entry, LogId, Types, Vote},
};

/// The key spaces that a member's log needs.
pub(crate) const SPACES: &[Space] = &[ENTRIES, META];

const ENTRIES: Space = Space::new("raft_log");
const META: Space = Space::new("raft_meta");

const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
/// Before a member's id, big-endian.
const KNOWN: &[u8] = b"known/";

/// A member's log as it was when the member stopped.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// This member's disk, with this start of it counted, from 1.
    pub(crate) own: Known,
    /// The disks of all members that this one was ever in touch with.
    pub(crate) known: BTreeMap<u64, Known>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    pub(super) tail: Tail,
}

/// Reads and checks the log, and counts this start. `applied` is what the state machine has applied.
///
/// # Errors
/// [`RaftError::Foreign`] for the log of another member, [`RaftError::Corrupt`] for a damaged or incomplete one; the log
/// is then as it was.
pub(crate) fn recover(engine: &Engine, config: &Config, applied: Option<&LogId>) -> Result<Recovered, RaftError> {
    let vote = meta(engine, VOTE, codec::decode_vote)?;
    let committed = meta(engine, COMMITTED, codec::decode_log_id)?;
    let purged = meta(engine, PURGED, codec::decode_log_id)?;
    let (last, tail) = scan(engine, purged, config.cache_bytes_max)?;
    if committed.as_ref() > last.as_ref() {
        let reason = format!("ends at {}, but {} was committed", last.next_index(), committed.next_index());
        return Err(corrupt("log", reason));
    }
    if vote.is_none() && applied.is_some() {
        return Err(corrupt("vote", "it is missing, but this member has applied entries"));
    }
    let known = acquaintances(engine)?;
    let own = count_start(engine, config, vote.is_none() && last.is_none())?;
    Ok(Recovered { own, known, vote, committed, purged, last, tail })
}

/// Checks whose log this is, or makes a new one ours, and counts the start.
fn count_start(engine: &Engine, config: &Config, is_new: bool) -> Result<Known, RaftError> {
    let Config { cluster, member, .. } = *config;
    let before = match meta(engine, IDENTITY, codec::decode_identity)? {
        Some(found) if (found.cluster, found.member) != (cluster.0, member.0) => {
            let (found_cluster, found_member) = (ClusterId(found.cluster), MemberId(found.member));
            return Err(RaftError::Foreign { cluster, member, found_cluster, found_member });
        }
        Some(found) => found.known,
        None if is_new => Known { incarnation: 0, starts: 0 },
        None => return Err(corrupt(IDENTITY, "it is missing, but the log is not empty")),
    };
    let incarnation = if before.incarnation == 0 { draw_incarnation() } else { before.incarnation };
    let known = Known { incarnation, starts: before.starts + 1 };
    let mut batch = Batch::new();
    let identity = Identity { cluster: cluster.0, member: member.0, known };
    batch.put(META, IDENTITY.as_bytes(), codec::encode_identity(&identity));
    engine.write(batch, Durability::Synced)?;
    Ok(known)
}

/// Any number but 0. From openraft's runtime, so that a simulation can repeat it.
fn draw_incarnation() -> u64 {
    AsyncRuntimeOf::<Types>::thread_rng().random_range(1..=u64::MAX)
}

fn acquaintances(engine: &Engine) -> Result<BTreeMap<u64, Known>, RaftError> {
    let mut known = BTreeMap::new();
    let mut cursor = engine.cursor(META)?;
    cursor.seek(KNOWN);
    while let Some((key, value)) = cursor.entry() {
        let Some(member) = key.strip_prefix(KNOWN) else { break };
        let member = <[u8; 8]>::try_from(member).map(u64::from_be_bytes);
        let member = member.map_err(|_| corrupt("acquaintance", "its key is not a member's id"))?;
        let disk = codec::decode_known(Bytes::copy_from_slice(value));
        let named = |damage: Damage| damage.of(format!("acquaintance {member:x}"));
        known.insert(member, disk.map_err(named)?);
        cursor.next();
    }
    cursor.status()?;
    Ok(known)
}

/// Reads every entry after `purged`: the last log id, and as much of the end as memory may hold.
fn scan(engine: &Engine, purged: Option<LogId>, bytes_max: usize) -> Result<(Option<LogId>, Tail), RaftError> {
    let first = purged.next_index();
    let (mut last, mut tail) = (purged, Tail::new(first, bytes_max));
    let whole = Span { start: 0, end: u64::MAX };
    for_each(engine, whole, |entry| {
        let LogId { leader_id, index } = entry.log_id;
        let expected = last.next_index();
        if index != expected {
            return Err(hole(expected));
        }
        if last.is_some_and(|last| last.leader_id > leader_id) {
            return Err(corrupt(&entry_name(index), "its term is older than that of the entry before it"));
        }
        last = Some(entry.log_id);
        tail.push(entry).map_err(|error| corrupt("log", error.to_string()))?;
        tail.written(index + 1);
        Ok(true)
    })?;
    Ok((last, tail))
}

/// The entries of `span` that are on the disk; once they have more than `bytes_max`, no further ones.
pub(super) fn read(engine: &Engine, span: Span, bytes_max: usize) -> Result<Vec<Entry>, RaftError> {
    let (mut entries, mut bytes) = (Vec::new(), 0_usize);
    for_each(engine, span, |entry| {
        bytes = bytes.saturating_add(payload_bytes(&entry));
        entries.push(entry);
        Ok(bytes <= bytes_max)
    })?;
    Ok(entries)
}

/// Visits the entries of `span` for as long as `visit` wants more.
fn for_each(
    engine: &Engine,
    span: Span,
    mut visit: impl FnMut(Entry) -> Result<bool, RaftError>,
) -> Result<(), RaftError> {
    let mut cursor = engine.cursor(ENTRIES)?;
    cursor.seek(&span.start.to_be_bytes());
    while let Some((key, value)) = cursor.entry() {
        let index = <[u8; 8]>::try_from(key).map(u64::from_be_bytes);
        let index = index.map_err(|_| corrupt("log", format!("key {key:?} is not an index")))?;
        if index >= span.end || !visit(entry(index, Bytes::copy_from_slice(value))?)? {
            break;
        }
        cursor.next();
    }
    Ok(cursor.status()?)
}

fn entry(index: u64, record: Bytes) -> Result<Entry, RaftError> {
    let entry = codec::decode_entry(record).map_err(|damage| damage.of(entry_name(index)))?;
    if entry.log_id.index == index {
        Ok(entry)
    } else {
        Err(corrupt(&entry_name(index), format!("it says it is entry {}", entry.log_id.index)))
    }
}

fn meta<T>(
    engine: &Engine,
    name: &str,
    decode: impl FnOnce(Bytes) -> Result<T, Damage>,
) -> Result<Option<T>, RaftError> {
    let record = engine.get(META, name.as_bytes())?;
    record.map(decode).transpose().map_err(|damage| damage.of(name))
}

/// An entry that the log must hold is not there.
pub(super) fn hole(index: u64) -> RaftError {
    corrupt(&entry_name(index), "it is missing")
}

fn entry_name(index: u64) -> String {
    format!("entry {index}")
}

fn corrupt(what: &str, reason: impl Into<String>) -> RaftError {
    RaftError::Corrupt { what: what.to_owned(), reason: reason.into() }
}

pub(super) fn put_entry(batch: &mut Batch, entry: &Entry) {
    batch.put(ENTRIES, key(entry.log_id.index), codec::encode_entry(entry));
}

pub(super) fn put_vote(batch: &mut Batch, vote: &Vote) {
    batch.put(META, VOTE.as_bytes(), codec::encode_vote(vote));
}

pub(super) fn put_committed(batch: &mut Batch, committed: &LogId) {
    batch.put(META, COMMITTED.as_bytes(), codec::encode_log_id(committed));
}

pub(super) fn put_known(batch: &mut Batch, member: u64, known: &Known) {
    batch.put(META, [KNOWN, &member.to_be_bytes()].concat(), codec::encode_known(known));
}

pub(super) fn truncate(batch: &mut Batch, from: u64) {
    batch.delete_range(ENTRIES, key(from), key(u64::MAX));
}

pub(super) fn purge(batch: &mut Batch, upto: &LogId) {
    batch.put(META, PURGED.as_bytes(), codec::encode_log_id(upto));
    batch.delete_range(ENTRIES, key(0), key(upto.index + 1));
}

fn key(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}
