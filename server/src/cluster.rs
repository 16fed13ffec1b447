//! etcd's `Cluster` and `Maintenance` services, as far as one member has something to say.

use std::sync::Arc;

use proto::etcdserverpb::{self as pb, cluster_server::Cluster, maintenance_server::Maintenance};
use tonic::{Request, Response, Status};

use crate::{ETCD_API_VERSION, core::Core};

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
}

/// How the member is.
#[derive(Clone, Debug)]
pub(crate) struct MaintenanceFace {
    pub(crate) core: Arc<Core>,
    pub(crate) state: engine::Engine,
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
}
