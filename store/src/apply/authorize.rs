//! Users and roles in the log, and who may do what there.
//!
//! Owns: the judgement of every command, before it does anything.

use std::sync::Arc;

use engine::Batch;
use types::LeaseId;

use super::Store;
use crate::{
    Actor, AuthAnswer, AuthCommand, Command, Failure,
    auth::{Edit, KeySet},
    layout,
};

impl Store {
    /// Refuses what the actor may not do, by the users and roles that the log has left so far.
    pub(super) fn authorize(&self, actor: &Actor, command: &Command) -> Result<(), Failure> {
        if !self.auth.is_enabled() || *actor == Actor::Trusted {
            return Ok(());
        }
        let within = |id: LeaseId, set: &KeySet| self.lease_within(id, set);
        match command {
            Command::Put(put) => self.auth.access(actor)?.put(put, &within),
            Command::DeleteRange(delete) => self.auth.access(actor)?.delete_range(delete),
            Command::Txn(txn) => self.auth.access(actor)?.txn(txn, &within),
            Command::LeaseRevoke(revoke) => {
                let access = self.auth.access(actor)?;
                revoke.ids.iter().try_for_each(|&id| access.lease(id, &within))
            }
            Command::LeaseGrant(_) => Ok(self.auth.require_user(actor)?),
            // Whoever logs in has shown their password, and has no name yet.
            Command::Auth(AuthCommand::Authenticate { .. }) => Ok(()),
            Command::Auth(_)
            | Command::Compact(_)
            | Command::LeaseCheckpoint(_)
            | Command::Alarm(_)
            | Command::Settle => Ok(self.auth.require_root(actor)?),
        }
    }

    pub(super) fn auth(&mut self, batch: &mut Batch, command: &AuthCommand) -> Result<AuthAnswer, Failure> {
        Edit { auth: Arc::make_mut(&mut self.auth), batch }.run(command)?;
        Ok(AuthAnswer { revision: self.revision, auth_revision: self.auth.revision() })
    }

    /// Whether a lease's keys, as the next command sees them, are all in a set; one without keys is.
    fn lease_within(&self, id: LeaseId, set: &KeySet) -> Result<bool, Failure> {
        if !self.has_lease(id) {
            return Ok(true);
        }
        let mut added = self.overlay.attachments(id).filter(|(_, attached)| **attached);
        if !added.all(|(key, _)| set.end_of(key).is_some()) {
            return Ok(false);
        }
        let detached = |key: &[u8]| self.overlay.has_detached(id, key);
        Ok(layout::attached_within(&self.shared.engine, id, set, detached)?)
    }
}
