//! `snapshot restore`, which is `snapshot import` too: a file becomes a data directory.

use super::{bar::Bar, no_snapshot};
use crate::cli::failure::Failure;
use server::{Progress, Restore, Restored};
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// Makes a fresh data directory of a snapshot, ours or etcd's, with all keys, their history and the leases.
///
/// The member that starts on it is new: it has its own ID and forms a cluster of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples: a backup of ours; and a move from etcd
  meshstore snapshot restore backup.db --data-dir new.meshstore && meshstore server --data-dir new.meshstore
  etcdctl snapshot save etcd.db && meshstore snapshot import etcd.db --data-dir new.meshstore")]
pub(crate) struct Args {
    /// The snapshot
    file: PathBuf,
    /// Where the data directory is made; nothing may be there [default: NAME.meshstore]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the member's log is made; nothing may be there [default: in the data directory]
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// The member's name among people [default: default]
    #[arg(long)]
    name: Option<String>,
    /// Where peers are told to connect; it makes the member's ID [default: <http://localhost:2380>]
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    initial_advertise_peer_urls: Option<Vec<String>>,
    /// Keeps apart clusters formed from the same addresses; it makes the member's ID [default: etcd-cluster]
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// Take the file without its checksum, as when it was copied from a data directory
    #[arg(long)]
    skip_hash_check: bool,
    /// Go on with a revision that is higher by this, so that clients see none go back
    #[arg(long, value_name = "COUNT")]
    bump_revision: Option<u64>,
    /// Forget all before the bumped revision, so that watches start anew; goes with --bump-revision
    #[arg(long)]
    mark_compacted: bool,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let restore = self.resolve()?;
        let (file, data_dir) = (restore.snapshot.clone(), restore.config.data_dir.clone());
        let bytes = restore.snapshot.metadata().map_or(0, |file| file.len());
        let mut bar = Bar::new(bytes);
        let restored = ::server::restore(restore, move |progress| match progress {
            Progress::Verified(done) => bar.show("checking", done),
            Progress::Loaded(done) => bar.show("loading", done),
        });
        let restored = restored.await.map_err(|error| no_snapshot(&file, error))?;
        let mut stdout = io::stdout().lock();
        Ok(stdout.write_all(told(&restored, &data_dir.display().to_string()).as_bytes())?)
    }

    fn resolve(self) -> Result<Restore, Failure> {
        let bump_revision = self.bump_revision.filter(|bump| *bump > 0);
        if bump_revision.is_some() != self.mark_compacted {
            return Err(Failure::bad_args("--bump-revision above 0 and --mark-compacted go together"));
        }
        let default = ::server::Config::default();
        let name = self.name.unwrap_or(default.name);
        let config = ::server::Config {
            data_dir: self.data_dir.unwrap_or_else(|| PathBuf::from(format!("{name}.meshstore"))),
            advertise_peer_urls: self.initial_advertise_peer_urls.unwrap_or(default.advertise_peer_urls),
            cluster_token: self.initial_cluster_token.unwrap_or(default.cluster_token),
            wal_dir: self.wal_dir,
            name,
            ..::server::Config::default()
        };
        let skip_hash_check = self.skip_hash_check;
        Ok(Restore { snapshot: self.file, config, skip_hash_check, bump_revision })
    }
}

/// What is said of a restore, and what is left to do.
fn told(restored: &Restored, data_dir: &str) -> String {
    let Restored { revision, writes, left_out, leases, trust_domain, member, cluster } = restored;
    let mut lines = vec![
        format!("Restored to {data_dir}: revision {revision}, {writes} writes of history, {leases} leases"),
        format!("Member {member} of cluster {cluster}; start it by: meshstore server --data-dir {data_dir}"),
    ];
    if *left_out > 0 {
        lines.push(format!("Left out {left_out} writes that the same transaction had written over"));
    }
    if let Some(trust_domain) = trust_domain {
        lines.push(format!(
            "It has the ledger of trust domain {trust_domain}, whose keys are in no snapshot: before the"
        ));
        lines
            .push("member starts, copy authority/ and authority.kek from the data directory that was saved".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
