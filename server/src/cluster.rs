//! etcd's `Cluster` service.
//!
//! - The members are those of the log's membership, names and addresses included: every member lists the same ones.
//! - A member that is added has no vote before it has caught up, whatever was asked for: one that never starts costs the
//!   others nothing.

use std::sync::Arc;

use proto::etcdserverpb::{self as pb, cluster_server::Cluster};
use raft::{Member, MemberId, Node};
use tonic::{Request, Response, Status};

use crate::{
    clock::unix_time,
    core::Core,
    ids,
    members::{etcd_member, has_any, learners},
    status::{bad_member_urls, member_not_found, no_way_to_members, not_changed, peer_url_exists, too_many_learners},
    urls::{is_secure, peer_urls},
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
        let pb::MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let added = add(&self.0, &peer_ur_ls, is_learner).await?;
        let members = self.members();
        let member = members.iter().find(|member| member.id == added.0).cloned();
        Ok(Response::new(pb::MemberAddResponse { header: Some(self.header()), member, members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let id = MemberId(request.into_inner().id);
        self.0.raft.remove(id).await.map_err(|error| not_changed(&error))?;
        Ok(Response::new(pb::MemberRemoveResponse { header: Some(self.header()), members: self.members() }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        update(&self.0, MemberId(id), &peer_ur_ls).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: Some(self.header()), members: self.members() }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let id = MemberId(request.into_inner().id);
        self.0.raft.promote(id).await.map_err(|error| not_changed(&error))?;
        Ok(Response::new(pb::MemberPromoteResponse { header: Some(self.header()), members: self.members() }))
    }
}

impl ClusterFace {
    /// Cluster headers tell no revision, as in etcd.
    fn header(&self) -> pb::ResponseHeader {
        self.0.header_without_revision()
    }

    fn members(&self) -> Vec<pb::Member> {
        self.0.raft.members().into_iter().map(etcd_member).collect()
    }
}

/// Adds a member that is to be started later, and gives its id.
async fn add(core: &Core, urls: &[String], is_learner: bool) -> Result<MemberId, Status> {
    let peer_urls = peer_urls(urls).ok_or_else(bad_member_urls)?;
    core.confirm_read().await?;
    let members = core.raft.members();
    if members.iter().any(|member| has_any(member, &peer_urls)) {
        return Err(peer_url_exists());
    }
    if !core.links.is_open() {
        return Err(no_way_to_members());
    }
    if !peer_urls.iter().all(|url| is_secure(url)) {
        return Err(bad_member_urls());
    }
    if is_learner && learners(&members) >= core.config.learners_max {
        return Err(too_many_learners());
    }
    let id = ids::added_member_id(&peer_urls, unix_time());
    let node = Node { peer_urls, wants_vote: !is_learner, ..Node::default() };
    core.raft.add_learner(id, node).await.map_err(|error| not_changed(&error))?;
    Ok(id)
}

/// Tells the cluster where a member is reached from now on.
async fn update(core: &Core, id: MemberId, urls: &[String]) -> Result<(), Status> {
    core.confirm_read().await?;
    let members = core.raft.members();
    let member = members.iter().find(|member| member.id == id).ok_or_else(member_not_found)?;
    let peer_urls = peer_urls(urls).ok_or_else(bad_member_urls)?;
    if members.iter().any(|other: &Member| other.id != id && has_any(other, &peer_urls)) {
        return Err(peer_url_exists());
    }
    let node = Node { peer_urls, ..member.node.clone() };
    core.raft.update(id, node).await.map_err(|error| not_changed(&error))?;
    Ok(())
}
