//! Who a member is, and its limits.

use std::{collections::BTreeMap, fmt, time::Duration};

use types::Release;

use crate::{Node, RaftError};

/// Names a cluster: one Raft group. Chosen once, when the cluster is formed; a log of another cluster is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// Names a member of a cluster. Never used again for another disk: a voter that forgot its votes can lose what was
/// acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// As etcd prints it: lower-case hexadecimal.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// As etcd prints it: lower-case hexadecimal.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// What a member does that has no log yet. One with a log takes part in the cluster of that log, whatever stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formation {
    /// It founds a cluster with these voters, itself one of them; every one of them starts with the same. Empty: it is
    /// the only one, and nothing else is known of it.
    Found(BTreeMap<MemberId, Node>),
    /// It waits until the leader of its cluster, to which it was added, sends it the log.
    Join,
}

/// One member's identity and limits. [`Config::new`] alone holds the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster that this member belongs to.
    pub cluster: ClusterId,
    /// This member. Not 0.
    pub member: MemberId,
    /// Which release this member is, for the others. Default this one.
    pub release: Release,
    /// What to do on an empty log. Default: found a cluster of this member alone.
    pub formation: Formation,
    /// Go on as the only member of the log's cluster, because the quorum of the others is lost for good. Default no.
    pub force_new_cluster: bool,
    /// Between two heartbeats of a leader. Default 100 ms; whole milliseconds, at least 1.
    pub heartbeat: Duration,
    /// Without a heartbeat, a follower stands for election after a random part of this between three quarters of it and
    /// all; a leader whom no quorum has answered for half of it takes no more proposals. Default 1 s; at least five times
    /// `heartbeat`.
    pub election_timeout: Duration,
    /// How long a command or a read may wait for a leader, and an entry for its answer. Default 7 s.
    pub patience: Duration,
    /// Commands that wait to be packed into an entry; one more is refused with [`crate::ProposeError::Busy`].
    /// Default 10 000.
    pub queue_commands_max: usize,
    /// Bytes of the commands that wait to be packed; one that does not fit is refused with
    /// [`crate::ProposeError::Busy`]. Default 128 MiB; at least `command_bytes_max`, and below 4 GiB.
    pub queue_bytes_max: usize,
    /// Reads that wait for a round of read index; one more is refused with [`crate::ReadError::Busy`]. Default 10 000.
    pub queue_reads_max: usize,
    /// Longest command; a longer one is refused with [`crate::ProposeError::TooLarge`]. Default 8 MiB.
    pub command_bytes_max: usize,
    /// Most commands in one entry. Default 512.
    pub entry_commands_max: usize,
    /// An entry takes no further command once its commands hold this many bytes: it may end up longer by one command.
    /// Default 1 MiB.
    pub entry_bytes_max: usize,
    /// Entries proposed and not yet applied by the only voter of a cluster; packing waits while there are so many.
    /// Default 2: one is written while the one before it is applied, and what comes meanwhile shares the next.
    pub entries_in_flight_max: usize,
    /// The same of each member among several, whose entries are also on their way from one to another. Default 4.
    pub entries_in_flight_among_members_max: usize,
    /// Entries that are sent together hold no more bytes, unless a single one does. Default 1 MiB.
    pub append_bytes_max: usize,
    /// An image is sent in chunks of this many bytes. Default 512 KiB; at most 4 MiB.
    pub image_chunk_bytes: usize,
    /// Bytes a second of an image that is sent. Default 64 MiB.
    pub image_bytes_per_second: u64,
    /// Recent entries kept in memory, so that replication and apply need not read the disk. Default 32 MiB.
    pub cache_bytes_max: usize,
    /// The machine's state is made durable, and the log purged, each time the log has grown by this many entries.
    /// Default 10 000.
    pub snapshot_every_entries: u64,
    /// Entries kept in the log although the machine's durable state holds them, so that a member that was away a short
    /// while catches up from the log. Default 5 000.
    pub catch_up_entries: u64,
}

impl Config {
    /// The most that [`Config::image_chunk_bytes`] may be.
    pub(crate) const IMAGE_CHUNK_BYTES_MAX: usize = 4 << 20;

    /// The default limits for this member of this cluster.
    pub const fn new(cluster: ClusterId, member: MemberId) -> Self {
        Self {
            cluster,
            member,
            release: Release::THIS,
            formation: Formation::Found(BTreeMap::new()),
            force_new_cluster: false,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            patience: Duration::from_secs(7),
            queue_commands_max: 10_000,
            queue_bytes_max: 128 << 20,
            queue_reads_max: 10_000,
            command_bytes_max: 8 << 20,
            entry_commands_max: 512,
            entry_bytes_max: 1 << 20,
            entries_in_flight_max: 2,
            entries_in_flight_among_members_max: 4,
            append_bytes_max: 1 << 20,
            image_chunk_bytes: 512 << 10,
            image_bytes_per_second: 64 << 20,
            cache_bytes_max: 32 << 20,
            snapshot_every_entries: 10_000,
            catch_up_entries: 5_000,
        }
    }

    /// Refuses what no member can run with.
    pub(crate) fn validate(&self) -> Result<(), RaftError> {
        let at_least_one = [
            ("queue_commands_max", self.queue_commands_max),
            ("queue_reads_max", self.queue_reads_max),
            ("command_bytes_max", self.command_bytes_max),
            ("entry_commands_max", self.entry_commands_max),
            ("entry_bytes_max", self.entry_bytes_max),
            ("entries_in_flight_max", self.entries_in_flight_max),
            ("entries_in_flight_among_members_max", self.entries_in_flight_among_members_max),
            ("append_bytes_max", self.append_bytes_max),
            ("image_chunk_bytes", self.image_chunk_bytes),
            ("image_bytes_per_second", usize::try_from(self.image_bytes_per_second).unwrap_or(usize::MAX)),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(RaftError::Config { reason: format!("{name} must be at least 1") });
        }
        if self.queue_bytes_max < self.command_bytes_max || u32::try_from(self.queue_bytes_max).is_err() {
            let reason = "queue_bytes_max must be at least command_bytes_max, and below 4 GiB".to_owned();
            return Err(RaftError::Config { reason });
        }
        if self.member.0 == 0 {
            return Err(RaftError::Config { reason: "member id 0 means \"nobody\"".to_owned() });
        }
        if self.snapshot_every_entries == 0 {
            return Err(RaftError::Config { reason: "snapshot_every_entries must be at least 1".to_owned() });
        }
        if self.heartbeat.as_millis() == 0 || self.election_timeout < self.heartbeat * 5 {
            let reason = "heartbeat must be at least 1 ms, and election_timeout at least five times as long".to_owned();
            return Err(RaftError::Config { reason });
        }
        if self.image_chunk_bytes > Self::IMAGE_CHUNK_BYTES_MAX {
            let reason = format!("image_chunk_bytes must be at most {}", Self::IMAGE_CHUNK_BYTES_MAX);
            return Err(RaftError::Config { reason });
        }
        self.founders().map(drop)
    }

    /// The voters of the cluster that this member founds, if it founds one.
    pub(crate) fn founders(&self) -> Result<Option<BTreeMap<u64, Node>>, RaftError> {
        let Formation::Found(founders) = &self.formation else { return Ok(None) };
        if founders.is_empty() {
            return Ok(Some(BTreeMap::from([(self.member.0, Node::default())])));
        }
        let fault = if founders.contains_key(&self.member) {
            founders.values().find_map(Node::fault)
        } else {
            Some(format!("member {} is not one of the founders", self.member))
        };
        match fault {
            Some(reason) => Err(RaftError::Config { reason }),
            None => Ok(Some(founders.iter().map(|(member, node)| (member.0, node.clone())).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_impossible_limits_are_not() {
        let good = Config::new(ClusterId(1), MemberId(1));
        assert!(good.validate().is_ok());
        let bad = [
            Config { member: MemberId(0), ..good.clone() },
            Config { heartbeat: Duration::ZERO, ..good.clone() },
            Config { election_timeout: Duration::from_millis(499), ..good.clone() },
            Config { queue_commands_max: 0, ..good.clone() },
            Config { queue_bytes_max: good.command_bytes_max - 1, ..good.clone() },
            Config { queue_bytes_max: 4 << 30, ..good.clone() },
            Config { entry_bytes_max: 0, ..good.clone() },
            Config { entries_in_flight_max: 0, ..good.clone() },
            Config { snapshot_every_entries: 0, ..good.clone() },
            Config { image_chunk_bytes: 5 << 20, ..good.clone() },
            Config { formation: Formation::Found(BTreeMap::from([(MemberId(2), Node::default())])), ..good.clone() },
        ];
        for config in bad {
            assert!(matches!(config.validate(), Err(RaftError::Config { .. })), "{config:?}");
        }
    }
}
