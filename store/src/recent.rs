//! Versions that were written or read lately, in memory.
//!
//! Owns: their rows, up to a number of bytes, and which of them make room.
//! In:   rows of the newest versions, as they are written or read.
//! Out:  the same rows, without the engine.
//!
//! - A version never changes, so that nothing here is ever stale; one that is superseded only makes room early.
//! - Nothing depends on what is here: a row that is not is on the engine.

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};

use crate::layout::Point;

/// What a row takes beside its bytes, about.
const OVERHEAD_BYTES: u64 = 96;
/// The table's size at first; it grows with what is there.
const ROWS_AT_FIRST: usize = 1024;

/// Rows by the place in history at which they were written.
#[derive(Debug)]
pub(crate) struct Recent(Cache<Point, Bytes, Size>);

#[derive(Clone, Debug)]
struct Size;

impl Weighter<Point, Bytes> for Size {
    fn weight(&self, _: &Point, row: &Bytes) -> u64 {
        row.len() as u64 + OVERHEAD_BYTES
    }
}

impl Recent {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Cache::with_weighter(ROWS_AT_FIRST, bytes_max as u64, Size))
    }

    pub(crate) fn get(&self, point: Point) -> Option<Bytes> {
        self.0.get(&point)
    }

    /// `row` is kept as it is: it must not be a piece of something larger.
    pub(crate) fn insert(&self, point: Point, row: Bytes) {
        self.0.insert(point, row);
    }

    pub(crate) fn remove(&self, point: Point) {
        self.0.remove(&point);
    }
}

#[cfg(test)]
mod tests {
    use types::Revision;

    use super::*;

    #[test]
    fn it_holds_no_more_than_it_may() {
        let recent = Recent::new(64 << 10);
        let point = |number: i64| Point { revision: Revision::new(number + 1).expect("positive"), place: 0 };
        for number in 0..10_000 {
            recent.insert(point(number), Bytes::from(vec![0; 256]));
        }
        let held = (0..10_000).filter_map(|number| recent.get(point(number))).map(|row| row.len()).sum::<usize>();
        assert!((1..=64 << 10).contains(&held), "{held} bytes");
    }
}
