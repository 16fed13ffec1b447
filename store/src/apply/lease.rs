//! Leases in the log.
//!
//! Owns: which leases exist, and that a key goes with its lease.
//!
//! - A revoke deletes the lease's keys in key order, in one revision; a lease without keys takes none. Of many keys the
//!   rows follow in pieces: see [`super::ending`].
//! - No command deletes more than [`KEYS_AT_ONCE`] keys of leases, nor looks at many more.
//! - No deadline is here: the leader's [`Lessor`](crate::Lessor) has them. What it notes here is for the next leader's.

use bytes::Bytes;
use engine::Batch;
use types::{KeyRange, LeaseId};

use super::{Store, ending::KEYS_AT_ONCE, write::Writing};
use crate::{
    Failure, Lease, LeaseCheckpoint, LeaseCheckpointAnswer, LeaseGrant, LeaseGrantAnswer, LeaseRevoke,
    LeaseRevokeAnswer, Refusal, StoreError, layout, limits::LEASE_TTL_MAX,
};

impl Store {
    /// A lease, as the next command sees it.
    fn lease(&self, id: LeaseId) -> Option<Lease> {
        self.overlay.lease(id, || self.shared.leases.read().get(&id).copied())
    }

    /// Whether a lease exists, as the next command sees it.
    pub(super) fn has_lease(&self, id: LeaseId) -> bool {
        self.lease(id).is_some()
    }

    pub(super) fn lease_grant(&mut self, batch: &mut Batch, grant: LeaseGrant) -> Result<LeaseGrantAnswer, Failure> {
        let LeaseGrant { id, ttl } = grant;
        if ttl > LEASE_TTL_MAX {
            return Err(Refusal::LeaseTtlTooLarge.into());
        }
        if self.has_lease(id) {
            return Err(Refusal::LeaseExists(id).into());
        }
        self.settle_lease(batch, id)?;
        self.set_lease(batch, Lease { id, ttl, remaining: None });
        Ok(LeaseGrantAnswer { revision: self.revision, id, ttl })
    }

    pub(super) fn lease_checkpoint(&mut self, batch: &mut Batch, checkpoint: LeaseCheckpoint) -> LeaseCheckpointAnswer {
        let mut noted = checkpoint.remaining;
        noted.retain(|&(id, remaining)| {
            let lease = self.lease(id);
            if let Some(lease) = lease {
                let remaining = remaining.filter(|remaining| *remaining < lease.ttl);
                self.set_lease(batch, Lease { remaining, ..lease });
            }
            lease.is_some()
        });
        LeaseCheckpointAnswer { revision: self.revision, remaining: noted }
    }

    fn set_lease(&mut self, batch: &mut Batch, lease: Lease) {
        batch.put(layout::LEASES, layout::lease_key(lease.id), layout::lease_value(&lease));
        self.overlay.set_lease(lease);
    }

    pub(super) fn lease_revoke(
        &mut self,
        batch: &mut Batch,
        revoke: &LeaseRevoke,
    ) -> Result<LeaseRevokeAnswer, Failure> {
        let (mut revoked, mut left, mut room) = (Vec::new(), Vec::new(), KEYS_AT_ONCE);
        for &id in &revoke.ids {
            if !self.has_lease(id) {
                continue;
            }
            let keys = self.first_keys_of(id, &[], room + 1)?;
            if keys.len() <= room {
                room -= keys.len();
                self.delete_all(batch, keys)?;
            } else if revoked.is_empty() {
                room = 0;
                self.end_in_pieces(batch, id);
            } else {
                left.push(id);
                continue;
            }
            batch.delete(layout::LEASES, layout::lease_key(id));
            self.overlay.revoke(id);
            revoked.push(id);
        }
        match revoke.ids.first() {
            Some(&id) if revoked.is_empty() => Err(Refusal::LeaseNotFound(id).into()),
            _ => Ok(LeaseRevokeAnswer { revision: self.revision, revoked, left }),
        }
    }

    fn delete_all(&mut self, batch: &mut Batch, keys: Vec<Bytes>) -> Result<(), StoreError> {
        let mut writing = Writing::new(self, batch);
        writing.delete(keys.into_iter().map(KeyRange::One), false)?;
        writing.finish();
        Ok(())
    }

    /// The first keys of a lease, in order and as the next command sees them: at most `max` of those not before `from`.
    pub(super) fn first_keys_of(&self, id: LeaseId, from: &[u8], max: usize) -> Result<Vec<Bytes>, StoreError> {
        // Those that the batch took away make room for others behind them.
        let on_engine = layout::attached_from(&self.shared.engine, id, from, max + self.overlay.detached(id))?;
        let keys = self.overlay.keys_of(id, on_engine);
        Ok(keys.into_iter().filter(|key| &key[..] >= from).take(max).collect())
    }
}
