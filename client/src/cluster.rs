//! Members of the cluster.

use crate::{
    Client, ClientError, Header,
    transport::{Link, Repeat},
};
use proto::etcdserverpb::{self as pb, cluster_client::ClusterClient};

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

impl MemberInfo {
    fn from_wire(member: pb::Member) -> Self {
        Self {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            is_learner: member.is_learner,
        }
    }
}

/// The members, after the change if one was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberListResponse {
    /// Who answered.
    pub header: Header,
    /// In the server's order.
    pub members: Vec<MemberInfo>,
}

impl MemberListResponse {
    fn from_wire(header: Option<pb::ResponseHeader>, members: Vec<pb::Member>) -> Self {
        let members = members.into_iter().map(MemberInfo::from_wire).collect();
        Self { header: Header::from_wire(header).0, members }
    }
}

/// A member that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAddResponse {
    /// The new member.
    pub member: MemberInfo,
    /// All members, the new one among them.
    pub all: MemberListResponse,
}

fn cluster_client(link: Link) -> ClusterClient<Link> {
    ClusterClient::new(link)
}

impl Client {
    /// Lists the members as the whole cluster sees them. Source: etcd v3 `Cluster.MemberList`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn member_list(&self) -> Result<MemberListResponse, ClientError> {
        let request = pb::MemberListRequest { linearizable: true };
        let list = |link| async move { cluster_client(link).member_list(request).await };
        let response: pb::MemberListResponse = self.transport.call(Repeat::Always, list).await?;
        Ok(MemberListResponse::from_wire(response.header, response.members))
    }

    /// Lists the members as one member knows them, which needs no quorum.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn member_list_unconfirmed(&self) -> Result<MemberListResponse, ClientError> {
        let request = pb::MemberListRequest { linearizable: false };
        let list = |link| async move { cluster_client(link).member_list(request).await };
        let response: pb::MemberListResponse = self.transport.call(Repeat::Always, list).await?;
        Ok(MemberListResponse::from_wire(response.header, response.members))
    }

    /// Adds a member, which is to be started with these peer URLs; a learner has no vote until it is promoted. Source:
    /// etcd v3 `Cluster.MemberAdd`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when a URL is taken or malformed, or the cluster would be in danger.
    pub async fn member_add(&self, peer_urls: Vec<String>, learner: bool) -> Result<MemberAddResponse, ClientError> {
        let request = pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner: learner };
        let add = |link| {
            let request = request.clone();
            async move { cluster_client(link).member_add(request).await }
        };
        let response: pb::MemberAddResponse = self.transport.call(Repeat::IfUnsent, add).await?;
        let member = response.member.ok_or(ClientError::Protocol("an added member is not named"))?;
        Ok(MemberAddResponse {
            member: MemberInfo::from_wire(member),
            all: MemberListResponse::from_wire(response.header, response.members),
        })
    }

    /// Removes a member, for good: its id can never join again. Source: etcd v3 `Cluster.MemberRemove`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NotFound` when there is no such member, or when too few others would be left.
    pub async fn member_remove(&self, id: u64) -> Result<MemberListResponse, ClientError> {
        let request = pb::MemberRemoveRequest { id };
        let remove = |link| async move { cluster_client(link).member_remove(request).await };
        let response: pb::MemberRemoveResponse = self.transport.call(Repeat::IfUnsent, remove).await?;
        Ok(MemberListResponse::from_wire(response.header, response.members))
    }

    /// Tells the cluster where a member is reached from now on. Source: etcd v3 `Cluster.MemberUpdate`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `NotFound` when there is no such member.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<MemberListResponse, ClientError> {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls };
        let update = |link| {
            let request = request.clone();
            async move { cluster_client(link).member_update(request).await }
        };
        let response: pb::MemberUpdateResponse = self.transport.call(Repeat::IfUnsent, update).await?;
        Ok(MemberListResponse::from_wire(response.header, response.members))
    }

    /// Gives a learner its vote. Source: etcd v3 `Cluster.MemberPromote`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] while it has not caught up with the leader, or when it has its vote already.
    pub async fn member_promote(&self, id: u64) -> Result<MemberListResponse, ClientError> {
        let request = pb::MemberPromoteRequest { id };
        let promote = |link| async move { cluster_client(link).member_promote(request).await };
        let response: pb::MemberPromoteResponse = self.transport.call(Repeat::IfUnsent, promote).await?;
        Ok(MemberListResponse::from_wire(response.header, response.members))
    }
}
