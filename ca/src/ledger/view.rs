//! The ledger as readers see it: what was applied and written.
//!
//! - A read sees the ledger of one engine: another takes its place for all at once.

use std::sync::Arc;

use arc_swap::ArcSwap;
use engine::Engine;

use super::{
    Invitation, LedgerError, SPACE,
    command::Genesis,
    merkle::TreeHead,
    record::{Head, IssuedRecord, Place, Token, key},
};
use crate::{time::Time, token::JoinToken};

/// Reads the ledger. Clones read the same.
#[derive(Clone, Debug)]
pub struct LedgerView(Arc<ArcSwap<Engine>>);

impl LedgerView {
    pub(super) fn new(engine: Engine) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(engine)))
    }

    /// From now on the ledger is what this engine holds.
    pub(super) fn replace(&self, engine: Engine) {
        self.0.store(Arc::new(engine));
    }

    fn engine(&self) -> Engine {
        Engine::clone(&self.0.load())
    }

    /// How the authority was founded; `None` before it is.
    pub fn genesis(&self) -> Result<Option<Genesis>, LedgerError> {
        genesis(&self.engine())
    }

    /// The ledger's time.
    pub fn time(&self) -> Result<Time, LedgerError> {
        head(&self.engine()).map(|head| head.time)
    }

    /// The Merkle tree over all entries so far.
    pub fn tree_head(&self) -> Result<TreeHead, LedgerError> {
        head(&self.engine()).map(|head| head.tree.head())
    }

    /// What was issued there; `None` if nothing was, or if it is forgotten since it expired.
    pub fn issued(&self, place: Place) -> Result<Option<IssuedRecord>, LedgerError> {
        Ok(self.engine().get(SPACE, &key::issued(place))?.as_deref().map(IssuedRecord::decode).transpose()?)
    }

    /// The latest issued, newest first, without those that have expired by the ledger's time. At most `limit`.
    pub fn latest(&self, limit: usize) -> Result<Vec<IssuedRecord>, LedgerError> {
        let engine = self.engine();
        let now = head(&engine)?.time;
        let mut records = Vec::new();
        let mut cursor = engine.cursor(SPACE)?;
        cursor.seek_back(&[key::ISSUED + 1]);
        // Nothing is stored at the bare next letter, but the walk may not rely on it.
        while records.len() < limit
            && let Some((found, row)) = cursor.entry().filter(|(found, _)| found[0] >= key::ISSUED)
        {
            if found[0] == key::ISSUED {
                let record = IssuedRecord::decode(row)?;
                if record.not_after >= now {
                    records.push(record);
                }
            }
            cursor.previous();
        }
        cursor.status()?;
        Ok(records)
    }

    /// The identity that a token's bearer would be given, while it is worth asking: used ones too, since a repeated
    /// request is answered again.
    pub(crate) fn token_identity(&self, hash: &[u8; 32], now: Time) -> Result<Option<types::SpiffeId>, LedgerError> {
        let token = self.engine().get(SPACE, &key::token(hash))?.as_deref().map(Token::decode).transpose()?;
        Ok(token.filter(|token| token.used || token.expires > now).map(|token| token.spiffe_id))
    }

    /// The invitation of this secret; `None` if there is none, or none any more.
    pub fn invitation(&self, token: &JoinToken) -> Result<Option<Invitation>, LedgerError> {
        let row = self.engine().get(SPACE, &key::invitation(&token.hash()))?;
        Ok(row.as_deref().map(Invitation::decode).transpose()?)
    }

    /// The invitations that nobody has used and that have not expired by the ledger's time.
    pub fn open_invitations(&self) -> Result<Vec<Invitation>, LedgerError> {
        let now = self.time()?;
        let mut open = Vec::new();
        let engine = self.engine();
        let mut cursor = engine.cursor(SPACE)?;
        cursor.seek(&[key::INVITATION]);
        while let Some((_, row)) = cursor.entry().filter(|(found, _)| found[0] == key::INVITATION) {
            let invitation = Invitation::decode(row)?;
            if invitation.admitted.is_none() && invitation.expires > now {
                open.push(invitation);
            }
            cursor.next();
        }
        cursor.status()?;
        Ok(open)
    }
}

pub(super) fn genesis(engine: &Engine) -> Result<Option<Genesis>, LedgerError> {
    Ok(engine.get(SPACE, key::GENESIS)?.as_deref().map(Genesis::decode).transpose()?)
}

pub(super) fn head(engine: &Engine) -> Result<Head, LedgerError> {
    let row = engine.get(SPACE, key::HEAD)?;
    Ok(row.as_deref().map(Head::decode).transpose()?.unwrap_or_else(Head::empty))
}
