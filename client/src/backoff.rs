//! How long to wait before the next attempt.

use std::time::Duration;

/// The first wait, and the longest.
const SHORTEST: Duration = Duration::from_millis(25);
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// Exponential and bounded; each wait is drawn from the upper half of its step, so that clients cut off together do not
/// come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait.
    pub(crate) fn wait(&mut self) -> Duration {
        let step = SHORTEST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        step.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// It worked: the next wait is a short one.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_over() {
        let mut backoff = Backoff::default();
        for step in [25, 50, 100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.wait();
            let step = Duration::from_millis(step);
            assert!(step / 2 <= wait && wait <= step, "{wait:?} is not in the upper half of {step:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= SHORTEST);
    }
}
