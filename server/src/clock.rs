//! The one place where a member reads time.

use std::time::{Duration, Instant};

/// Time since the member started: steady, and never told to anybody else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
