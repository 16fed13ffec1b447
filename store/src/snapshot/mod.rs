//! Reading at a revision.
//!
//! Owns: how the versions of keys become the keys of a revision.
//!
//! - One seek finds a key; versions that are too new or too old are passed over by seeking once there are many.
//! - What a read holds in memory is what it returns.

mod pick;

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    ops::ControlFlow::{self, Break, Continue},
};

use bytes::Bytes;
use engine::Cursor;
use types::{KeyRange, LeaseId, Revision};

pub(crate) use self::pick::{Outcome, Pick};
use crate::{
    Compare, CompareResult, CompareTarget, Failure, KeyValue, Range, RangeAnswer, Refusal, StoreError,
    ending::Endings,
    layout::{self, Compacted, Meta, Row},
    rows::Rows,
};

/// Rows that are stepped over one by one before a seek is tried: a seek costs about as much as this many steps.
const STEPS_BEFORE_SEEK: usize = 8;

/// The store as of one moment.
pub(crate) struct Snapshot<'a> {
    rows: Rows<'a>,
    revision: Revision,
    compacted: Compacted,
    endings: Endings,
}

/// One key that a scan found alive.
pub(crate) struct Found<'a> {
    /// What all versions of the key start with.
    pub(crate) versions: &'a [u8],
    pub(crate) modified: Revision,
    pub(crate) meta: Meta,
    pub(crate) value: &'a [u8],
    /// The row that `value` is a piece of, if it may be kept.
    pub(crate) row: Option<&'a Bytes>,
}

impl Found<'_> {
    pub(crate) fn key(&self) -> Result<Bytes, StoreError> {
        layout::unescape(self.versions)
    }

    pub(crate) fn whole(&self) -> Result<KeyValue, StoreError> {
        let value = self.row.map_or_else(|| Bytes::copy_from_slice(self.value), |row| row.slice_ref(self.value));
        Ok(self.meta.key_value(self.key()?, value, self.modified))
    }

    pub(crate) fn without_value(&self) -> Result<KeyValue, StoreError> {
        Ok(self.meta.key_value(self.key()?, Bytes::new(), self.modified))
    }
}

impl<'a> Snapshot<'a> {
    /// What readers see.
    pub(crate) fn published(cursor: Cursor<'a>, revision: Revision, compacted: Compacted, endings: Endings) -> Self {
        Self { rows: Rows::new(cursor), revision, compacted, endings }
    }

    /// What commands see: the rows of their batch as well.
    pub(crate) fn uncommitted(
        cursor: Cursor<'a>,
        overlay: &'a BTreeMap<Bytes, Bytes>,
        revision: Revision,
        compacted: Compacted,
        endings: Endings,
    ) -> Self {
        Self { rows: Rows::overlaid(cursor, overlay), revision, compacted, endings }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision asked for, or the latest.
    pub(crate) fn at(&self, asked: Option<Revision>) -> Result<Revision, Refusal> {
        asked.map_or(Ok(self.revision), |asked| readable(asked, self.revision, self.compacted))
    }

    /// The keys of a range. See [`View::range`](crate::View::range).
    pub(crate) fn range(&mut self, range: &Range) -> Result<RangeAnswer, Failure> {
        Ok(self.range_within(range, usize::MAX)?.whole().expect("no answer is longer"))
    }

    /// The same, if it takes no more than so many bytes.
    pub(crate) fn range_within(&mut self, range: &Range, bytes_max: usize) -> Result<Outcome, Failure> {
        let at = self.at(range.revision)?;
        let mut pick = Pick::within(range, bytes_max);
        self.scan(&range.keys, at, |found| {
            pick.see(&found)?;
            Ok(if pick.is_too_long() { Break(()) } else { Continue(()) })
        })?;
        Ok(pick.outcome(self.revision))
    }

    /// Whether all compares hold.
    pub(crate) fn holds(&mut self, compares: &[Compare]) -> Result<bool, StoreError> {
        for compare in compares {
            if !self.holds_one(compare)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds_one(&mut self, compare: &Compare) -> Result<bool, StoreError> {
        let (mut empty, mut holds) = (true, true);
        self.scan(&compare.keys, self.revision, |found| {
            empty = false;
            holds = compare.holds_for(found.modified, found.meta, found.value);
            Ok(if holds { Continue(()) } else { Break(()) })
        })?;
        Ok(if empty { compare.holds_for_none() } else { holds })
    }

    /// Visits the keys of a range that live at a revision, in key order, until a visit breaks off.
    pub(crate) fn scan(
        &mut self,
        keys: &KeyRange,
        at: Revision,
        mut visit: impl FnMut(Found<'_>) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        let (mut target, end) = layout::bounds(keys);
        if let KeyRange::One(key) = keys {
            target = layout::version_key(key, at);
        }
        let mut decided: Vec<u8> = Vec::new();
        let mut steps = 0;
        self.rows.seek(&target);
        while let Some((key, row)) = self.rows.entry()? {
            if end.as_ref().is_some_and(|end| key >= &end[..]) {
                break;
            }
            let (versions, modified) = layout::split_version(key)?;
            let older = versions == decided;
            if !older && modified <= at {
                steps = 0;
                if let Row::Put(meta, value) = Row::decode(row)?
                    && !self.endings.hides(meta.lease, modified, at)
                    && visit(Found { versions, modified, meta, value, row: None })?.is_break()
                {
                    break;
                }
                if matches!(keys, KeyRange::One(_)) {
                    break;
                }
                decided.clear();
                decided.extend_from_slice(versions);
            } else if steps == STEPS_BEFORE_SEEK {
                steps = 0;
                if older {
                    layout::end_of_versions(&mut target, versions);
                } else {
                    layout::version_key_at(&mut target, versions, at);
                }
                self.rows.seek(&target);
                continue;
            } else {
                steps += 1;
            }
            self.rows.next();
        }
        Ok(())
    }
}

/// Whether a revision can be read.
pub(crate) fn readable(asked: Revision, current: Revision, compacted: Compacted) -> Result<Revision, Refusal> {
    if asked > current {
        Err(Refusal::FutureRevision { asked: asked.get(), current })
    } else if compacted.forgot(asked) {
        Err(Refusal::Compacted { asked: asked.get(), oldest: compacted.0 })
    } else {
        Ok(asked)
    }
}

impl Compare {
    /// Whether it holds for a living key.
    pub(crate) fn holds_for(&self, modified: Revision, meta: Meta, value: &[u8]) -> bool {
        let ordering = match &self.target {
            CompareTarget::Version(version) => meta.version.cmp(version),
            CompareTarget::CreateRevision(revision) => meta.created.get().cmp(revision),
            CompareTarget::ModRevision(revision) => modified.get().cmp(revision),
            CompareTarget::Value(expected) => value.cmp(&expected[..]),
            CompareTarget::Lease(lease) => meta.lease.map_or(0, LeaseId::get).cmp(lease),
        };
        self.result.is(ordering)
    }

    /// A missing key's numbers are 0, and its value is like no other.
    pub(crate) fn holds_for_none(&self) -> bool {
        match &self.target {
            CompareTarget::Version(number)
            | CompareTarget::CreateRevision(number)
            | CompareTarget::ModRevision(number)
            | CompareTarget::Lease(number) => self.result.is(0.cmp(number)),
            CompareTarget::Value(_) => false,
        }
    }
}

impl CompareResult {
    fn is(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
            Self::NotEqual => ordering.is_ne(),
        }
    }
}
