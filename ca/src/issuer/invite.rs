//! Invitations of new members, and their use.

use std::time::Duration;

use tracing::info;

use super::{IssueError, Issuer};
use crate::{
    ledger::{Admit, Invite, LedgerAnswer, LedgerCommand},
    time::Time,
    token::JoinToken,
};

impl Issuer {
    /// Invites a member of this name. `learner`: it stays without a vote until somebody promotes it; `ttl`: as
    /// configured for join tokens if `None`. Gives also when the invitation expires.
    ///
    /// # Errors
    /// [`IssueError::Invalid`] for a `ttl` out of its bounds; else as [`IssueError`] says.
    pub async fn invite(
        &self,
        name: String,
        learner: bool,
        ttl: Option<Duration>,
    ) -> Result<(JoinToken, Time), IssueError> {
        let ttl = self.token_ttl(ttl)?;
        let (token, time) = (JoinToken::random()?, Time::now());
        let expires = time.plus(ttl);
        let invite = Invite { time, token_hash: token.hash(), name: name.clone(), learner, expires };
        self.log.propose(LedgerCommand::Invite(invite)).await??;
        info!(name, learner, %expires, "member invited");
        Ok((token, expires))
    }

    /// Consumes an invitation: its bearer is `member` from now on, or the one that it was told before if it repeats a
    /// request with the same `nonce`.
    ///
    /// # Errors
    /// [`IssueError::Refused`] if the invitation is unknown, used or expired.
    pub async fn admit(&self, token: &JoinToken, nonce: [u8; 32], member: u64) -> Result<u64, IssueError> {
        let admit = Admit { time: Time::now(), token_hash: token.hash(), nonce, member };
        match self.log.propose(LedgerCommand::Admit(admit)).await?? {
            LedgerAnswer::Admitted(member) => Ok(member),
            LedgerAnswer::Recorded(_) | LedgerAnswer::Issued(_) | LedgerAnswer::Time(_) => Err(IssueError::Cut),
        }
    }
}
