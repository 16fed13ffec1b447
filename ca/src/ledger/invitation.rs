//! Invitations of new members: single-use secrets, each good for one member of one name.
//!
//! - An invitation is consumed by the entry that admits, and by that one only; whoever repeats that request, known by
//!   the number that it drew, is given the same member again.

use bytes::Bytes;
use engine::Batch;

use super::{Accepted, Admit, Invite, Ledger, LedgerAnswer, LedgerError, Refusal, record::key};
use crate::{
    codec::{DecodeError, Reader, Writer},
    time::Time,
};

/// Longest name of a member, bytes.
const NAME_BYTES_MAX: usize = 253;

/// What the ledger knows of one invitation, until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The name that the new member must bear.
    pub name: String,
    /// Whether it stays without a vote until somebody promotes it.
    pub learner: bool,
    /// From when on it is worthless.
    pub expires: Time,
    /// The number that the bearer has drawn, and the member that it is.
    pub admitted: Option<([u8; 32], u64)>,
}

impl Invitation {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.text(&self.name).byte(self.learner.into()).time(self.expires);
        match &self.admitted {
            None => out.byte(0),
            Some((nonce, member)) => out.byte(1).array(nonce).u64(*member),
        };
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, "invitation row");
        let (name, learner, expires) = (input.text()?, input.flag()?, input.time()?);
        let admitted = if input.flag()? { Some((input.array()?, input.u64()?)) } else { None };
        input.finish().map(|()| Self { name, learner, expires, admitted })
    }
}

impl Ledger {
    pub(super) fn check_invite(&self, invite: &Invite) -> Result<Result<Time, Refusal>, LedgerError> {
        let time = match self.founded(invite.time) {
            Ok((_, time)) => time,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if !(1..=NAME_BYTES_MAX).contains(&invite.name.len()) {
            return Ok(Err(Refusal::Malformed("member name")));
        }
        if invite.expires <= time {
            return Ok(Err(Refusal::Malformed("invitation expiry")));
        }
        let exists = self.rows.get(&key::invitation(&invite.token_hash))?.is_some();
        Ok(if exists { Err(Refusal::TokenExists) } else { Ok(time) })
    }

    pub(super) fn check_admit(&self, admit: &Admit) -> Result<Result<Accepted, Refusal>, LedgerError> {
        let time = match self.founded(admit.time) {
            Ok((_, time)) => time,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(match self.invitation(&admit.token_hash)? {
            None => Err(Refusal::TokenUnknown),
            Some(Invitation { admitted: Some((nonce, member)), .. }) if nonce == admit.nonce => {
                Ok(Accepted::Repeat(LedgerAnswer::Admitted(member)))
            }
            Some(Invitation { admitted: Some(_), .. }) => Err(Refusal::TokenUsed),
            Some(invitation) if invitation.expires <= time => Err(Refusal::TokenExpired),
            Some(_) => Ok(Accepted::Record(time)),
        })
    }

    pub(super) fn put_invitation(&mut self, batch: &mut Batch, invite: Invite) {
        let Invite { token_hash, name, learner, expires, time: _ } = invite;
        self.rows.put(batch, key::invitation_expiry(expires, &token_hash), Bytes::new());
        let invitation = Invitation { name, learner, expires, admitted: None };
        self.rows.put(batch, key::invitation(&token_hash), invitation.encode());
    }

    pub(super) fn put_admission(&mut self, batch: &mut Batch, admit: &Admit) -> Result<LedgerAnswer, LedgerError> {
        let Admit { token_hash, nonce, member, time: _ } = admit;
        let invitation = self.invitation(token_hash)?.expect("checked: the invitation is there");
        let admitted = Some((*nonce, *member));
        self.rows.put(batch, key::invitation(token_hash), Invitation { admitted, ..invitation }.encode());
        Ok(LedgerAnswer::Admitted(*member))
    }

    fn invitation(&self, hash: &[u8; 32]) -> Result<Option<Invitation>, LedgerError> {
        Ok(self.rows.get(&key::invitation(hash))?.as_deref().map(Invitation::decode).transpose()?)
    }
}
