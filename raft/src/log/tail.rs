//! The end of the log, in memory.

use std::{
    collections::VecDeque,
    ops::{Bound, RangeBounds},
};

use openraft::EntryPayload;

use crate::{codec::payload_bytes, types::Entry};

/// What an entry takes beside its payload, about.
const ENTRY_BYTES: usize = 128;
/// What each of its commands takes beside its bytes, about.
const COMMAND_BYTES: usize = 96;

/// Indexes from `start` up to, and without, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn of(range: &impl RangeBounds<u64>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        Self { start, end }
    }

    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// An entry that does not follow the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {got} was appended where {expected} belongs")]
pub(super) struct OutOfPlace {
    expected: u64,
    got: u64,
}

/// The last entries of the log, without a gap up to its end: all that are not yet written, and written ones for as long
/// as they fit.
#[derive(Debug)]
pub(super) struct Tail {
    /// What is purged, exclusive: the first index the log can hold.
    first: u64,
    /// The index after the last entry.
    end: u64,
    /// The index after the last entry that is on the disk.
    written: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    /// Of a log whose next entry has index `first`.
    pub(super) fn new(first: u64, bytes_max: usize) -> Self {
        Self { first, end: first, written: first, entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds the next entry. The first entry of an empty log may have any index.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), OutOfPlace> {
        let got = entry.log_id.index;
        if self.first == self.end && got > self.end {
            *self = Self::new(got, self.bytes_max);
        }
        if got != self.end {
            return Err(OutOfPlace { expected: self.end, got });
        }
        self.end += 1;
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        Ok(())
    }

    /// All before `end` is on the disk.
    pub(super) fn written(&mut self, end: u64) {
        self.written = end.min(self.end).max(self.written);
        while self.bytes > self.bytes_max && self.cached() < self.written {
            self.drop_first();
        }
    }

    /// The index after the last entry that is on the disk.
    pub(super) fn written_end(&self) -> u64 {
        self.written
    }

    /// Removes the entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        while self.end > from {
            self.end -= 1;
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= cost(&entry);
            }
        }
        self.written = self.written.min(self.end);
    }

    /// Removes the entries up to `upto`, inclusive.
    pub(super) fn purge(&mut self, upto: u64) {
        while self.cached() <= upto && !self.entries.is_empty() {
            self.drop_first();
        }
        self.first = self.first.max(upto + 1);
        self.end = self.end.max(self.first);
        self.written = self.written.max(self.first);
    }

    /// The cached entries of `span`, and the part of it that the log holds but only on the disk, which is before them.
    pub(super) fn read(&self, span: Span) -> (Vec<Entry>, Span) {
        let cached = self.cached();
        let (start, end) = (span.start.max(self.first), span.end.min(self.end));
        let missing = Span { start, end: end.min(cached) };
        let offset = |index: u64| usize::try_from(index - cached).unwrap_or(usize::MAX);
        if start.max(cached) >= end {
            return (Vec::new(), missing);
        }
        let entries = self.entries.range(offset(start.max(cached))..offset(end)).cloned().collect();
        (entries, missing)
    }

    /// The index of the first cached entry, or of the next one.
    fn cached(&self) -> u64 {
        self.end - self.entries.len() as u64
    }

    fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= cost(&entry);
        }
    }
}

fn cost(entry: &Entry) -> usize {
    let commands = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.commands.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    ENTRY_BYTES + commands * COMMAND_BYTES + payload_bytes(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn tail(entries: std::ops::Range<u64>, kept: usize) -> Tail {
        let mut tail = Tail::new(entries.start, kept * ENTRY_BYTES);
        for index in entries {
            tail.push(Entry { log_id: log_id(1, index), payload: EntryPayload::Blank }).unwrap();
        }
        tail
    }

    fn read(tail: &Tail, range: impl RangeBounds<u64>) -> (Vec<u64>, (u64, u64)) {
        let (entries, missing) = tail.read(Span::of(&range));
        let missing = if missing.is_empty() { (0, 0) } else { (missing.start, missing.end) };
        (entries.iter().map(|entry| entry.log_id.index).collect(), missing)
    }

    #[test]
    fn only_written_entries_leave_memory() {
        let mut tail = tail(0..10, 3);
        assert_eq!(read(&tail, ..), ((0..10).collect(), (0, 0)));
        tail.written(5);
        assert_eq!(read(&tail, ..), ((5..10).collect(), (0, 5)));
        tail.written(10);
        assert_eq!(read(&tail, ..), ((7..10).collect(), (0, 7)));
    }

    #[test]
    fn a_range_is_split_between_disk_and_memory() {
        let mut tail = tail(0..10, 4);
        tail.written(10);
        let cases = [
            (Span { start: 0, end: 3 }, (vec![], (0, 3))),
            (Span { start: 4, end: 8 }, (vec![6, 7], (4, 6))),
            (Span { start: 8, end: 20 }, (vec![8, 9], (0, 0))),
            (Span { start: 12, end: 20 }, (vec![], (0, 0))),
            (Span { start: 5, end: 5 }, (vec![], (0, 0))),
        ];
        for (span, expected) in cases {
            assert_eq!(read(&tail, span.start..span.end), expected, "{span:?}");
        }
    }

    #[test]
    fn cuts_leave_what_is_between_them() {
        let mut tail = tail(3..10, 100);
        tail.written(10);
        tail.truncate(8);
        tail.purge(4);
        assert_eq!(read(&tail, ..), (vec![5, 6, 7], (0, 0)));
        tail.push(Entry { log_id: log_id(2, 8), payload: EntryPayload::Blank }).unwrap();
        tail.purge(20);
        assert_eq!(read(&tail, ..), (vec![], (0, 0)));
        tail.push(Entry { log_id: log_id(2, 21), payload: EntryPayload::Blank }).unwrap();
        assert_eq!(read(&tail, ..), (vec![21], (0, 0)));
        assert_eq!(tail.bytes, ENTRY_BYTES);
    }

    #[test]
    fn an_entry_out_of_place_is_refused() {
        let mut tail = tail(0..3, 100);
        for index in [2, 4] {
            let entry = Entry { log_id: log_id(1, index), payload: EntryPayload::Blank };
            assert_eq!(tail.push(entry), Err(OutOfPlace { expected: 3, got: index }));
        }
    }
}
