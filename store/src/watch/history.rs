//! The past, for watchers that lag.
//!
//! Owns: reading revisions back from the engine.
//!
//! - A revision is read whole or not at all.
//! - Only what somebody wants is read beyond its place in history.

use std::sync::Arc;

use bytes::Bytes;
use engine::Read;
use types::{LeaseId, Revision};

use super::{Change, Event, RevisionEvents};
use crate::{
    StoreError,
    layout::{self, Row, Written},
    view::Shared,
};

/// Rows and bytes after which a stretch ends, at the next revision: what a stream reads between two looks at its queue.
const ROWS_MAX: usize = 512;
const BYTES_MAX: usize = 1 << 20;

/// Consecutive revisions.
pub(super) struct Stretch {
    /// Those that hold something wanted, with nothing else in them.
    pub(super) revisions: Vec<Arc<RevisionEvents>>,
    /// The last one that was read.
    pub(super) through: Revision,
}

/// Reads from `from` up to `to`, or less. What a sweep took meanwhile is missing: the caller looks at the compaction.
pub(super) fn read(
    shared: &Shared,
    from: Revision,
    to: Revision,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Stretch, StoreError> {
    let mut stretch = Stretch { revisions: Vec::new(), through: to };
    let (mut rows, mut bytes) = (0, 0);
    let mut reading: Option<(Revision, Vec<Event>)> = None;
    let mut cursor = shared.engine.cursor(layout::HISTORY)?;
    cursor.seek(&layout::history_key(layout::Point { revision: from, place: 0 }));
    while let Some((key, row)) = cursor.entry() {
        let revision = layout::history_point(key)?.revision;
        if reading.as_ref().is_none_or(|(current, _)| *current != revision) {
            bytes += stretch.add(reading.take());
            if revision > to {
                return Ok(stretch);
            }
            if rows >= ROWS_MAX || bytes >= BYTES_MAX {
                stretch.through = revision.previous().unwrap_or(revision);
                return Ok(stretch);
            }
            reading = Some((revision, Vec::new()));
        }
        let written = Written::decode(row)?;
        if wanted(written.key)
            && let (Some((_, events)), Some(event)) = (&mut reading, event(shared, revision, written)?)
        {
            events.push(event);
        }
        rows += 1;
        cursor.next();
    }
    cursor.status()?;
    stretch.add(reading);
    Ok(stretch)
}

/// The deletes of a lease that ended with many keys, wherever its deleting has come to by now; `None` if some may be
/// compacted.
pub(super) fn ended(
    shared: &Shared,
    revision: Revision,
    lease: LeaseId,
) -> Result<Option<Arc<RevisionEvents>>, StoreError> {
    let pinned = shared.engine.pin();
    let mut events = Vec::new();
    let mut cursor = pinned.cursor(layout::HISTORY)?;
    cursor.seek(&layout::history_key(layout::Point { revision, place: 0 }));
    while let Some((key, row)) = cursor.entry() {
        if layout::history_point(key)?.revision != revision {
            break;
        }
        let Written { key, superseded, .. } = Written::decode(row)?;
        let change = Change::Delete { key: Bytes::copy_from_slice(key), revision };
        events.push(Event::new(change, superseded.map(|point| point.revision)));
        cursor.next();
    }
    cursor.status()?;
    // What has no delete yet is attached still; nothing else can be before the lease is granted anew.
    if layout::endings(&pinned)?.iter().any(|ending| ending.revision == revision) {
        let keys = layout::attached(&pinned, lease)?;
        events.extend(keys.into_iter().map(|key| Event::replacing_newest(Change::Delete { key, revision })));
    }
    let is_whole = shared.published().compacted.0 < revision.get();
    Ok(is_whole.then(|| RevisionEvents::new(revision, events)))
}

impl Stretch {
    /// Adds a revision that was read whole; returns its bytes.
    fn add(&mut self, read: Option<(Revision, Vec<Event>)>) -> usize {
        let Some((revision, events)) = read.filter(|(_, events)| !events.is_empty()) else { return 0 };
        let revision = RevisionEvents::new(revision, events);
        let bytes = revision.bytes;
        self.revisions.push(revision);
        bytes
    }
}

/// One step of history as an event; `None` if its version has been swept.
fn event(shared: &Shared, revision: Revision, written: Written<'_>) -> Result<Option<Event>, StoreError> {
    let key = Bytes::copy_from_slice(written.key);
    let superseded = written.superseded.map(|point| point.revision);
    if written.deleted {
        return Ok(Some(Event::new(Change::Delete { key, revision }, superseded)));
    }
    let Some(row) = shared.engine.get(layout::KEYS, &layout::version_key(&key, revision))? else { return Ok(None) };
    let Row::Put(meta, value) = Row::decode(&row)? else {
        return Err(layout::corrupt(layout::KEYS, "a put of history is a tombstone"));
    };
    let value = row.slice_ref(value);
    Ok(Some(Event::new(Change::Put(meta.key_value(key, value, revision)), superseded)))
}
