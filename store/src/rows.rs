//! Walking rows that are partly not written yet.
//!
//! Owns: the order of the engine's rows and those of the current batch, merged.
//!
//! - No row is in both: a version is written once, and the batch's rows leave the overlay when they are on the engine.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound::{Included, Unbounded},
};

use bytes::Bytes;
use engine::Cursor;

use crate::StoreError;

/// The key and value of a row.
pub(crate) type Entry<'a> = (&'a [u8], &'a [u8]);

/// A walk over the rows of one space.
pub(crate) struct Rows<'a> {
    cursor: Cursor<'a>,
    overlay: Option<Overlaid<'a>>,
}

struct Overlaid<'a> {
    rows: &'a BTreeMap<Bytes, Bytes>,
    here: Option<(&'a Bytes, &'a Bytes)>,
    rest: btree_map::Range<'a, Bytes, Bytes>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(cursor: Cursor<'a>) -> Self {
        Self { cursor, overlay: None }
    }

    pub(crate) fn overlaid(cursor: Cursor<'a>, rows: &'a BTreeMap<Bytes, Bytes>) -> Self {
        let overlay = Overlaid { rows, here: None, rest: rows.range::<Bytes, _>(..) };
        Self { cursor, overlay: (!rows.is_empty()).then_some(overlay) }
    }

    /// Goes to the first row whose key is at least `key`.
    pub(crate) fn seek(&mut self, key: &[u8]) {
        self.cursor.seek(key);
        if let Some(overlay) = &mut self.overlay {
            overlay.rest = overlay.rows.range::<[u8], _>((Included(key), Unbounded));
            overlay.here = overlay.rest.next();
        }
    }

    /// Goes to the next row.
    pub(crate) fn next(&mut self) {
        let overlaid = self.overlaid_first().is_some();
        match &mut self.overlay {
            Some(overlay) if overlaid => overlay.here = overlay.rest.next(),
            _ => self.cursor.next(),
        }
    }

    /// The row here; `None` after the last.
    pub(crate) fn entry(&self) -> Result<Option<Entry<'_>>, StoreError> {
        if let Some((key, row)) = self.overlaid_first() {
            return Ok(Some((key, row)));
        }
        let entry = self.cursor.entry();
        if entry.is_none() {
            self.cursor.status()?;
        }
        Ok(entry)
    }

    /// The overlay's row here, if it comes before the engine's.
    fn overlaid_first(&self) -> Option<(&'a Bytes, &'a Bytes)> {
        let here = self.overlay.as_ref()?.here?;
        self.cursor.entry().is_none_or(|(other, _)| &here.0[..] < other).then_some(here)
    }
}
