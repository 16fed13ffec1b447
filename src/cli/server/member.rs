//! The flags of the member itself, shared with `cluster bootstrap`.

use std::{path::PathBuf, time::Duration};

use types::Release;

use super::{history::Mode, renamed_variable};
use crate::cli::{duration, failure::Failure};

/// The member itself.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Member")]
pub(crate) struct MemberFlags {
    /// The member's name among people; a member that has started keeps the last one [default: default]
    #[arg(long, env = "ETCD_NAME")]
    pub(super) name: Option<String>,
    /// Where everything is kept [default: default.meshstore]
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where the log is kept, on another disk perhaps; one that is there stays where it is [default: in the data directory]
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR")]
    wal_dir: Option<PathBuf>,
    /// Where clients are told to connect [default: what is listened on]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = "ETCD_ADVERTISE_CLIENT_URLS")]
    pub(super) advertise_client_urls: Option<Vec<String>>,
    /// Where other members are told to connect; one that has started keeps the last [default: <http://localhost:2380>]
    #[arg(long, value_name = "URL,…", value_delimiter = ',', env = "ETCD_INITIAL_ADVERTISE_PEER_URLS")]
    initial_advertise_peer_urls: Option<Vec<String>>,
    /// Keeps apart clusters formed from the same addresses [default: etcd-cluster]
    #[arg(long, value_name = "TOKEN", env = "ETCD_INITIAL_CLUSTER_TOKEN")]
    initial_cluster_token: Option<String>,
    /// Milliseconds between two heartbeats of a leader [default: 100]
    #[arg(long, value_name = "MS", env = "ETCD_HEARTBEAT_INTERVAL", value_parser = duration::parse_milliseconds)]
    heartbeat_interval: Option<Duration>,
    /// Longest time without a heartbeat before an election, milliseconds [default: 1000]
    #[arg(long, value_name = "MS", env = "ETCD_ELECTION_TIMEOUT", value_parser = duration::parse_milliseconds)]
    election_timeout: Option<Duration>,
    /// Log entries between two purges of the log; 0: the default [default: 10000]
    #[arg(long, value_name = "COUNT", env = "ETCD_SNAPSHOT_COUNT")]
    snapshot_count: Option<u64>,
    /// Log entries that a purge leaves, from which a member that was away a short while catches up [default: 5000]
    #[arg(long, value_name = "COUNT", alias = "experimental-snapshot-catchup-entries", env = renamed_variable("snapshot-catchup-entries"))]
    snapshot_catchup_entries: Option<u64>,
    /// Most operations of a transaction [default: 128]
    #[arg(long, value_name = "COUNT", env = "ETCD_MAX_TXN_OPS")]
    max_txn_ops: Option<usize>,
    /// Largest request, bytes [default: 1572864]
    #[arg(long, value_name = "BYTES", env = "ETCD_MAX_REQUEST_BYTES")]
    max_request_bytes: Option<usize>,
    /// Bytes that keys and their history may take before writes are refused; 0: 2 GiB, below 0: any [default: 0]
    #[arg(long, value_name = "BYTES", env = "ETCD_QUOTA_BACKEND_BYTES", allow_negative_numbers = true)]
    quota_backend_bytes: Option<i64>,
    /// What --auto-compaction-retention counts [default: periodic]
    #[arg(long, value_enum, env = "ETCD_AUTO_COMPACTION_MODE")]
    pub(super) auto_compaction_mode: Option<Mode>,
    /// How much history is kept, by itself: hours, a TIME, or with mode revision a number of revisions; 0: all [default: 0]
    #[arg(long, value_name = "HISTORY", env = "ETCD_AUTO_COMPACTION_RETENTION")]
    pub(super) auto_compaction_retention: Option<String>,
    /// For rehearsals of an upgrade: be as the release before this one, towards the other members [default: this release]
    #[arg(long, value_name = "RELEASE", env = "ETCD_AS_RELEASE")]
    as_release: Option<Release>,
    /// An idle watch that asked for it is told of progress this often, 100ms at least [default: 10m]
    #[arg(long, value_name = "TIME", alias = "experimental-watch-progress-notify-interval",
        env = renamed_variable("watch-progress-notify-interval"), value_parser = duration::parse)]
    watch_progress_notify_interval: Option<Duration>,
    /// While it leads, hold the keys of all members against each other this often; 0: never [default: 0]
    #[arg(long, value_name = "TIME", alias = "experimental-corrupt-check-time",
        env = renamed_variable("corrupt-check-time"), value_parser = duration::parse)]
    corrupt_check_time: Option<Duration>,
}

/// The longest election timeout. Source: etcd `maxElectionMs`.
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(50);
/// Heartbeats that fit into an election timeout at least, as in etcd: a leader is not given up for one that was lost.
const HEARTBEATS_MIN: u32 = 5;
/// Progress is reported no more often. Source: etcd `minWatchProgressInterval`.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

impl MemberFlags {
    /// Refuses timers by which no cluster would last.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let default = server::Config::default();
        let heartbeat = self.heartbeat_interval.unwrap_or(default.heartbeat);
        let election = self.election_timeout.unwrap_or(default.election_timeout);
        if election > ELECTION_TIMEOUT_MAX {
            let told = format!("--election-timeout {} is too long", election.as_millis());
            return Err(Failure::bad_args(told).next(format!("say at most {}", ELECTION_TIMEOUT_MAX.as_millis())));
        }
        if heartbeat.saturating_mul(HEARTBEATS_MIN) > election {
            let told = format!(
                "--election-timeout {} is less than {HEARTBEATS_MIN} times --heartbeat-interval {}",
                election.as_millis(),
                heartbeat.as_millis()
            );
            return Err(Failure::bad_args(told).next("leave both out, or make the one longer or the other shorter"));
        }
        Ok(())
    }

    /// All but the advertised client URLs, which follow from the ports.
    pub(crate) fn resolve(&self) -> server::Config {
        let default = server::Config::default();
        let store = store_limits(self, default.store.clone());
        let data_dir = self.data_dir.clone().unwrap_or(default.data_dir);
        // What can not be read is told when the member starts.
        let (name, peer_urls) = match server::remembered(&data_dir).ok().flatten() {
            Some(server::Remembered { name, peer_urls }) => (name, peer_urls),
            None => (default.name, default.advertise_peer_urls),
        };
        server::Config {
            name: self.name.clone().unwrap_or(name),
            data_dir,
            wal_dir: self.wal_dir.clone(),
            advertise_peer_urls: self.initial_advertise_peer_urls.clone().unwrap_or(peer_urls),
            cluster_token: self.initial_cluster_token.clone().unwrap_or(default.cluster_token),
            heartbeat: self.heartbeat_interval.unwrap_or(default.heartbeat),
            election_timeout: self.election_timeout.unwrap_or(default.election_timeout),
            snapshot_count: self.snapshot_count.filter(|count| *count > 0).unwrap_or(default.snapshot_count),
            catch_up_entries: self.snapshot_catchup_entries.unwrap_or(default.catch_up_entries),
            release: self.as_release.unwrap_or(default.release),
            store,
            watch_progress_interval: self.progress_interval().unwrap_or(default.watch_progress_interval),
            corrupt_check_interval: self.corrupt_check_time.filter(|interval| !interval.is_zero()),
            ..default
        }
    }
}

impl MemberFlags {
    /// As etcd takes it: 0 stands for the default, and what is too short for the shortest.
    fn progress_interval(&self) -> Option<Duration> {
        let asked = self.watch_progress_notify_interval.filter(|interval| !interval.is_zero())?;
        if asked < PROGRESS_INTERVAL_MIN {
            tracing::warn!(?asked, taken = ?PROGRESS_INTERVAL_MIN, "--watch-progress-notify-interval is too short");
        }
        Some(asked.max(PROGRESS_INTERVAL_MIN))
    }
}

fn store_limits(flags: &MemberFlags, mut limits: store::Limits) -> store::Limits {
    limits.txn_ops_max = flags.max_txn_ops.unwrap_or(limits.txn_ops_max);
    limits.quota_backend_bytes = flags.quota_backend_bytes.unwrap_or(limits.quota_backend_bytes);
    limits.request_bytes_max = flags.max_request_bytes.unwrap_or(limits.request_bytes_max);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let config = server::Config::default();
        let help = |id: &str| {
            let command = <MemberFlags as clap::Args>::augment_args(clap::Command::new("server"));
            let argument = command.get_arguments().find(|one| one.get_id() == id).expect("a flag").clone();
            argument.get_help().expect("help").to_string()
        };
        let cases = [
            ("name", config.name),
            ("data_dir", config.data_dir.display().to_string()),
            ("initial_cluster_token", config.cluster_token),
            ("initial_advertise_peer_urls", format!("<{}>", config.advertise_peer_urls[0])),
            ("heartbeat_interval", config.heartbeat.as_millis().to_string()),
            ("election_timeout", config.election_timeout.as_millis().to_string()),
            ("snapshot_count", config.snapshot_count.to_string()),
            ("snapshot_catchup_entries", config.catch_up_entries.to_string()),
            ("max_txn_ops", config.store.txn_ops_max.to_string()),
            ("quota_backend_bytes", config.store.quota_backend_bytes.to_string()),
            ("max_request_bytes", config.store.request_bytes_max.to_string()),
            ("watch_progress_notify_interval", format!("{}m", config.watch_progress_interval.as_secs() / 60)),
        ];
        for (id, default) in cases {
            assert!(help(id).ends_with(&format!("[default: {default}]")), "{id}: {}", help(id));
        }
    }
}
