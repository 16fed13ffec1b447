//! etcd's `Cluster` and `Maintenance` services, as far as one member has something to say.

use std::sync::Arc;

use proto::etcdserverpb::{self as pb, cluster_server::Cluster, maintenance_server::Maintenance};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    ETCD_API_VERSION,
    core::Core,
    snapshot::{self, Snapshots},
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
        let config = &self.0.config;
        let member = pb::Member {
            id: self.0.member.0,
            name: config.name.clone(),
            peer_ur_ls: config.advertise_peer_urls.clone(),
            client_ur_ls: config.advertise_client_urls.clone(),
            is_learner: false,
        };
        let header = Some(self.0.header_without_revision());
        Ok(Response::new(pb::MemberListResponse { header, members: vec![member] }))
    }
    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn member_remove(
        &self,
        _request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn member_update(
        &self,
        _request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn member_promote(
        &self,
        _request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }
}

/// How the member is.
#[derive(Clone, Debug)]
pub(crate) struct MaintenanceFace {
    pub(crate) core: Arc<Core>,
    pub(crate) state: engine::Engine,
    pub(crate) snapshots: Snapshots,
}

#[tonic::async_trait]
impl Maintenance for MaintenanceFace {
    async fn status(&self, _request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let raft = self.core.raft.status();
        let bytes = self.state.disk_bytes().map_err(|error| Status::unknown(format!("etcdserver: {error}")))?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let errors = if raft.leader.is_none() { vec!["etcdserver: no leader".to_owned()] } else { Vec::new() };
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.core.header(self.core.view.revision())),
            version: ETCD_API_VERSION.to_owned(),
            db_size: bytes,
            leader: raft.leader.map_or(0, |leader| leader.0),
            raft_index: raft.log_index,
            raft_term: raft.term,
            raft_applied_index: raft.applied_index,
            errors,
            db_size_in_use: bytes,
            is_learner: false,
            storage_version: ETCD_API_VERSION.to_owned(),
            db_size_quota: 0,
            downgrade_info: None,
        }))
    }
    async fn alarm(&self, _request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn hash_kv(&self, _request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn move_leader(
        &self,
        _request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    async fn downgrade(
        &self,
        _request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(Status::unimplemented("etcdserver: not implemented"))
    }

    type SnapshotStream = ReceiverStream<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Ok(Response::new(snapshot::stream(&self.core, self.state.clone(), &self.snapshots)))
    }
}
