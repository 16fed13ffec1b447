//! Leases in the log.
//!
//! Owns: which leases exist, and that a key goes with its lease.
//!
//! - A revoke deletes the lease's keys in key order, in one revision; a lease without keys takes none. Of many keys the
//!   rows follow in pieces: see [`super::ending`].
//! - No deadline is here: the leader's [`Lessor`](crate::Lessor) has them.

use engine::Batch;
use types::{KeyRange, LeaseId};

use super::{Store, ending::KEYS_AT_ONCE, write::Writing};
use crate::{Failure, LeaseGrant, LeaseGrantAnswer, LeaseRevoke, LeaseRevokeAnswer, Refusal, StoreError, layout};

impl Store {
    /// Whether a lease exists, as the next command sees it.
    pub(super) fn has_lease(&self, id: LeaseId) -> bool {
        self.overlay.lease(id).unwrap_or_else(|| self.shared.leases.read().contains_key(&id))
    }

    pub(super) fn lease_grant(&mut self, batch: &mut Batch, grant: LeaseGrant) -> Result<LeaseGrantAnswer, Failure> {
        let LeaseGrant { id, ttl } = grant;
        if self.has_lease(id) {
            return Err(Refusal::LeaseExists(id).into());
        }
        self.settle_lease(batch, id)?;
        batch.put(layout::LEASES, layout::lease_key(id), layout::lease_value(ttl));
        self.overlay.grant(id, ttl);
        Ok(LeaseGrantAnswer { revision: self.revision, id, ttl })
    }

    pub(super) fn lease_revoke(
        &mut self,
        batch: &mut Batch,
        revoke: &LeaseRevoke,
    ) -> Result<LeaseRevokeAnswer, Failure> {
        let (mut revoked, mut room) = (Vec::new(), KEYS_AT_ONCE);
        for &id in &revoke.ids {
            if self.has_lease(id) {
                self.end_lease(batch, id, &mut room)?;
                revoked.push(id);
            }
        }
        match revoke.ids.first() {
            Some(&id) if revoked.is_empty() => Err(Refusal::LeaseNotFound(id).into()),
            _ => Ok(LeaseRevokeAnswer { revision: self.revision, revoked }),
        }
    }

    /// Deletes the lease's keys at once while the command has room for so many, else in pieces afterwards.
    fn end_lease(&mut self, batch: &mut Batch, id: LeaseId, room: &mut usize) -> Result<(), StoreError> {
        let mut keys = layout::attached(&self.shared.engine, id)?;
        if self.overlay.touches_keys_of(id) {
            keys = self.overlay.keys_of(id, keys).into_iter().collect();
        }
        if keys.len() > *room {
            self.end_in_pieces(batch, id, keys);
        } else {
            *room -= keys.len();
            let mut writing = Writing::new(self, batch);
            writing.delete(keys.into_iter().map(KeyRange::One), false)?;
            writing.finish();
        }
        batch.delete(layout::LEASES, layout::lease_key(id));
        self.overlay.revoke(id);
        Ok(())
    }
}
