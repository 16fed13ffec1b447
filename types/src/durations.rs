//! How long something took, counted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A histogram of durations. Recording is two additions without a lock; any thread may record, and read at any time.
#[derive(Debug)]
pub struct Durations {
    /// Upper bounds of the buckets, ascending; one more bucket has none.
    bounds: &'static [Duration],
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// What a [`Durations`] had counted at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationsCounted {
    /// For each bound, in order, how many were as short or shorter.
    pub cumulative: Vec<(Duration, u64)>,
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Durations {
    /// From 1 ms, twice as long each, to 8.192 s: what a disk may take. Source: etcd's `wal_fsync_duration_seconds`.
    pub const DISK: &'static [Duration] = &[
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(4),
        Duration::from_millis(8),
        Duration::from_millis(16),
        Duration::from_millis(32),
        Duration::from_millis(64),
        Duration::from_millis(128),
        Duration::from_millis(256),
        Duration::from_millis(512),
        Duration::from_millis(1024),
        Duration::from_millis(2048),
        Duration::from_millis(4096),
        Duration::from_millis(8192),
    ];
    /// From 5 ms to 10 s: what a request may take. Source: Prometheus' default buckets.
    pub const REQUEST: &'static [Duration] = &[
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2500),
        Duration::from_secs(5),
        Duration::from_secs(10),
    ];

    /// From 0.1 ms, twice as long each, to 3.2768 s: what a way to another member and back may take. Source: etcd's
    /// `peer_round_trip_time_seconds`.
    pub const NETWORK: &'static [Duration] = &[
        Duration::from_micros(100),
        Duration::from_micros(200),
        Duration::from_micros(400),
        Duration::from_micros(800),
        Duration::from_micros(1_600),
        Duration::from_micros(3_200),
        Duration::from_micros(6_400),
        Duration::from_micros(12_800),
        Duration::from_micros(25_600),
        Duration::from_micros(51_200),
        Duration::from_micros(102_400),
        Duration::from_micros(204_800),
        Duration::from_micros(409_600),
        Duration::from_micros(819_200),
        Duration::from_micros(1_638_400),
        Duration::from_micros(3_276_800),
    ];

    /// Nothing counted yet. `bounds`: ascending upper bounds, inclusive.
    pub fn new(bounds: &'static [Duration]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_nanos: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn record(&self, took: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < took);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Counts all that `other`, which has the same bounds, counted.
    pub fn add(&self, other: &Self) {
        for (bucket, more) in self.counts.iter().zip(&other.counts) {
            bucket.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(other.sum_nanos.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What was counted until now.
    pub fn counted(&self) -> DurationsCounted {
        let mut count = 0;
        let mut add = |bucket: &AtomicU64| {
            count += bucket.load(Ordering::Relaxed);
            count
        };
        let cumulative = self.bounds.iter().zip(&self.counts).map(|(bound, bucket)| (*bound, add(bucket))).collect();
        let unbounded = self.counts.last().map_or(0, &mut add);
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed));
        DurationsCounted { cumulative, count: unbounded, sum }
    }
}

impl Default for Durations {
    /// With the bounds of [`Durations::DISK`].
    fn default() -> Self {
        Self::new(Self::DISK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];
        let durations = Durations::new(BOUNDS);
        for micros in [0, 1_000, 1_001, 10_000, 10_001] {
            durations.record(Duration::from_micros(micros));
        }
        let counted = durations.counted();
        assert_eq!(counted.cumulative, [(BOUNDS[0], 2), (BOUNDS[1], 4)]);
        assert_eq!((counted.count, counted.sum), (5, Duration::from_micros(22_002)));
        durations.add(&durations);
        assert_eq!(durations.counted().count, 10);
    }

    #[test]
    fn the_bounds_ascend() {
        for bounds in [Durations::DISK, Durations::REQUEST, Durations::NETWORK] {
            assert!(bounds.is_sorted());
        }
    }
}
