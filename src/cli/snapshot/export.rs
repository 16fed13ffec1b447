//! `snapshot export`: a server's state, or a data directory, becomes a file.

use super::{no_snapshot, save::SaveArgs};
use crate::cli::{connection::Flags, failed, failure::Failure, in_session};
use server::Member;
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Writes a file that etcdutl snapshot restore makes an etcd of: of a running server, or of a data directory whose
/// server does not run
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: a move to etcd
  meshstore snapshot export etcd.db --data-dir default.meshstore && etcdutl snapshot restore etcd.db")]
pub(crate) struct Args {
    /// The file to be written
    file: PathBuf,
    /// A data directory, instead of a running server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The peer URLs that its server was started with [default: <http://localhost:2380>]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', requires = "data_dir")]
    initial_advertise_peer_urls: Option<Vec<String>>,
    /// The token that its server was started with [default: etcd-cluster]
    #[arg(long, value_name = "TOKEN", requires = "data_dir")]
    initial_cluster_token: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// `before`: the flags that stand before the verb.
    pub(super) async fn run(self, before: Flags) -> Result<(), Failure> {
        let Some(data_dir) = self.data_dir else {
            return in_session(SaveArgs { file: self.file, flags: self.flags }, before).await;
        };
        if !data_dir.is_dir() {
            return Err(Failure::bad_args(format!("there is no data directory {}", data_dir.display())));
        }
        let default = ::server::Config::default();
        let config = ::server::Config {
            data_dir,
            advertise_peer_urls: self.initial_advertise_peer_urls.unwrap_or(default.advertise_peer_urls),
            cluster_token: self.initial_cluster_token.unwrap_or(default.cluster_token),
            ..::server::Config::default()
        };
        // Started, without a port, it applies what its log has and its state has not: an unclean end left it so.
        let member = Member::start(config).await.map_err(|error| failed(error.into()))?;
        let saved = member.save_snapshot(self.file.clone()).await;
        member.shutdown().await.map_err(|error| failed(error.into()))?;
        saved.map_err(|error| no_snapshot(&self.file, error))?;
        Ok(writeln!(io::stdout(), "Snapshot saved at {}", self.file.display())?)
    }
}
