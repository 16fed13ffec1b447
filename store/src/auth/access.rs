//! What an actor may do to keys.
//!
//! Owns: which permissions a request needs.
//!
//! - A put needs to write its key, a delete its range, a read its range; who asks for the previous version reads it.
//! - A transaction needs what its compares and both its branches need, however deep, whichever of them would run.
//! - What hangs on a lease goes when it ends: to touch a lease is to touch all of its keys.

use types::{KeyRange, LeaseId};

use super::{AuthRefusal, KeySet};
use crate::{Compare, DeleteRange, Failure, Op, Put, PutLease, ReadOnlyTxn, Txn};

/// What one actor may do at one auth revision: made by [`Auth::access`](super::Auth::access).
#[derive(Clone, Copy, Debug)]
pub struct Access<'a>(pub(super) Scope<'a>);

#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Everything.
    All,
    /// What these permit.
    Granted(&'a Grants),
}

/// The union of what a user's roles permit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    pub(super) read: KeySet,
    pub(super) write: KeySet,
}

/// Whether all keys of a lease are in a set, as whoever asks sees the lease.
pub(crate) type LeaseWithin<'a> = &'a dyn Fn(LeaseId, &KeySet) -> Result<bool, Failure>;

impl<'a> Access<'a> {
    /// Whether the keys of a range may be read.
    ///
    /// # Errors
    /// [`AuthRefusal::PermissionDenied`].
    pub fn read(self, keys: &KeyRange) -> Result<(), AuthRefusal> {
        self.read_set().map_or(Ok(()), |set| permitted(set.contains(keys)))
    }

    /// Whether the keys of a range may be written and deleted.
    ///
    /// # Errors
    /// [`AuthRefusal::PermissionDenied`].
    pub fn write(self, keys: &KeyRange) -> Result<(), AuthRefusal> {
        self.write_set().map_or(Ok(()), |set| permitted(set.contains(keys)))
    }

    /// Whether all that a transaction reads may be read.
    ///
    /// # Errors
    /// [`AuthRefusal::PermissionDenied`].
    pub fn read_only(self, txn: &ReadOnlyTxn) -> Result<(), AuthRefusal> {
        self.compares(&txn.compares)?;
        txn.success.iter().chain(&txn.failure).try_for_each(|range| self.read(&range.keys))
    }

    /// What may be read; `None` is everything.
    pub(crate) fn read_set(self) -> Option<&'a KeySet> {
        match self.0 {
            Scope::All => None,
            Scope::Granted(grants) => Some(&grants.read),
        }
    }

    /// What may be written; `None` is everything.
    pub(crate) fn write_set(self) -> Option<&'a KeySet> {
        match self.0 {
            Scope::All => None,
            Scope::Granted(grants) => Some(&grants.write),
        }
    }

    pub(crate) fn put(self, put: &Put, within: LeaseWithin<'_>) -> Result<(), Failure> {
        let key = KeyRange::One(put.key.clone());
        self.write(&key)?;
        if let PutLease::Set(Some(id)) = put.lease {
            self.lease(id, within)?;
        }
        if put.prev_kv { Ok(self.read(&key)?) } else { Ok(()) }
    }

    pub(crate) fn delete_range(self, delete: &DeleteRange) -> Result<(), Failure> {
        self.write(&delete.keys)?;
        if delete.prev_kv { Ok(self.read(&delete.keys)?) } else { Ok(()) }
    }

    pub(crate) fn txn(self, txn: &Txn, within: LeaseWithin<'_>) -> Result<(), Failure> {
        self.compares(&txn.compares)?;
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
            Op::Range(range) => Ok(self.read(&range.keys)?),
            Op::Put(put) => self.put(put, within),
            Op::DeleteRange(delete) => self.delete_range(delete),
            Op::Txn(txn) => self.txn(txn, within),
        })
    }

    /// Whether a lease may be ended, renewed, or given one more key.
    pub(crate) fn lease(self, id: LeaseId, within: LeaseWithin<'_>) -> Result<(), Failure> {
        match self.write_set() {
            Some(set) if !within(id, set)? => Err(AuthRefusal::PermissionDenied.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn compares(self, compares: &[Compare]) -> Result<(), AuthRefusal> {
        compares.iter().try_for_each(|compare| self.read(&compare.keys))
    }
}

fn permitted(is_permitted: bool) -> Result<(), AuthRefusal> {
    if is_permitted { Ok(()) } else { Err(AuthRefusal::PermissionDenied) }
}
