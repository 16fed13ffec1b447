//! The one place where a member reads time.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use types::Bug;

/// Time since the member started: steady, and never told to anybody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        if Bug::LeaseByWallClock.is_planted() {
            return unix_time();
        }
        self.0.elapsed()
    }
}

/// Time since 1970, as the world has it: only for what is told to others, or was told by them.
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
