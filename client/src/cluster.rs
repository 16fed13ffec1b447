//! Members of the cluster, and the state of the one that answers.

use crate::{Client, ClientError, Header, transport::Repeat};
use proto::etcdserverpb::{self as pb, cluster_client::ClusterClient, maintenance_client::MaintenanceClient};
use types::Revision;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// The members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberListResponse {
    /// Who answered.
    pub header: Header,
    /// In the server's order.
    pub members: Vec<MemberInfo>,
}

/// The state of the member that answered. Source: etcd v3 `StatusResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision on this member.
    pub revision: Revision,
    /// The version of etcd that it is compatible with.
    pub version: String,
    /// Bytes on its disk.
    pub db_size_bytes: i64,
    /// Bytes of them in use.
    pub db_size_in_use_bytes: i64,
    /// The member that leads; 0 when none does.
    pub leader: u64,
    /// The last index in its log.
    pub raft_index: u64,
    /// Its term.
    pub raft_term: u64,
    /// The last index that it has applied.
    pub raft_applied_index: u64,
    /// What is wrong with it.
    pub errors: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

impl Client {
    /// Lists the members as the whole cluster sees them. Source: etcd v3 `Cluster.MemberList`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn member_list(&self) -> Result<MemberListResponse, ClientError> {
        let list = |link| async move {
            ClusterClient::new(link).member_list(pb::MemberListRequest { linearizable: true }).await
        };
        let response: pb::MemberListResponse = self.transport.call(Repeat::Always, list).await?;
        let member = |member: pb::Member| MemberInfo {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        };
        Ok(MemberListResponse {
            header: Header::from_wire(response.header).0,
            members: response.members.into_iter().map(member).collect(),
        })
    }

    /// Asks the preferred endpoint for its state. Source: etcd v3 `Maintenance.Status`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn status(&self) -> Result<StatusResponse, ClientError> {
        let status = |link| async move { MaintenanceClient::new(link).status(pb::StatusRequest {}).await };
        let response: pb::StatusResponse = self.transport.call(Repeat::Always, status).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(StatusResponse {
            header,
            revision,
            version: response.version,
            db_size_bytes: response.db_size,
            db_size_in_use_bytes: response.db_size_in_use,
            leader: response.leader,
            raft_index: response.raft_index,
            raft_term: response.raft_term,
            raft_applied_index: response.raft_applied_index,
            errors: response.errors,
            is_learner: response.is_learner,
        })
    }
}
