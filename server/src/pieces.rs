//! A range read piece by piece.
//!
//! - All pieces are of one revision: the one asked for, or the store's when the first was read. If it is compacted before
//!   the last piece, the next one is refused with that.
//! - A piece takes at most about as many bytes as a request may, and nothing is pinned between pieces.
//! - Each piece is read by who may still read it.

use std::{num::NonZeroU64, sync::Arc};

use store::{Actor, Chunk, Failure, KeyValue, Range, Show, View};
use tonic::Status;
use types::{KeyRange, Revision};

use crate::core::Core;

/// The pieces of a range that has no order and no filters of its own.
pub(crate) struct Pieces {
    core: Arc<Core>,
    actor: Actor,
    show: Show,
    /// What is to be read yet.
    rest: Option<KeyRange>,
    /// How many keys may yet be shown.
    left: u64,
    read: u64,
    at: Option<Revision>,
    revision: Option<Revision>,
}

impl Pieces {
    pub(crate) fn new(core: &Arc<Core>, actor: Actor, range: Range) -> Self {
        Self {
            core: Arc::clone(core),
            actor,
            show: range.show,
            rest: Some(range.keys),
            left: range.limit.map_or(u64::MAX, NonZeroU64::get),
            read: 0,
            at: range.revision,
            revision: None,
        }
    }

    /// The next keys, at most `keys_max`; none after the last.
    pub(crate) async fn next(&mut self, keys_max: u64) -> Result<Vec<KeyValue>, Status> {
        let Some(keys) = self.rest.take_if(|_| self.left > 0) else { return Ok(Vec::new()) };
        let (actor, at, show) = (self.actor.clone(), self.at, self.show);
        let bounds = (keys_max.min(self.left), self.core.config.store.request_bytes_max);
        let read = move |view: &View| read_as(view, &actor, &keys, |view| view.chunk(&keys, at, show, bounds));
        let Chunk { revision, kvs, rest } = self.core.read(true, read).await?;
        self.revision.get_or_insert(revision);
        self.at = self.at.or(self.revision);
        self.rest = rest;
        self.left -= kvs.len() as u64;
        self.read += kvs.len() as u64;
        Ok(kvs)
    }

    /// Whether the last piece was read.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0 || self.rest.is_none()
    }

    /// The store's revision when the first piece was read.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// The revision that the pieces are of, from the first one on.
    pub(crate) fn at(&self) -> Option<Revision> {
        self.at
    }

    /// Whether there are keys beyond those that were read.
    pub(crate) fn more(&self) -> bool {
        self.rest.is_some()
    }

    /// How many keys there are, beyond those that were read too.
    pub(crate) async fn count(&self) -> Result<u64, Status> {
        let Some(keys) = self.rest.clone() else { return Ok(self.read) };
        let (actor, revision) = (self.actor.clone(), self.at);
        let read = move |view: &View| {
            let range = Range { revision, show: Show::CountOnly, ..Range::new(keys) };
            read_as(view, &actor, &range.keys, |view| view.range(&range))
        };
        Ok(self.read + self.core.read(true, read).await?.count)
    }
}

pub(crate) fn read_as<T>(
    view: &View,
    actor: &Actor,
    keys: &KeyRange,
    read: impl FnOnce(&View) -> Result<T, Failure>,
) -> Result<T, Failure> {
    view.read_as(actor, |access| Ok(access.read(keys)?), read)
}
