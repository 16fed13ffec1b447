//! Which keys of a range are returned.
//!
//! Owns: count, filters, order and limit of one read.
//!
//! - The count takes every live key; limit and filters do not touch it.
//! - In key order nothing past the limit is kept. In another order at most twice the limit is, and a buffer.
//! - What is kept may be bounded in bytes: past the bound there is no answer.

use std::cmp::Ordering;

use types::Revision;

use super::Found;
use crate::{KeyValue, Order, OrderBy, Range, RangeAnswer, Show, StoreError};

/// Keys kept beyond twice the limit before the worst are dropped.
const SLACK: usize = 1024;

/// What a read whose answer is bounded came to.
pub(crate) enum Outcome {
    Whole(RangeAnswer),
    TooLong,
}

impl Outcome {
    pub(crate) fn whole(self) -> Option<RangeAnswer> {
        match self {
            Self::Whole(answer) => Some(answer),
            Self::TooLong => None,
        }
    }
}

pub(crate) struct Pick<'a> {
    range: &'a Range,
    limit: usize,
    kept: Vec<KeyValue>,
    kept_bytes: usize,
    bytes_max: usize,
    count: u64,
    passed: u64,
}

impl<'a> Pick<'a> {
    pub(crate) fn new(range: &'a Range) -> Self {
        Self::within(range, usize::MAX)
    }

    /// Of an answer that may take so many bytes.
    pub(crate) fn within(range: &'a Range, bytes_max: usize) -> Self {
        let limit = range.limit.map_or(usize::MAX, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
        Self { range, limit, kept: Vec::new(), kept_bytes: 0, bytes_max, count: 0, passed: 0 }
    }

    pub(crate) fn shows(&self, show: Show) -> bool {
        self.range.show == show
    }

    pub(crate) fn see(&mut self, found: &Found<'_>) -> Result<(), StoreError> {
        self.count += 1;
        let Range { mod_revisions, create_revisions, show, order, .. } = self.range;
        if *show == Show::CountOnly
            || !mod_revisions.contains(found.modified)
            || !create_revisions.contains(found.meta.created)
        {
            return Ok(());
        }
        self.passed += 1;
        if *order == Order::default() && self.kept.len() >= self.limit {
            return Ok(());
        }
        let needs_value = *show == Show::Whole || order.by == OrderBy::Value;
        let kv = if needs_value { found.whole()? } else { found.without_value()? };
        self.kept_bytes = self.kept_bytes.saturating_add(kv.bytes());
        self.kept.push(kv);
        if self.kept.len() >= self.limit.saturating_mul(2).saturating_add(SLACK) {
            self.order_and_cut();
        }
        Ok(())
    }

    /// Counts keys that lie past the limit, without a look at them: there are no filters.
    pub(crate) fn pass_over(&mut self, keys: usize) {
        self.count += keys as u64;
        if self.range.show != Show::CountOnly {
            self.passed += keys as u64;
        }
    }

    /// More is kept than may be: what else is seen does not count.
    pub(crate) fn is_too_long(&self) -> bool {
        self.kept_bytes > self.bytes_max
    }

    pub(crate) fn outcome(self, revision: Revision) -> Outcome {
        if self.is_too_long() { Outcome::TooLong } else { Outcome::Whole(self.answer(revision)) }
    }

    pub(crate) fn answer(mut self, revision: Revision) -> RangeAnswer {
        self.order_and_cut();
        if self.range.show == Show::KeysOnly {
            self.kept.iter_mut().for_each(|kv| kv.value.clear());
        }
        let more = self.passed > self.kept.len() as u64;
        RangeAnswer { revision, kvs: self.kept, more, count: self.count }
    }

    /// Keys are seen in key order, and the sort keeps it among equals.
    fn order_and_cut(&mut self) {
        let order = self.range.order;
        if order != Order::default() {
            self.kept.sort_by(|a, b| order.compare(a, b));
        }
        self.kept.truncate(self.limit);
        self.kept_bytes = self.kept.iter().map(KeyValue::bytes).sum();
    }
}

impl Order {
    fn compare(self, a: &KeyValue, b: &KeyValue) -> Ordering {
        let ascending = match self.by {
            OrderBy::Key => a.key.cmp(&b.key),
            OrderBy::Version => a.version.cmp(&b.version),
            OrderBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
            OrderBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
            OrderBy::Value => a.value.cmp(&b.value),
        };
        if self.descending { ascending.reverse() } else { ascending }
    }
}
