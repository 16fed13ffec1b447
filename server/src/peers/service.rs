//! What members ask of this one beside the log.

use std::sync::Arc;

use proto::member::{self as pb, peers_server::Peers};
use tonic::{Request, Response, Status};
use types::{LeaseId, Revision};

use super::leader;
use crate::{compare, core::Core, members::wire_member, status::too_many_at_once};

/// Most leases that are renewed together.
const RENEWALS_MAX: usize = 10_000;

/// The services of the peer port that are not the log's.
#[derive(Clone, Debug)]
pub(crate) struct PeersFace(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Peers for PeersFace {
    async fn introduce(
        &self,
        request: Request<pb::IntroduceRequest>,
    ) -> Result<Response<pb::IntroduceResponse>, Status> {
        let mut asked = request.into_inner().peer_urls;
        asked.sort_unstable();
        self.0.confirm_read().await?;
        let members = self.0.raft.members();
        let has_addresses = |member: &&raft::Member| {
            let mut addresses = member.node.peer_urls.clone();
            addresses.sort_unstable();
            addresses == asked
        };
        Ok(Response::new(pb::IntroduceResponse {
            cluster_id: self.0.cluster.0,
            member_id: members.iter().find(has_addresses).map_or(0, |member| member.id.0),
            members: members.into_iter().map(wire_member).collect(),
        }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        // All that was acknowledged is here then, so what the leader has, too.
        self.0.confirm_read().await?;
        let hash = compare::hash_here(&self.0, Revision::new(request.into_inner().revision)).await?;
        Ok(Response::new(pb::HashResponse { hash: hash.hash, compact_revision: hash.compacted }))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewResponse>, Status> {
        let ids = request.into_inner().ids;
        if ids.len() > RENEWALS_MAX {
            return Err(too_many_at_once());
        }
        let leader::Renewed { revision, ttls } = leader::renew_here(&self.0, &ids).await?;
        Ok(Response::new(pb::RenewResponse { revision, ttls }))
    }

    async fn remaining(
        &self,
        request: Request<pb::RemainingRequest>,
    ) -> Result<Response<pb::RemainingResponse>, Status> {
        let one = LeaseId::new(request.into_inner().id);
        let leases = leader::remaining_here(&self.0, one).await?.into_iter();
        let lease = |(id, left): leader::Remaining| pb::Lease {
            id: id.get(),
            remaining_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(Response::new(pb::RemainingResponse { leases: leases.map(lease).collect() }))
    }
}
