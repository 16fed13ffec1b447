//! Who a member is, and its limits.

use std::{fmt, time::Duration};

use crate::RaftError;

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

/// One member's identity and limits. [`Config::new`] alone holds the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster that this member belongs to.
    pub cluster: ClusterId,
    /// This member. Not 0.
    pub member: MemberId,
    /// Between two heartbeats of a leader. Default 100 ms; whole milliseconds, at least 1.
    pub heartbeat: Duration,
    /// Without a heartbeat for this long, and up to twice as long, a follower stands for election. Default 1 s; more
    /// than twice `heartbeat`.
    pub election_timeout: Duration,
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
    /// Entries proposed and not yet applied; packing waits while there are so many. Default 2: one is written while the
    /// one before it is applied, and what comes meanwhile shares the next.
    pub entries_in_flight_max: usize,
    /// Recent entries kept in memory, so that replication and apply need not read the disk. Default 64 MiB.
    pub cache_bytes_max: usize,
    /// The machine's state is made durable, and the log purged, each time the log has grown by this many entries.
    /// Default 10 000.
    pub snapshot_every_entries: u64,
    /// Entries kept in the log although the machine's durable state holds them, so that a member that was away a short
    /// while catches up from the log. Default 5 000.
    pub catch_up_entries: u64,
}

impl Config {
    /// The default limits for this member of this cluster.
    pub const fn new(cluster: ClusterId, member: MemberId) -> Self {
        Self {
            cluster,
            member,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            queue_commands_max: 10_000,
            queue_bytes_max: 128 << 20,
            queue_reads_max: 10_000,
            command_bytes_max: 8 << 20,
            entry_commands_max: 512,
            entry_bytes_max: 1 << 20,
            entries_in_flight_max: 2,
            cache_bytes_max: 64 << 20,
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
        if self.heartbeat.as_millis() == 0 || self.election_timeout <= self.heartbeat * 2 {
            let reason = "heartbeat must be at least 1 ms, and election_timeout more than twice as long".to_owned();
            return Err(RaftError::Config { reason });
        }
        Ok(())
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
            Config { election_timeout: Duration::from_millis(200), ..good.clone() },
            Config { queue_commands_max: 0, ..good.clone() },
            Config { queue_bytes_max: good.command_bytes_max - 1, ..good.clone() },
            Config { queue_bytes_max: 4 << 30, ..good.clone() },
            Config { entry_bytes_max: 0, ..good.clone() },
            Config { entries_in_flight_max: 0, ..good.clone() },
            Config { snapshot_every_entries: 0, ..good.clone() },
        ];
        for config in bad {
            assert!(matches!(config.validate(), Err(RaftError::Config { .. })), "{config:?}");
        }
    }
}
