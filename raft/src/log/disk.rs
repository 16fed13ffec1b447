//! Where the log lies on the engine, and what a member finds there when it starts.
//!
//! - An entry's key is its index, big-endian, so that the engine's order is the log's.
//! - Each start reads the whole log once: damage is found then, and not when a follower needs the entry.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Space};
use openraft::{AsyncRuntime, EntryPayload, log_id::LogIdOptionExt, type_config::alias::AsyncRuntimeOf};
use rand::RngExt;

use super::tail::{Span, Tail};
use crate::{
    ClusterId, Config, MemberId, RaftError,
    codec::{self, Damage, Identity, Sessions, payload_bytes},
    life::{Disk, Known, Life, SESSIONS_MAX},
    types::{COUNT_MAX, Entry, LogId, StoredMembership, Types, Vote, log_id},
};

/// The key spaces that a member's log needs.
pub(crate) const SPACES: &[Space] = &[ENTRIES, META];

const ENTRIES: Space = Space::new("raft_log");
const META: Space = Space::new("raft_meta");

const IDENTITY: &str = "identity";
const SESSIONS: &str = "sessions";
/// Why this disk is not to be used any more, in words.
const FORGETFUL: &str = "forgetful";
/// The last start was told to make this member the only one.
const FORCED: &str = "forced";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
/// Before a member's id, big-endian.
const KNOWN: &[u8] = b"known/";
/// Likewise: what release 0.1 does not know of it.
const LIFE: &[u8] = b"life/";

/// A member's log as it was when the member stopped.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// What this member shows of itself, with this start counted, from 1.
    pub(crate) own: Life,
    /// What is remembered of all members that this one was ever in touch with.
    pub(crate) known: BTreeMap<u64, Known>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    /// The last one in the log, if there is any.
    pub(super) membership: Option<StoredMembership>,
    pub(super) tail: Tail,
}

/// What reading all of the log comes to.
struct Scanned {
    last: Option<LogId>,
    membership: Option<StoredMembership>,
    tail: Tail,
}

/// Reads and checks the log, and counts this start. `applied` is what the state machine has applied.
///
/// # Errors
/// [`RaftError::Foreign`] for the log of another member, [`RaftError::Corrupt`] for a damaged or incomplete one,
/// [`RaftError::Forgetful`] for one that another member has refused; the log is then as it was.
pub(crate) fn recover(engine: &Engine, config: &Config, applied: Option<&LogId>) -> Result<Recovered, RaftError> {
    if let Some(reason) = engine.get(META, FORGETFUL.as_bytes())? {
        return Err(RaftError::Forgetful { reason: String::from_utf8_lossy(&reason).into_owned() });
    }
    let vote = meta(engine, VOTE, codec::decode_vote)?;
    let committed = meta(engine, COMMITTED, codec::decode_log_id)?;
    let purged = meta(engine, PURGED, codec::decode_log_id)?;
    let Scanned { last, membership, tail } = scan(engine, purged, config.cache_bytes_max)?;
    if committed.as_ref() > last.as_ref() {
        let reason = format!("ends at {}, but {} was committed", last.next_index(), committed.next_index());
        return Err(corrupt("log", reason));
    }
    if vote.is_none() && applied.is_some() {
        return Err(corrupt("vote", "it is missing, but this member has applied entries"));
    }
    let known = acquaintances(engine)?;
    let (disk, sessions) = count_start(engine, config, vote.is_none() && last.is_none())?;
    // An image may be installed, and the log not yet be cut for it.
    let found = last.max(applied.copied()).unwrap_or(log_id(0, 0));
    let own = Life { disk, sessions, found: Some(found) };
    Ok(Recovered { own, known, vote, committed, purged, last, membership, tail })
}

/// Checks whose log this is, or makes a new one ours, and counts the start; gives the sessions of the last ones.
fn count_start(engine: &Engine, config: &Config, is_new: bool) -> Result<(Disk, Vec<u64>), RaftError> {
    let Config { cluster, member, .. } = *config;
    let before = match meta(engine, IDENTITY, codec::decode_identity)? {
        Some(found) if (found.cluster, found.member) != (cluster.0, member.0) => {
            let (found_cluster, found_member) = (ClusterId(found.cluster), MemberId(found.member));
            return Err(RaftError::Foreign { cluster, member, found_cluster, found_member });
        }
        Some(found) => found.disk,
        None if is_new => Disk { incarnation: 0, starts: 0 },
        None => return Err(corrupt(IDENTITY, "it is missing, but the log is not empty")),
    };
    let earlier = meta(engine, SESSIONS, codec::decode_sessions)?;
    let incarnation = if before.incarnation == 0 { draw() } else { before.incarnation };
    let disk = Disk { incarnation, starts: before.starts + 1 };
    let sessions = Sessions { starts: disk.starts, sessions: sessions(earlier, before.starts) };
    let mut batch = Batch::new();
    let identity = Identity { cluster: cluster.0, member: member.0, disk };
    batch.put(META, IDENTITY.as_bytes(), codec::encode_identity(&identity));
    batch.put(META, SESSIONS.as_bytes(), codec::encode_sessions(&sessions));
    engine.write(batch, Durability::Synced)?;
    Ok((disk, sessions.sessions))
}

/// A new session, and before it those of the `starts` up to now; none of those that release 0.1 has counted.
fn sessions(earlier: Option<Sessions>, starts: u64) -> Vec<u64> {
    let earlier = earlier.unwrap_or(Sessions { starts, sessions: Vec::new() });
    let unknown = usize::try_from(starts.saturating_sub(earlier.starts)).unwrap_or(SESSIONS_MAX).min(SESSIONS_MAX);
    let before = std::iter::repeat_n(0, unknown).chain(earlier.sessions);
    std::iter::once(draw()).chain(before).take(SESSIONS_MAX).collect()
}

/// Any number but 0. From openraft's runtime, so that a simulation can repeat it.
fn draw() -> u64 {
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
        let named = |damage: Damage| damage.of(format!("acquaintance {member:x}"));
        let disk = codec::decode_disk(Bytes::copy_from_slice(value)).map_err(named)?;
        let life = engine.get(META, &[LIFE, &member.to_be_bytes()].concat())?;
        let life = life.map(codec::decode_known).transpose().map_err(named)?;
        let session = life.filter(|life| life.disk == disk).map_or(0, |life| life.session);
        let held = life.filter(|life| life.disk.incarnation == disk.incarnation).and_then(|life| life.held);
        known.insert(member, Known { disk, session, held });
        cursor.next();
    }
    cursor.status()?;
    Ok(known)
}

/// Reads every entry after `purged`, and keeps as much of the end as memory may hold.
fn scan(engine: &Engine, purged: Option<LogId>, bytes_max: usize) -> Result<Scanned, RaftError> {
    let first = purged.next_index();
    let (mut last, mut membership, mut tail) = (purged, None, Tail::new(first, bytes_max));
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
        if let EntryPayload::Membership(changed) = &entry.payload {
            membership = Some(StoredMembership::new(last, changed.clone()));
        }
        tail.push(entry).map_err(|error| corrupt("log", error.to_string()))?;
        tail.written(index + 1);
        Ok(true)
    })?;
    Ok(Scanned { last, membership, tail })
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
        if index > COUNT_MAX {
            return Err(corrupt(&entry_name(index), "no log comes that far"));
        }
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

pub(super) fn corrupt(what: &str, reason: impl Into<String>) -> RaftError {
    RaftError::Corrupt { what: what.to_owned(), reason: reason.into() }
}

/// Puts a record where what bears that number lies; that of an entry where it says that it belongs, or a little off.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn put_record(batch: &mut Batch, what: u8, record: Bytes) {
    let index = record.get(9..17).and_then(|index| index.try_into().ok()).map_or(0, u64::from_be_bytes);
    match what {
        0 => batch.put(META, IDENTITY.as_bytes(), record),
        1 => batch.put(META, VOTE.as_bytes(), record),
        2 => batch.put(META, COMMITTED.as_bytes(), record),
        3 => batch.put(META, PURGED.as_bytes(), record),
        4 => batch.put(META, [KNOWN, &index.to_be_bytes()].concat(), record),
        6 => batch.put(META, [LIFE, &index.to_be_bytes()].concat(), record),
        7 => batch.put(META, SESSIONS.as_bytes(), record),
        5 | 8..=250 => batch.put(ENTRIES, key(index), record),
        off => batch.put(ENTRIES, key(u64::from(off)), record),
    }
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
    batch.put(META, [KNOWN, &member.to_be_bytes()].concat(), codec::encode_disk(&known.disk));
    batch.put(META, [LIFE, &member.to_be_bytes()].concat(), codec::encode_known(known));
}

pub(super) fn put_forgetful(batch: &mut Batch, reason: &str) {
    batch.put(META, FORGETFUL.as_bytes(), reason.to_owned());
}

/// Whether the last start was told to make this member the only one.
pub(super) fn was_forced(engine: &Engine) -> Result<bool, RaftError> {
    Ok(engine.get(META, FORCED.as_bytes())?.is_some())
}

pub(super) fn put_forced(batch: &mut Batch, is_forced: bool) {
    if is_forced {
        batch.put(META, FORCED.as_bytes(), Bytes::new());
    } else {
        batch.delete(META, FORCED.as_bytes());
    }
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
