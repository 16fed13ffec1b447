//! Where the log lies on the engine, and what a member finds there when it starts.
//!
//! - An entry's key is its index, big-endian, so that the engine's order is the log's.
//! - Each start reads the whole log once: damage is found then, and not when a follower needs the entry.

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Space};
use openraft::log_id::LogIdOptionExt;

use super::tail::{Span, Tail};
use crate::{
    ClusterId, Config, MemberId, RaftError,
    codec::{self, Damage, Identity},
    types::{Entry, LogId, Vote},
};

/// The key spaces that a member's log needs.
pub(crate) const SPACES: &[Space] = &[ENTRIES, META];

const ENTRIES: Space = Space::new("raft_log");
const META: Space = Space::new("raft_meta");

const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";

/// A member's log as it was when the member stopped.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Which start of the member this is, from 1.
    pub(crate) start: u64,
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
    let start = count_start(engine, config, vote.is_none() && last.is_none())?;
    Ok(Recovered { start, vote, committed, purged, last, tail })
}

/// Checks whose log this is, or makes a new one ours, and counts the start.
fn count_start(engine: &Engine, config: &Config, is_new: bool) -> Result<u64, RaftError> {
    let Config { cluster, member, .. } = *config;
    let starts = match meta(engine, IDENTITY, codec::decode_identity)? {
        Some(found) if (found.cluster, found.member) != (cluster.0, member.0) => {
            let (found_cluster, found_member) = (ClusterId(found.cluster), MemberId(found.member));
            return Err(RaftError::Foreign { cluster, member, found_cluster, found_member });
        }
        Some(found) => found.starts + 1,
        None if is_new => 1,
        None => return Err(corrupt(IDENTITY, "it is missing, but the log is not empty")),
    };
    let identity = Identity { cluster: cluster.0, member: member.0, starts };
    let mut batch = Batch::new();
    batch.put(META, IDENTITY.as_bytes(), codec::encode_identity(&identity));
    engine.write(batch, Durability::Synced)?;
    Ok(starts)
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
        Ok(())
    })?;
    Ok((last, tail))
}

/// The entries of `span` that are on the disk.
pub(super) fn read(engine: &Engine, span: Span) -> Result<Vec<Entry>, RaftError> {
    let mut entries = Vec::new();
    for_each(engine, span, |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

fn for_each(
    engine: &Engine,
    span: Span,
    mut visit: impl FnMut(Entry) -> Result<(), RaftError>,
) -> Result<(), RaftError> {
    let mut cursor = engine.cursor(ENTRIES)?;
    cursor.seek(&span.start.to_be_bytes());
    while let Some((key, value)) = cursor.entry() {
        let index = <[u8; 8]>::try_from(key).map(u64::from_be_bytes);
        let index = index.map_err(|_| corrupt("log", format!("key {key:?} is not an index")))?;
        if index >= span.end {
            break;
        }
        visit(entry(index, Bytes::copy_from_slice(value))?)?;
        cursor.next();
    }
    Ok(cursor.status()?)
}

fn entry(index: u64, record: Bytes) -> Result<Entry, RaftError> {
    let entry = codec::decode_entry(record).map_err(|damage| corrupt(&entry_name(index), damage.to_string()))?;
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
    record.map(decode).transpose().map_err(|damage| corrupt(name, damage.to_string()))
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
