//! What clients ask about releases.

use std::sync::Arc;

use proto::upgrade::{self as pb, upgrade_server::Upgrade};
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::{Running, members, program_version};
use crate::{
    core::Core,
    machine::{Answer, ClusterCommand, Proposal},
    status::{not_agreed, timed_out},
};

/// `meshstore.upgrade.v1.Upgrade`.
#[derive(Clone, Debug)]
pub(crate) struct UpgradeFace(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Upgrade for UpgradeFace {
    async fn versions(&self, _request: Request<pb::VersionsRequest>) -> Result<Response<pb::VersionsResponse>, Status> {
        let member = |running: Running| pb::MemberVersion {
            id: running.id.0,
            name: running.name,
            release: running.release.map_or_else(String::new, |release| release.to_string()),
        };
        Ok(Response::new(pb::VersionsResponse {
            version: program_version(self.0.config.release),
            cluster_version: self.0.version().to_string(),
            members: members(&self.0).into_iter().map(member).collect(),
        }))
    }

    async fn probe(&self, _request: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeResponse>, Status> {
        let agreed = self.0.agree(Proposal::cluster(ClusterCommand::Probe), None);
        let answer = timeout(self.0.request_timeout(), agreed).await.map_err(|_elapsed| timed_out())?;
        match answer.map_err(|error| not_agreed(&error))? {
            Answer::Cluster { index, version } => {
                Ok(Response::new(pb::ProbeResponse { index, cluster_version: version.to_string() }))
            }
            Answer::Store(_) | Answer::Login { .. } | Answer::Ledger(_) | Answer::TermIsOver => {
                unreachable!("a command of the cluster has its own answer")
            }
        }
    }
}
