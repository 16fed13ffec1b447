//! How a cluster grows: invitations, and joining by one.
//!
//! Its messages are those of `meshstore/member.proto`, which documents them. To invite, the server demands the
//! administrator's certificate on the connection; to join, an invitation.

use std::{fmt, time::Duration};

use proto::member::membership_client::MembershipClient;
pub use proto::member::{JoinRequest, JoinResponse};

use crate::{Client, ClientError, transport::Repeat};

/// Whom to invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// The name that the new member must bear.
    pub name: String,
    /// How long the invitation is good for, in whole seconds; `None` takes the server's hour.
    pub ttl: Option<Duration>,
    /// The new member stays without a vote until somebody promotes it.
    pub learner: bool,
    /// A member to be removed first.
    pub replaces: Option<u64>,
}

/// A single-use secret by which a new member joins.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The secret.
    pub token: String,
    /// When it expires, Unix seconds.
    pub expires_at: i64,
    /// Names the authority of whom the secret may be given to.
    pub authority: String,
}

/// Without the secret.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Client {
    /// Makes an invitation of one new member.
    ///
    /// # Errors
    /// [`ClientError::Denied`] unless the caller is the administrator; [`ClientError::Refused`] if the name is taken.
    pub async fn invite_member(&self, invite: Invite) -> Result<Invitation, ClientError> {
        let Invite { name, ttl, learner, replaces } = invite;
        let request = proto::member::InviteRequest {
            name,
            ttl_seconds: ttl.map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
            learner,
            replaces: replaces.unwrap_or(0),
        };
        let invite = |link| {
            let request = request.clone();
            async move { MembershipClient::new(link).invite(request).await }
        };
        let made = self.transport.call(Repeat::IfUnsent, invite).await?;
        Ok(Invitation { token: made.token, expires_at: made.expires_at, authority: made.authority })
    }

    /// Joins a cluster by an invitation. The same request may be made again: it is given the same answer, which holds
    /// the keys that every member has.
    ///
    /// # Errors
    /// [`ClientError::Denied`] if the invitation is not accepted; [`ClientError::Refused`] if name or addresses are
    /// taken.
    pub async fn join_cluster(&self, request: JoinRequest) -> Result<JoinResponse, ClientError> {
        let join = |link| {
            let request = request.clone();
            async move { MembershipClient::new(link).join(request).await }
        };
        self.transport.call(Repeat::Always, join).await
    }
}
