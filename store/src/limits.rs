//! How much the store takes and holds.
//!
//! Owns: every limit of this room and its default.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;

use crate::Refusal;

/// Longest lease that can be granted: 9 000 000 000 s. Source: etcd `lease.MaxLeaseTTL`.
pub const LEASE_TTL_MAX: Duration = Duration::from_hours(2_500_000);

/// Limits of one member's store. What apply does depends on none of them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most compares, and most operations of a branch; a transaction inside has what its parent left. Default 128.
    pub txn_ops_max: usize,
    /// Longest encoded command, bytes. Default 1.5 MiB.
    pub request_bytes_max: usize,
    /// Shortest lease; shorter ones are raised to it. Whole seconds. Default 2 s.
    pub lease_ttl_min: Duration,
    /// A lease that lives longer than this has noted how long it has left, this often. Whole seconds. Source: etcd
    /// `lease.defaultLeaseCheckpointInterval`. Default 5 min.
    pub lease_checkpoint_interval: Duration,
    /// What one watch stream may hold undelivered before its watchers lag.
    pub watch_queue: QueueLimits,
    /// What the hub may hold that is not yet handed to streams before every watcher lags.
    pub watch_feed: QueueLimits,
    /// Bytes that keys and their history may take before the alarm NOSPACE is raised: 0 is 2 GiB, below 0 is no bound.
    /// Source: etcd `--quota-backend-bytes`. Default 0.
    pub quota_backend_bytes: i64,
    /// Whether and how history is compacted by itself. Source: etcd `--auto-compaction-mode`, `--auto-compaction-retention`
    /// (a retention of 0 is `None`). Default `None`.
    pub auto_compaction: Option<AutoCompaction>,
    /// Bytes of the versions that are kept in memory because they were written or read lately. Default 64 MiB.
    pub recent_bytes_max: usize,
    /// Rows of history that a sweep looks at before it pauses. Default 1024.
    pub sweep_rows: usize,
    /// How long a sweep pauses. Default 10 ms.
    pub sweep_pause: Duration,
}

/// How much history is kept when the leader compacts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// That of this long. More than 0. Source: etcd mode `periodic`.
    Periodic(Duration),
    /// This many revisions. Source: etcd mode `revision`.
    Revisions(NonZeroU64),
}

/// The bound of a queue of revisions; whichever is reached first.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Revisions.
    pub revisions: usize,
    /// Bytes of keys and values; one revision is taken whatever its size.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            txn_ops_max: 128,
            request_bytes_max: 3 << 19,
            lease_ttl_min: Duration::from_secs(2),
            lease_checkpoint_interval: Duration::from_mins(5),
            watch_queue: QueueLimits { revisions: 1024, bytes: 8 << 20 },
            watch_feed: QueueLimits { revisions: 65_536, bytes: 64 << 20 },
            quota_backend_bytes: 0,
            auto_compaction: None,
            recent_bytes_max: 64 << 20,
            sweep_rows: 1024,
            sweep_pause: Duration::from_millis(10),
        }
    }
}

impl Limits {
    /// The TTL that is asked for when the wire says `seconds`; apply refuses one above [`LEASE_TTL_MAX`].
    pub fn lease_ttl(&self, seconds: i64) -> Duration {
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(self.lease_ttl_min)
    }

    /// Whether an encoded command may go into the log.
    ///
    /// # Errors
    /// [`Refusal::RequestTooLarge`] above `request_bytes_max`.
    pub fn size(&self, command: &Bytes) -> Result<(), Refusal> {
        if command.len() > self.request_bytes_max { Err(Refusal::RequestTooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttls_are_raised_to_the_least() {
        let limits = Limits::default();
        for (said, asked) in [(i64::MIN, 2), (-5, 2), (0, 2), (1, 2), (2, 2), (60, 60), (9_000_000_001, 9_000_000_001)]
        {
            assert_eq!(limits.lease_ttl(said), Duration::from_secs(asked), "{said}");
        }
    }
}
