//! What one member is told at its start.

use std::{path::PathBuf, time::Duration};

use types::Release;

use crate::{AuthConfig, PeerFiles};

/// What a member does whose data directory is nobody's yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Founding {
    /// It forms a cluster of itself alone.
    #[default]
    Alone,
    /// It forms a cluster with these others, each of which is started with the same.
    Among(Vec<Founder>),
    /// It was added to a running cluster, which these belong to.
    Existing(Vec<Founder>),
    /// It refuses: it is a member of a cluster that is there, and must have lost its disk.
    Never,
}

/// A member as etcd's `--initial-cluster` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its name among people.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
}

/// Name, addresses and limits of one member. `Default` alone holds the values.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name among people. Default `default`.
    pub name: String,
    /// Where everything is kept; made with mode 0700 if absent. Default `default.meshstore`.
    pub data_dir: PathBuf,
    /// Where the log is kept; made with mode 0700 if absent. Default: in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where clients reach this member, as `MemberList` tells them. Default `http://localhost:2379`.
    pub advertise_client_urls: Vec<String>,
    /// Where peers reach this member; with the token, it makes the id of a member that forms a cluster. Default
    /// `http://localhost:2380`.
    pub advertise_peer_urls: Vec<String>,
    /// What to do where nothing is yet. Default: to form a cluster alone.
    pub founding: Founding,
    /// Go on as the only member of a cluster whose quorum is lost for good. Default no.
    pub force_new_cluster: bool,
    /// An operator's certificates for members. Default none: those of the cluster's own authority, if it has one.
    pub peer_files: Option<PeerFiles>,
    /// Most learners that are to stay learners. Default 1.
    pub learners_max: usize,
    /// Keeps apart clusters that are formed from the same addresses. Default `etcd-cluster`.
    pub cluster_token: String,
    /// Between two heartbeats of a leader. Default 100 ms.
    pub heartbeat: Duration,
    /// Without a heartbeat for this long, a follower stands for election. Default 1 s.
    pub election_timeout: Duration,
    /// Entries between two purges of the log. Default 10 000.
    pub snapshot_count: u64,
    /// Entries that the log keeps although the state has them, for members that were away. Default 5 000.
    pub catch_up_entries: u64,
    /// Which release this member is, for the others: another than this one in a rehearsal of an upgrade. Default this one.
    pub release: Release,
    /// How users prove who they are.
    pub auth: AuthConfig,
    /// Limits on what clients may ask of the store.
    pub store: store::Limits,
    /// An idle watch that asked for progress is told of it this often, and up to a tenth later. Default 10 min.
    pub watch_progress_interval: Duration,
    /// The leader compares what all members have this often. Default never: it reads all keys.
    pub corrupt_check_interval: Option<Duration>,
    /// Measure how long RPCs take, beside counting them. Default off.
    pub extensive_metrics: bool,
    /// Most watches on one stream. Default 100 000.
    pub watches_per_stream_max: usize,
}

impl Config {
    /// How long a request may wait for the cluster. Source: etcd `ServerConfig.ReqTimeout`.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            data_dir: PathBuf::from("default.meshstore"),
            wal_dir: None,
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            advertise_peer_urls: vec!["http://localhost:2380".to_owned()],
            founding: Founding::Alone,
            force_new_cluster: false,
            peer_files: None,
            learners_max: 1,
            cluster_token: "etcd-cluster".to_owned(),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            snapshot_count: 10_000,
            catch_up_entries: 5_000,
            release: Release::THIS,
            auth: AuthConfig::default(),
            store: store::Limits::default(),
            watch_progress_interval: Duration::from_mins(10),
            corrupt_check_interval: None,
            extensive_metrics: false,
            watches_per_stream_max: 100_000,
        }
    }
}
