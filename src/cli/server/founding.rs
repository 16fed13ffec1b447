//! The flags by which etcd's members find one another when a cluster is formed. This version forms clusters of one.

use super::variable;
use crate::cli::failure::Failure;

/// The cluster's first members.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct FoundingFlags {
    /// The cluster's members when it is formed; in this version itself alone, as NAME=URL
    #[arg(long, value_name = "NAME=URL,…", value_delimiter = ',', env = variable("initial-cluster"))]
    initial_cluster: Option<Vec<String>>,
    /// Whether the cluster is formed or joined; this version finds out by its data directory
    #[arg(long, value_enum, env = variable("initial-cluster-state"))]
    initial_cluster_state: Option<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum State {
    New,
    Existing,
}

impl FoundingFlags {
    /// Refuses a cluster of others.
    pub(super) fn check(&self, member: &server::Config) -> Result<(), Failure> {
        let ours: Vec<_> = member.advertise_peer_urls.iter().map(|url| format!("{}={url}", member.name)).collect();
        let named = self.initial_cluster.iter().flatten().filter(|one| !one.is_empty());
        let Some(other) = named.into_iter().find(|one| !ours.contains(one)) else { return Ok(()) };
        let failure = Failure::bad_args(format!(
            "--initial-cluster names {other:?}, but this version runs clusters of one member, and that is {}",
            ours.join(",")
        ));
        Err(failure.next("leave it out; --name and --initial-advertise-peer-urls say who this member is"))
    }
}
