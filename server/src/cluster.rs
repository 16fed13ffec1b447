//! etcd's `Cluster` service.
//!
//! - Members are known by what they told of themselves through the log: every member lists the same ones.
//! - This version has no transport between members, so that no second one could start: whoever would make the cluster
//!   wait for one, or end it, is refused as etcd refuses what would cost the cluster its quorum.

use std::sync::Arc;

use proto::etcdserverpb::{self as pb, cluster_server::Cluster};
use store::{Answer, Command, Member, MemberChange, Refusal};
use tonic::{Request, Response, Status};

use crate::{
    auth::Caller,
    core::Core,
    kv::mismatched,
    status::{bad_member_urls, not_a_learner, not_enough_started_members, refused},
    urls::peer_urls,
};

/// Who belongs to the cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterFace(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Cluster for ClusterFace {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.0.confirm_read().await?;
        }
        Ok(Response::new(pb::MemberListResponse { header: Some(self.header()), members: self.members() }))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let urls = peer_urls(&request.into_inner().peer_ur_ls).ok_or_else(bad_member_urls)?;
        self.0.confirm_read().await?;
        let members = self.0.view.members();
        if members.iter().flat_map(|member| &member.peer_urls).any(|url| urls.contains(url)) {
            return Err(refused(&Refusal::PeerUrlExists));
        }
        Err(not_enough_started_members())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.known(request.into_inner().id).await?;
        Err(not_enough_started_members())
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let request = request.into_inner();
        self.known(request.id).await?;
        let peer_urls = peer_urls(&request.peer_ur_ls).ok_or_else(bad_member_urls)?;
        change_member(&self.0, MemberChange::PeerUrls { id: request.id, peer_urls }).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: Some(self.header()), members: self.members() }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.known(request.into_inner().id).await?;
        Err(not_a_learner())
    }
}

impl ClusterFace {
    /// Cluster headers tell no revision, as in etcd.
    fn header(&self) -> pb::ResponseHeader {
        self.0.header_without_revision()
    }

    fn members(&self) -> Vec<pb::Member> {
        self.0.view.members().into_iter().map(wire_member).collect()
    }

    async fn known(&self, id: u64) -> Result<(), Status> {
        self.0.confirm_read().await?;
        let is_known = self.0.view.members().iter().any(|member| member.id == id);
        if is_known { Ok(()) } else { Err(refused(&Refusal::MemberNotFound)) }
    }
}

fn wire_member(member: Member) -> pb::Member {
    let Member { id, name, peer_urls, client_urls } = member;
    pb::Member { id, name, peer_ur_ls: peer_urls, client_ur_ls: client_urls, is_learner: false }
}

/// Tells the cluster who this member is, unless that is known.
pub(crate) async fn publish(core: &Core) -> Result<(), Status> {
    let config = &core.config;
    let known = core.view.members().into_iter().find(|member| member.id == core.member.0);
    let told = Member {
        id: core.member.0,
        name: config.name.clone(),
        peer_urls: known.as_ref().map_or_else(|| config.advertise_peer_urls.clone(), |known| known.peer_urls.clone()),
        client_urls: config.advertise_client_urls.clone(),
    };
    if known.as_ref() == Some(&told) { Ok(()) } else { change_member(core, MemberChange::Publish(told)).await }
}

async fn change_member(core: &Core, change: MemberChange) -> Result<(), Status> {
    match core.propose(&Command::Member(change), &Caller::ControlPlane, &core.config.store).await? {
        Answer::Member(_) => Ok(()),
        other => Err(mismatched(&other)),
    }
}
