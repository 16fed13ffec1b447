//! Finding out which member one is, by asking those that are there.
//!
//! Only a member that an operator has added by etcd's `MemberAdd` asks: it knows its own addresses, and some of the
//! others'.

use std::{sync::Arc, time::Duration};

use proto::member::{IntroduceRequest, peers_client::PeersClient};
use raft::{ClusterId, MemberId};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{PeerDialer, PeerSecurity};
use crate::ServerError;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who this member is, as the cluster says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Introduced {
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberId,
}

/// Asks members, at these addresses, one after another, until one answers.
///
/// # Errors
/// [`ServerError::NotAdded`] if the cluster has no member with our addresses; [`ServerError::Unanswered`] if nobody answers.
pub(crate) async fn introduce(
    security: &PeerSecurity,
    ours: &[String],
    others: &[Vec<String>],
) -> Result<Introduced, ServerError> {
    let dialer = PeerDialer::new(security.clone(), raft::Config::new(ClusterId(0), MemberId(0)), Arc::default());
    for addresses in others {
        let mut peers = PeersClient::new(dialer.channel(None, addresses));
        let asked = peers.introduce(IntroduceRequest { peer_urls: ours.to_vec() });
        let answer = match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => {
                warn!(peers = ?addresses, error = status.message(), "a member did not tell which one this is");
                continue;
            }
            Err(_elapsed) => {
                warn!(peers = ?addresses, "a member did not answer");
                continue;
            }
        };
        let (cluster, member) = (ClusterId(answer.cluster_id), MemberId(answer.member_id));
        if member.0 == 0 {
            return Err(ServerError::NotAdded { cluster, peer_urls: ours.to_vec() });
        }
        info!(%cluster, %member, "the cluster has told which member this is");
        return Ok(Introduced { cluster, member });
    }
    Err(ServerError::Unanswered { asked: others.concat() })
}
