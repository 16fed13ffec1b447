//! Forgetting what has expired, by the ledger's own time, a few rows an entry.

use std::time::Duration;

use bytes::Bytes;
use engine::Batch;

use super::{
    Ledger, LedgerError,
    record::{IssuedRecord, Place, key},
};
use crate::time::Time;

/// Most rows of each kind that one entry clears. Each entry adds one, so that a backlog always shrinks.
const ROWS_MAX: usize = 8;
/// How long an expired certificate stays listed, and its serial taken.
const GRACE: Duration = Duration::from_hours(1);

impl Ledger {
    pub(super) fn prune(&mut self, batch: &mut Batch) -> Result<(), LedgerError> {
        let time = self.head.time;
        for expiry in self.expired(key::TOKEN_EXPIRY, time)? {
            let token = [b"t", key::after_time(&expiry)].concat();
            self.rows.delete(batch, token);
            self.rows.delete(batch, expiry.to_vec());
        }
        for expiry in self.expired(key::INVITATION_EXPIRY, time)? {
            let invitation = [&[key::INVITATION], key::after_time(&expiry)].concat();
            self.rows.delete(batch, invitation);
            self.rows.delete(batch, expiry.to_vec());
        }
        for expiry in self.expired(key::ISSUED_EXPIRY, time.minus(GRACE))? {
            self.forget_issued(batch, Place::decode(key::after_time(&expiry))?)?;
            self.rows.delete(batch, expiry.to_vec());
        }
        Ok(())
    }

    fn expired(&self, kind: u8, before: Time) -> Result<Vec<Bytes>, LedgerError> {
        let (from, to) = key::expired(kind, before);
        self.rows.keys(&from, &to, ROWS_MAX)
    }

    fn forget_issued(&mut self, batch: &mut Batch, place: Place) -> Result<(), LedgerError> {
        let Some(row) = self.rows.get(&key::issued(place))? else { return Ok(()) };
        let record = IssuedRecord::decode(&row)?;
        // A later certificate of the same request has taken the row over.
        let request = key::request(&record.request);
        if self.rows.get(&request)?.as_deref() == Some(&place.encode()[..]) {
            self.rows.delete(batch, request);
        }
        self.rows.delete(batch, key::serial(&record.serial));
        self.rows.delete(batch, key::issued(place));
        Ok(())
    }
}
