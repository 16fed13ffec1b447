//! Forgetting history physically.
//!
//! Owns: the rows that a compaction left dead, and how far they are gone.
//! In:   published compactions.
//! Out:  small batches of deletes, with pauses between them.
//!
//! - Only dead rows go: what a write at or below the compaction superseded, and deletes below it. The newest version
//!   at or below it stays, and so does a delete exactly at it, for the watcher that starts there.
//! - What apply and readers do does not depend on how far a sweep is.
//! - A sweep that was cut short starts again where it was; deleting a row twice is harmless.
//! - A state that takes another's place says itself how far it is swept.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use engine::{Batch, Durability};
use types::{Bug, Revision};

use crate::{
    StoreError,
    layout::{self, Compacted, Point, Written},
    view::{Current, Shared},
};

/// Deletes dead rows. One per store.
#[derive(Debug)]
pub struct Sweeper {
    current: Current,
    shared: Arc<Shared>,
    under_way: Option<UnderWay>,
}

/// A sweep that is not done.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    target: Compacted,
    from: Point,
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// There is more to do: pause and step again.
    More,
    /// Nothing is dead that a published compaction allows to go.
    Done,
}

impl Sweeper {
    pub(crate) fn new(current: Current) -> Self {
        Self { shared: current.load_full(), current, under_way: None }
    }

    /// Sweeps whenever there is something to sweep; runs until it is dropped, or the disk fails.
    ///
    /// # Errors
    /// [`StoreError`] if the engine fails.
    pub async fn run(mut self) -> Result<(), StoreError> {
        loop {
            self.follow();
            let shared = Arc::clone(&self.shared);
            let (mut compacted, mut endings) = (shared.compacted.subscribe(), shared.endings.subscribe());
            let blocking = shared.engine.workers().run(move || {
                let step = self.step();
                (self, step)
            });
            let Ok((sweeper, step)) = blocking.await else { return Ok(()) }; // The runtime is shutting down.
            self = sweeper;
            match step? {
                Sweep::More => tokio::time::sleep(self.shared.limits.sweep_pause).await,
                Sweep::Done => {
                    tokio::select! {
                        Ok(()) = compacted.changed() => {}
                        Ok(()) = endings.changed() => {}
                        () = shared.replaced() => {}
                    }
                }
            }
        }
    }

    /// Looks at [`Limits::sweep_rows`](crate::Limits) rows of history, and deletes what they show to be dead.
    ///
    /// # Errors
    /// [`StoreError`] if the engine fails.
    pub fn step(&mut self) -> Result<Sweep, StoreError> {
        self.follow();
        let Some(UnderWay { target, from }) = self.under_way.take().or_else(|| self.begin()) else {
            return Ok(Sweep::Done);
        };
        let mut batch = Batch::new();
        let rest = self.collect(&mut batch, target, from)?;
        let rows = batch.len() as u64;
        let swept = rest.map_or(target, |rest| Compacted(rest.revision.get() - 1));
        batch.put(layout::META, layout::SWEPT_KEY, Bytes::copy_from_slice(&swept.0.to_be_bytes()));
        self.shared.engine.write(batch, Durability::Buffered)?;
        self.shared.swept_rows.fetch_add(rows, Ordering::Relaxed);
        self.under_way = rest.map(|from| UnderWay { target, from });
        self.shared.swept.send_replace(swept);
        Ok(if self.under_way.is_some() { Sweep::More } else { Sweep::Done })
    }

    /// Turns to the state that counts.
    fn follow(&mut self) {
        let current = self.current.load();
        if !Arc::ptr_eq(&current, &self.shared) {
            self.shared = Arc::clone(&current);
            self.under_way = None;
        }
    }

    /// The next sweep, if one is due. It starts at the revision that the last one ended with, whose deletes it left.
    fn begin(&self) -> Option<UnderWay> {
        let (compacted, swept) = (self.shared.published().compacted, *self.shared.swept.borrow());
        // What is not all on the engine yet is not to be passed by.
        let settled = self.shared.endings.borrow().unsettled().map_or(i64::MAX, |first| first.get() - 1);
        let target = Compacted(compacted.0.min(settled));
        let revision = Revision::new(swept.0).unwrap_or(Revision::FIRST);
        (swept < target).then_some(UnderWay { target, from: Point { revision, place: 0 } })
    }

    /// Walks history from `from` up to the target; returns where to go on, if it is not done.
    fn collect(&self, batch: &mut Batch, target: Compacted, from: Point) -> Result<Option<Point>, StoreError> {
        let mut cursor = self.shared.engine.cursor(layout::HISTORY)?;
        cursor.seek(&layout::history_key(from));
        let mut rows = 0;
        while let Some((key, row)) = cursor.entry() {
            let point = layout::history_point(key)?;
            if point.revision.get() > target.0 {
                return Ok(None);
            }
            if rows == self.shared.limits.sweep_rows {
                return Ok(Some(point));
            }
            rows += 1;
            let written = Written::decode(row)?;
            if let Some(superseded) = written.superseded {
                delete(batch, written.key, superseded);
            }
            if (written.deleted || Bug::SweptTooMuch.is_planted()) && target.forgot(point.revision) {
                delete(batch, written.key, point);
            }
            cursor.next();
        }
        cursor.status()?;
        Ok(None)
    }
}

fn delete(batch: &mut Batch, key: &[u8], point: Point) {
    batch.delete(layout::KEYS, layout::version_key(key, point.revision));
    batch.delete(layout::HISTORY, Bytes::copy_from_slice(&layout::history_key(point)));
}
