//! Reading the present.
//!
//! - A read here answers what [`Snapshot::range`](crate::snapshot::Snapshot::range) would at the published revision, and
//!   leaves to it what is better walked: many values, another order, filters, keys of leases that are being ended.
//! - Rows that were written or read lately are in memory; only for others the engine is asked.
//! - The index is held while a cursor is made, and never while rows are read.

use bytes::Bytes;
use engine::Cursor;
use types::{KeyRange, Revision};

use super::{Entry, Newest};
use crate::{
    Order, Range, RangeAnswer, Show, StoreError,
    layout::{self, KEYS, Row, corrupt},
    snapshot::{Found, Outcome, Pick},
    view::{Head, Shared},
};

/// Most keys whose rows are gone to one by one.
const LED_KEYS_MAX: usize = 10_000;
/// Rows that are stepped over one by one before a seek is tried: a seek costs about as much as this many steps.
const STEPS_BEFORE_SEEK: usize = 8;

/// The keys of a range at the published revision, if they take no more than so many bytes; `None` if the index is of no
/// help, as with any other revision.
pub(crate) fn latest(shared: &Shared, range: &Range, bytes_max: usize) -> Result<Option<Outcome>, StoreError> {
    if !is_plain(range) {
        return Ok(None);
    }
    match (&range.keys, range.show) {
        (KeyRange::One(key), Show::Whole) => Ok(one(shared, range, key)?.map(Outcome::Whole)),
        _ => several(shared, range, bytes_max),
    }
}

/// The same, if it takes no disk and at most `keys_max` keys.
pub(crate) fn remembered(shared: &Shared, range: &Range, keys_max: usize) -> Result<Option<RangeAnswer>, StoreError> {
    if !is_plain(range) {
        return Ok(None);
    }
    let Some((found, ())) = Index::look(shared, range, keys_max, |_| Ok(()))? else { return Ok(None) };
    let outcome = found.answer(Pick::new(range), |entry| Ok(shared.recent.get(entry.newest.point())))?;
    Ok(outcome.and_then(Outcome::whole))
}

fn is_plain(range: &Range) -> bool {
    range.order == Order::default() && !range.is_filtered()
}

/// Whether the index tells what is asked for: who reads page by page names the revision of the first page, which often is
/// the present still.
fn is_of(head: &Head, range: &Range) -> bool {
    head.is_settled && range.revision.is_none_or(|revision| revision == head.published.revision)
}

fn one(shared: &Shared, range: &Range, key: &Bytes) -> Result<Option<RangeAnswer>, StoreError> {
    let versions = layout::versions_of(key);
    let mut missing = None;
    loop {
        let (revision, newest) = {
            let head = shared.head.read();
            if !is_of(&head, range) {
                return Ok(None);
            }
            (head.published.revision, head.living.get(&versions))
        };
        let mut pick = Pick::new(range);
        let Some(newest) = newest else { return Ok(Some(pick.answer(revision))) };
        if let Some(row) = shared.version(&versions, newest)? {
            pick.see(&found(&versions, newest, &row)?)?;
            return Ok(Some(pick.answer(revision)));
        }
        // It was superseded, compacted and swept between the two looks; once. Then there is a newer one.
        if missing.replace(newest) == Some(newest) {
            return Err(lost());
        }
    }
}

fn several(shared: &Shared, range: &Range, bytes_max: usize) -> Result<Option<Outcome>, StoreError> {
    // Pinned with the index, so that no sweep takes a row that the index names.
    let cursor = |wanted| (wanted > 0).then(|| shared.engine.cursor(KEYS)).transpose();
    let Some((found, cursor)) = Index::look(shared, range, LED_KEYS_MAX, cursor)? else { return Ok(None) };
    let mut rows = cursor.map(Led::new);
    found.answer(Pick::within(range, bytes_max), |entry| {
        let point = entry.newest.point();
        if let Some(row) = shared.recent.get(point) {
            return Ok(Some(row));
        }
        let Some(rows) = &mut rows else { return Ok(None) };
        let row = rows.go_to(entry)?;
        shared.recent.insert(point, row.clone());
        Ok(Some(row))
    })
}

/// What the index says of a range at one moment.
struct Index {
    revision: Revision,
    count: usize,
    /// The keys that are wanted, in order.
    keys: Vec<Entry>,
}

impl Index {
    /// `with` is called before the index moves on, with the number of keys whose values are wanted. `None` if the index
    /// does not tell the truth, or if more than `keys_max` keys are wanted.
    fn look<T>(
        shared: &Shared,
        range: &Range,
        keys_max: usize,
        with: impl FnOnce(usize) -> Result<T, engine::EngineError>,
    ) -> Result<Option<(Self, T)>, StoreError> {
        let (start, end) = layout::bounds(&range.keys);
        let limit = range.limit.map_or(usize::MAX, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
        let head = shared.head.read();
        let count = head.living.count(&start, end.as_deref());
        let wanted = if range.show == Show::CountOnly { 0 } else { count.min(limit) };
        if !is_of(&head, range) || wanted > keys_max {
            return Ok(None);
        }
        let keys = head.living.from(&start).take(wanted).collect();
        let with = with(if range.show == Show::Whole { wanted } else { 0 })?;
        Ok(Some((Self { revision: head.published.revision, count, keys }, with)))
    }

    /// `None` if a row is wanted that `row` does not give.
    fn answer(
        self,
        mut pick: Pick<'_>,
        mut row: impl FnMut(&Entry) -> Result<Option<Bytes>, StoreError>,
    ) -> Result<Option<Outcome>, StoreError> {
        for entry in &self.keys {
            let Entry { versions, newest } = entry;
            if pick.is_too_long() {
                break;
            }
            if pick.shows(Show::Whole) {
                let Some(row) = row(entry)? else { return Ok(None) };
                pick.see(&found(versions, *newest, &row)?)?;
            } else {
                pick.see(&Found { versions, modified: newest.modified, meta: newest.meta, value: &[], row: None })?;
            }
        }
        pick.pass_over(self.count - self.keys.len());
        Ok(Some(pick.outcome(self.revision)))
    }
}

/// A walk from one newest version to the next.
struct Led<'a> {
    cursor: Cursor<'a>,
    target: Vec<u8>,
    is_placed: bool,
}

impl<'a> Led<'a> {
    fn new(cursor: Cursor<'a>) -> Self {
        Self { cursor, target: Vec::new(), is_placed: false }
    }

    fn go_to(&mut self, Entry { versions, newest }: &Entry) -> Result<Bytes, StoreError> {
        layout::version_key_at(&mut self.target, versions, newest.modified);
        let mut steps = if self.is_placed { 0 } else { STEPS_BEFORE_SEEK };
        self.is_placed = true;
        while steps < STEPS_BEFORE_SEEK && self.cursor.entry().is_some_and(|(key, _)| *key < *self.target) {
            self.cursor.next();
            steps += 1;
        }
        if steps == STEPS_BEFORE_SEEK {
            self.cursor.seek(&self.target);
        }
        match self.cursor.entry() {
            Some((key, row)) if *key == *self.target => Ok(Bytes::copy_from_slice(row)),
            _ => {
                self.cursor.status()?;
                Err(lost())
            }
        }
    }
}

fn found<'a>(versions: &'a [u8], newest: Newest, row: &'a Bytes) -> Result<Found<'a>, StoreError> {
    let Newest { modified, meta } = newest;
    match Row::decode(row)? {
        Row::Put(_, value) => Ok(Found { versions, modified, meta, value, row: Some(row) }),
        Row::Tombstone => Err(lost()),
    }
}

fn lost() -> StoreError {
    corrupt(KEYS, "a living key has its newest version")
}
