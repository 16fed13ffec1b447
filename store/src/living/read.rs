//! Reading the present.
//!
//! - A read here answers what [`Snapshot::range`](crate::snapshot::Snapshot::range) would at the published revision, and
//!   leaves to it what is better walked: many values, another order, filters, keys of leases that are being ended.
//! - The index is held while a cursor is made, and never while rows are read.

use bytes::Bytes;
use engine::Cursor;
use types::KeyRange;

use super::{Entry, Newest};
use crate::{
    Order, Range, RangeAnswer, Show, StoreError,
    layout::{self, KEYS, Row, corrupt},
    snapshot::{Found, Pick},
    view::Shared,
};

/// Most keys whose rows are gone to one by one.
const LED_KEYS_MAX: usize = 10_000;
/// Rows that are stepped over one by one before a seek is tried: a seek costs about as much as this many steps.
const STEPS_BEFORE_SEEK: usize = 8;

/// The keys of a range at the published revision; `None` if the index is of no help.
pub(crate) fn latest(shared: &Shared, range: &Range) -> Result<Option<RangeAnswer>, StoreError> {
    let is_plain = range.order == Order::default() && range.mod_revisions.is_open() && range.create_revisions.is_open();
    if range.revision.is_some() || !is_plain {
        return Ok(None);
    }
    match (&range.keys, range.show) {
        (KeyRange::One(key), Show::Whole) => one(shared, range, key),
        _ => several(shared, range),
    }
}

fn one(shared: &Shared, range: &Range, key: &Bytes) -> Result<Option<RangeAnswer>, StoreError> {
    let versions = layout::versions_of(key);
    let (mut row_key, mut missing) = (Vec::new(), None);
    loop {
        let (revision, newest) = {
            let head = shared.head.read();
            if !head.is_settled {
                return Ok(None);
            }
            (head.published.revision, head.living.get(&versions))
        };
        let mut pick = Pick::new(range);
        let Some(newest) = newest else { return Ok(Some(pick.answer(revision))) };
        layout::version_key_at(&mut row_key, &versions, newest.modified);
        if let Some(row) = shared.engine.get(KEYS, &row_key)? {
            pick.see(&found(&versions, newest, &row)?)?;
            return Ok(Some(pick.answer(revision)));
        }
        // It was superseded, compacted and swept between the two looks; once. Then there is a newer one.
        if missing.replace(newest) == Some(newest) {
            return Err(lost());
        }
    }
}

fn several(shared: &Shared, range: &Range) -> Result<Option<RangeAnswer>, StoreError> {
    let (start, end) = layout::bounds(&range.keys);
    let limit = range.limit.map_or(usize::MAX, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
    let (revision, count, led, cursor) = {
        let head = shared.head.read();
        let count = head.living.count(&start, end.as_deref());
        if !head.is_settled {
            return Ok(None);
        }
        let wanted = if range.show == Show::CountOnly { 0 } else { count.min(limit) };
        if wanted > LED_KEYS_MAX {
            return Ok(None);
        }
        let led: Vec<Entry> = head.living.from(&start).take(wanted).cloned().collect();
        let cursor = (range.show == Show::Whole && wanted > 0).then(|| shared.engine.cursor(KEYS)).transpose()?;
        (head.published.revision, count, led, cursor)
    };
    let mut pick = Pick::new(range);
    let mut rows = cursor.map(Led::new);
    for Entry { versions, newest } in &led {
        match &mut rows {
            Some(rows) => pick.see(&rows.go_to(versions, *newest)?)?,
            None => pick.see(&Found { versions, modified: newest.modified, meta: newest.meta, value: &[] })?,
        }
    }
    pick.pass_over(count - led.len());
    Ok(Some(pick.answer(revision)))
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

    fn go_to<'b>(&'b mut self, versions: &'b [u8], newest: Newest) -> Result<Found<'b>, StoreError> {
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
            Some((key, row)) if *key == *self.target => found(versions, newest, row),
            _ => {
                self.cursor.status()?;
                Err(lost())
            }
        }
    }
}

fn found<'a>(versions: &'a [u8], Newest { modified, meta }: Newest, row: &'a [u8]) -> Result<Found<'a>, StoreError> {
    match Row::decode(row)? {
        Row::Put(_, value) => Ok(Found { versions, modified, meta, value }),
        Row::Tombstone => Err(lost()),
    }
}

fn lost() -> StoreError {
    corrupt(KEYS, "a living key has its newest version")
}
