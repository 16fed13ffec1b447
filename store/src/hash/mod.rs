//! Hashes of what the store holds, the same on every member and the same as etcd's.
//!
//! Owns: which changes count at a revision and a compaction, and in which order.
//!
//! - The hash is CRC-32C over `key` and then, change by change in the order in which they were made, over the key and the
//!   value that etcd keeps of it in its bucket `key`: see [`etcd`].
//! - What a sweep has taken or not taken yet makes no difference: below the compaction a change counts only if it is the
//!   one that is alive at the hashed revision.
//! - Memory is bounded by [`STEPS_PER_BATCH`] changes. They are read in key order within a batch, which is how they lie.

mod etcd;

use std::{ops::ControlFlow, sync::Arc};

use engine::Cursor;
use types::{KeyRange, Revision};

use crate::{
    Failure, StoreError, View,
    ending::Endings,
    layout::{self, Compacted, KEYS, Point, Row, Written, corrupt},
    snapshot::{Snapshot, readable},
    view::Shared,
};

/// Changes of history that are hashed at a time.
const STEPS_PER_BATCH: usize = 8192;
/// A change longer than this is kept as its checksum until its batch is put in order, so that a batch stays small.
const PIECE_BYTES_MAX: usize = 4096;

/// A hash of the keys. Source: etcd v3 `HashKVResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// CRC-32C.
    pub hash: u32,
    /// The last revision that is in it.
    pub hashed: Revision,
    /// The compaction that it was taken under, by the wire's number: -1 before the first. Hashes taken under different
    /// compactions differ.
    pub compacted: i64,
    /// The store's revision.
    pub revision: Revision,
}

impl View {
    /// Hashes the keys and their history up to a revision; the published one if none is given. Walks all of it.
    ///
    /// # Errors
    /// [`Refusal::Compacted`](crate::Refusal) and [`Refusal::FutureRevision`](crate::Refusal); [`Failure::Broken`] if the
    /// disk fails.
    pub fn hash_keys(&self, at: Option<Revision>) -> Result<KeyHash, Failure> {
        self.hash(at).map(|(hash, _)| hash)
    }

    /// Hashes keys and leases as they are now: equal on members that have applied the same. Source: etcd v3 `Hash`, which
    /// hashes the pages of its own file and so agrees with nobody else.
    ///
    /// # Errors
    /// [`Failure::Broken`] if the disk fails.
    pub fn hash_all(&self) -> Result<KeyHash, Failure> {
        let (mut keys, shared) = self.hash(None)?;
        keys.hash = crc32c::crc32c_append(keys.hash, etcd::LEASE_BUCKET);
        let leases: Vec<_> = shared.leases.read().values().copied().collect();
        for lease in leases {
            keys.hash = crc32c::crc32c_append(keys.hash, &etcd::lease_key(lease.id));
            keys.hash = crc32c::crc32c_append(keys.hash, &etcd::lease_value(&lease));
        }
        Ok(keys)
    }

    /// The hash, and the state that it is of.
    fn hash(&self, at: Option<Revision>) -> Result<(KeyHash, Arc<Shared>), Failure> {
        loop {
            let shared = self.held();
            let hash = Walk::start(&shared, at)?.map(Walk::run).transpose()?;
            if let Some(hash) = hash {
                return Ok((hash, shared));
            }
        }
    }
}

/// A walk over history, with all that it reads pinned.
struct Walk<'a> {
    history: Cursor<'a>,
    keys: Cursor<'a>,
    revision: Revision,
    at: Revision,
    compacted: Compacted,
    /// Below the compaction a put counts if it is its key's newest at this revision.
    newest_at: Revision,
    hash: u32,
}

/// A change that counts, and where it comes in its batch.
struct Step {
    key: Vec<u8>,
    point: Point,
    deleted: bool,
    piece: Piece,
}

/// What a change adds to the hash.
enum Piece {
    /// Not read yet, or nothing.
    Nothing,
    Bytes(Vec<u8>),
    Checksum {
        crc: u32,
        bytes: usize,
    },
}

impl<'a> Walk<'a> {
    /// `None` if the state was replaced before its history was whole.
    fn start(shared: &'a Shared, at: Option<Revision>) -> Result<Option<Self>, Failure> {
        let revision = shared.published().revision;
        if !shared.wait_for_history(at.unwrap_or(revision)) {
            return Ok(None);
        }
        let history = shared.engine.cursor(layout::HISTORY)?;
        let keys = shared.engine.cursor(KEYS)?;
        // Read after the rows are pinned: what a sweep took before that, this compaction has forgotten.
        let compacted = shared.published().compacted;
        let at = at.map_or(Ok(revision), |asked| readable(asked, revision, compacted))?;
        // etcd takes an empty list of the versions to keep for "keep all that are left".
        let alive = is_any_alive(
            &mut Snapshot::published(shared.engine.cursor(KEYS)?, revision, compacted, Endings::default()),
            at,
        )?;
        let newest_at = if alive { at } else { Revision::new(compacted.0).unwrap_or(at) };
        let hash = crc32c::crc32c(etcd::KEY_BUCKET);
        Ok(Some(Self { history, keys, revision, at, compacted, newest_at, hash }))
    }

    fn run(mut self) -> Result<KeyHash, Failure> {
        self.history.seek(&[]);
        loop {
            let mut steps = self.next_steps()?;
            if steps.is_empty() {
                let Self { at, compacted, revision, hash, .. } = self;
                return Ok(KeyHash { hash, hashed: at, compacted: compacted.0, revision });
            }
            self.read_pieces(&mut steps)?;
            for step in steps {
                self.hash = match step.piece {
                    Piece::Nothing => self.hash,
                    Piece::Bytes(bytes) => crc32c::crc32c_append(self.hash, &bytes),
                    Piece::Checksum { crc, bytes } => crc32c::crc32c_combine(self.hash, crc, bytes),
                };
            }
        }
    }

    fn next_steps(&mut self) -> Result<Vec<Step>, StoreError> {
        let mut steps = Vec::new();
        while let Some((key, row)) = self.history.entry() {
            let point = layout::history_point(key)?;
            if point.revision > self.at || steps.len() == STEPS_PER_BATCH {
                return Ok(steps);
            }
            let Written { key, deleted, .. } = Written::decode(row)?;
            // A delete at the compaction is kept for watchers, but counts no more.
            if !deleted || point.revision.get() > self.compacted.0 {
                steps.push(Step { key: key.to_vec(), point, deleted, piece: Piece::Nothing });
            }
            self.history.next();
        }
        self.history.status()?;
        Ok(steps)
    }

    fn read_pieces(&mut self, steps: &mut [Step]) -> Result<(), StoreError> {
        let mut by_key: Vec<&mut Step> = steps.iter_mut().collect();
        by_key.sort_by(|a, b| (&a.key, b.point).cmp(&(&b.key, a.point)));
        by_key.into_iter().try_for_each(|step| {
            step.piece = self.piece(step)?;
            Ok(())
        })
    }

    fn piece(&mut self, step: &Step) -> Result<Piece, StoreError> {
        let Step { key, point, deleted, .. } = step;
        if *deleted {
            return Ok(Piece::Bytes(etcd::deleted(*point, key)));
        }
        let forgotten = point.revision.get() <= self.compacted.0;
        let newest_at = if forgotten { self.newest_at } else { point.revision };
        self.keys.seek(&layout::version_key(key, newest_at));
        let versions = layout::versions_of(key);
        let row = match self.keys.entry() {
            Some((row_key, row)) if row_key.strip_prefix(&versions[..]).is_some() => {
                (layout::split_version(row_key)?.1 == point.revision).then_some(row)
            }
            _ => None,
        };
        match row.map(Row::decode).transpose()? {
            Some(Row::Put(meta, value)) if meta.place == point.place => {
                let put = etcd::put(*point, key, meta, value);
                let is_long = put.len() > PIECE_BYTES_MAX;
                Ok(if is_long {
                    Piece::Checksum { crc: crc32c::crc32c(&put), bytes: put.len() }
                } else {
                    Piece::Bytes(put)
                })
            }
            _ if forgotten => Ok(Piece::Nothing),
            _ => {
                self.keys.status()?;
                Err(corrupt(KEYS, "history names a version that is not there"))
            }
        }
    }
}

fn is_any_alive(snapshot: &mut Snapshot<'_>, at: Revision) -> Result<bool, StoreError> {
    let mut alive = false;
    snapshot.scan(&KeyRange::all(), at, |_| {
        alive = true;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(alive)
}

#[cfg(test)]
mod tests;
