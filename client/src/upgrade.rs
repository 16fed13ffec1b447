//! Which releases of meshstore the members run. An etcd knows nothing of this.
//!
//! Its messages are those of `meshstore/upgrade.proto`, which documents them.

use std::collections::BTreeMap;

use proto::upgrade::{self as pb, upgrade_client::UpgradeClient};
use tonic::Code;

use crate::{Client, ClientError, transport::Repeat};

/// What a member knows of releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The version that it runs, `MAJOR.MINOR.PATCH`.
    pub version: String,
    /// The release that the cluster has agreed on, `MAJOR.MINOR`: all members run it or a later one.
    pub cluster_version: String,
    /// The release that each member said it runs, `MAJOR.MINOR`, by ID; none of those that it did not hear of.
    pub members: BTreeMap<u64, String>,
}

/// A probe that the cluster has agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Its place in the log.
    pub index: u64,
    /// The release that the cluster was at by then, `MAJOR.MINOR`.
    pub cluster_version: String,
}

impl Client {
    /// Asks the preferred endpoint which release it runs; `None` for one that does not say: an etcd, or meshstore 0.1.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn versions(&self) -> Result<Option<Versions>, ClientError> {
        let ask = |link| async move { UpgradeClient::new(link).versions(pb::VersionsRequest {}).await };
        match self.transport.call(Repeat::Always, ask).await {
            Ok(pb::VersionsResponse { version, cluster_version, members }) => {
                let known = members.into_iter().filter(|member| !member.release.is_empty());
                let members = known.map(|member| (member.id, member.release)).collect();
                Ok(Some(Versions { version, cluster_version, members }))
            }
            Err(ClientError::Refused { code: Code::Unimplemented, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the cluster agree on an entry of its log that changes nothing: it can write if this returns.
    ///
    /// # Errors
    /// [`ClientError::Refused`] until all members run a release that knows such entries; else as [`ClientError`] says.
    pub async fn probe(&self) -> Result<Probed, ClientError> {
        let probe = |link| async move { UpgradeClient::new(link).probe(pb::ProbeRequest {}).await };
        let pb::ProbeResponse { index, cluster_version } = self.transport.call(Repeat::Always, probe).await?;
        Ok(Probed { index, cluster_version })
    }
}
