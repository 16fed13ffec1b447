//! Out of an engine.

use bytes::Bytes;
use engine::{Cursor, Read};
use types::Revision;

use super::Step;
use crate::{
    Alarm, Auth, Change, Lease, StoreError,
    alarm::Alarms,
    auth,
    layout::{self, Compacted, HISTORY, KEYS, Point, Row, Written, corrupt},
};

/// All of a store at one moment.
#[derive(Debug)]
pub struct Export<'a, R> {
    from: &'a R,
    revision: Revision,
    compacted: Compacted,
    swept: Compacted,
}

impl<'a, R: Read> Export<'a, R> {
    /// `from`: a moment of an engine with the store's spaces, so that it holds still.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or holds what no store wrote; [`StoreError::Unsettled`] at the moments at which
    /// history is not whole.
    pub fn new(from: &'a R) -> Result<Self, StoreError> {
        if !layout::endings(from)?.is_empty() {
            return Err(StoreError::Unsettled);
        }
        let (compacted, swept) = (layout::compacted(from)?, layout::swept(from)?);
        Ok(Self { from, revision: layout::revision(from)?, compacted, swept })
    }

    /// The store's revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read, by the wire's number: there is a compaction at 0. `None` before the first.
    pub fn compacted(&self) -> Option<i64> {
        self.compacted.number()
    }

    /// The compaction whose dead rows are gone; `None` before the first.
    pub fn swept(&self) -> Option<i64> {
        self.swept.number()
    }

    /// All leases, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        Ok(layout::leases(self.from)?.into_values().collect())
    }

    /// The alarms that are raised.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        Ok(Alarms::load(self.from)?.raised().collect())
    }

    /// Users and roles.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn auth(&self) -> Result<Auth, StoreError> {
        auth::load(self.from)
    }

    /// History, from its oldest write that is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn steps(&self) -> Result<Steps<'a, R>, StoreError> {
        let mut history = self.from.cursor(HISTORY)?;
        history.seek(&[]);
        Ok(Steps { from: self.from, history })
    }
}

/// A walk through history.
#[derive(Debug)]
pub struct Steps<'a, R> {
    from: &'a R,
    history: Cursor<'a>,
}

impl<R: Read> Steps<'_, R> {
    fn read(&self) -> Result<Option<Step>, StoreError> {
        let Some((key, row)) = self.history.entry() else {
            self.history.status()?;
            return Ok(None);
        };
        let Point { revision, place } = layout::history_point(key)?;
        let Written { key, deleted, .. } = Written::decode(row)?;
        let key = Bytes::copy_from_slice(key);
        let change = if deleted { Change::Delete { key, revision } } else { self.put(key, revision)? };
        Ok(Some(Step { place, change }))
    }

    fn put(&self, key: Bytes, revision: Revision) -> Result<Change, StoreError> {
        let row = self.from.get(KEYS, &layout::version_key(&key, revision))?;
        let row = row.ok_or_else(|| corrupt(KEYS, "a put of history has no version"))?;
        match Row::decode(&row)? {
            Row::Put(meta, value) => Ok(Change::Put(meta.key_value(key, row.slice_ref(value), revision))),
            Row::Tombstone => Err(corrupt(KEYS, "a put of history is a tombstone")),
        }
    }
}

impl<R: Read> Iterator for Steps<'_, R> {
    type Item = Result<Step, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.read().transpose()?;
        self.history.next();
        Some(step)
    }
}
