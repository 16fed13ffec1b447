//! What a run is like: drawn from its seed before it begins.
//!
//! - Each kind of trouble is in half of all runs, so that every two meet in a quarter of them, and some are left in peace.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// Processes of members end without a word, and are started again.
    Crash,
    /// So do whole machines, which lose what was not synced.
    PowerLoss,
    /// Members are shut down in order, and started again.
    Restart,
    /// Some members hear nothing of the others.
    Partition,
    /// One member is not heard by another that it hears.
    OneWay,
    /// All that goes to and from a member waits, and comes late.
    Stall,
    /// Packets are lost, now and then.
    Loss,
    /// A member's disk takes its time.
    SlowDisk,
    /// Wall clocks of members are set, forward and back.
    Clock,
    /// Members are added and removed.
    Churn,
    /// History is compacted.
    Compaction,
}

impl Trouble {
    const ALL: [Self; 11] = [
        Self::Crash,
        Self::PowerLoss,
        Self::Restart,
        Self::Partition,
        Self::OneWay,
        Self::Stall,
        Self::Loss,
        Self::SlowDisk,
        Self::Clock,
        Self::Churn,
        Self::Compaction,
    ];
}

/// All that is decided before a run begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// From which all the rest follows.
    pub(crate) seed: u64,
    /// Founders of the cluster.
    pub(crate) members: usize,
    /// What is done to them.
    pub(crate) troubles: BTreeSet<Trouble>,
    /// For how long.
    pub(crate) trouble: Duration,
    /// Between two things that are done to them, about.
    pub(crate) pause: Duration,
    /// Of a leader.
    pub(crate) heartbeat: Duration,
    /// Of a follower.
    pub(crate) election_timeout: Duration,
    /// Longest way of a packet.
    pub(crate) latency_max: Duration,
    /// Part of the packets that break their link.
    pub(crate) loss: f64,
    /// Entries between two purges of the log.
    pub(crate) snapshot_count: u64,
    /// Entries that are kept beyond that.
    pub(crate) catch_up_entries: u64,
    /// Revisions that a watch stream may be behind before it reads history.
    pub(crate) watch_queue: usize,
    /// Rows that a sweep looks at before it pauses.
    pub(crate) sweep_rows: usize,
    /// Clients that read and write.
    pub(crate) clients: u32,
    /// Keys that they share.
    pub(crate) keys: u32,
    /// Longest pause of a client between two calls.
    pub(crate) client_pause: Duration,
    /// There are users, and what they may do changes.
    pub(crate) has_users: bool,
    /// How long a token lives that is not used.
    pub(crate) token_ttl: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let members = *[1, 3, 3, 3, 3, 3, 5, 5, 5, 7].choose(&mut rng).expect("there are some");
        let troubles = Trouble::ALL.into_iter().filter(|_| rng.random_bool(0.5)).collect();
        let heartbeat = Duration::from_millis(rng.random_range(30..=100));
        let latency = *[0.02, 0.1, 0.4].choose(&mut rng).expect("there are some");
        Self {
            seed,
            members,
            troubles,
            trouble: Duration::from_millis(rng.random_range(3_000..=9_000)),
            pause: Duration::from_millis(rng.random_range(200..=1_200)),
            heartbeat,
            election_timeout: heartbeat * rng.random_range(8..=12),
            latency_max: heartbeat.mul_f64(latency),
            loss: *[0.000_5, 0.002, 0.01].choose(&mut rng).expect("there are some"),
            snapshot_count: *[10, 30, 100, 1_000].choose(&mut rng).expect("there are some"),
            catch_up_entries: *[0, 5, 20, 100].choose(&mut rng).expect("there are some"),
            watch_queue: *[1, 4, 1_024].choose(&mut rng).expect("there are some"),
            sweep_rows: *[3, 1_024].choose(&mut rng).expect("there are some"),
            clients: rng.random_range(2..=4),
            keys: rng.random_range(1..=6),
            client_pause: Duration::from_millis(rng.random_range(5..=120)),
            has_users: rng.random_bool(0.5),
            token_ttl: *[Duration::from_secs(2), Duration::from_mins(5)].choose(&mut rng).expect("there are some"),
        }
    }

    /// Whether there is this kind of trouble.
    pub(crate) fn has(&self, trouble: Trouble) -> bool {
        self.troubles.contains(&trouble)
    }
}
