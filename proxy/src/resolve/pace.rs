//! When a name is asked again.

use std::time::Duration;

use crate::config::Refresh;

/// The waits between the lookups of one name.
pub(super) struct Pace {
    refresh: Refresh,
    /// In a row.
    failures: u32,
}

impl Pace {
    pub(super) fn new(refresh: Refresh) -> Self {
        Self { refresh, failures: 0 }
    }

    /// The wait after an answer that holds for `ttl`. An answer that is not to be kept says nothing about when to ask.
    pub(super) fn answered(&mut self, ttl: Duration) -> Duration {
        self.failures = 0;
        let heeded = self.refresh.respect_ttl && !ttl.is_zero();
        self.jittered(if heeded { ttl } else { self.refresh.rate })
    }

    /// The wait after a failure: twice as long as after the one before, and drawn from the upper half.
    pub(super) fn failed(&mut self) -> Duration {
        let Some((base, max)) = self.refresh.failure else { return self.jittered(self.refresh.rate) };
        let wait = base.saturating_mul(2_u32.saturating_pow(self.failures)).min(max);
        self.failures = self.failures.saturating_add(1);
        self.jittered(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0))
    }

    fn jittered(&self, wait: Duration) -> Duration {
        wait.saturating_add(self.refresh.jitter.mul_f64(rand::random()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refresh() -> Refresh {
        Refresh { rate: 5 * SECOND, respect_ttl: true, jitter: Duration::ZERO, failure: Some((SECOND, 6 * SECOND)) }
    }

    #[test]
    fn an_answer_holds_as_long_as_it_says_where_that_counts() {
        let mut heeding = Pace::new(refresh());
        assert_eq!(heeding.answered(300 * SECOND), 300 * SECOND);
        assert_eq!(heeding.answered(Duration::ZERO), 5 * SECOND);
        let mut regular = Pace::new(Refresh { respect_ttl: false, ..refresh() });
        assert_eq!(regular.answered(300 * SECOND), 5 * SECOND);
    }

    #[test]
    fn waits_grow_while_it_fails_and_start_anew_after_an_answer() {
        let mut pace = Pace::new(refresh());
        for ceiling in [1, 2, 4, 6, 6] {
            let wait = pace.failed();
            assert!((ceiling * SECOND / 2..=ceiling * SECOND).contains(&wait), "{wait:?} is not near {ceiling} s");
        }
        pace.answered(SECOND);
        assert!(pace.failed() <= SECOND);
    }

    #[test]
    fn without_a_rate_for_failures_the_usual_one_counts() {
        let mut pace = Pace::new(Refresh { failure: None, ..refresh() });
        assert_eq!([pace.failed(), pace.failed()], [5 * SECOND; 2]);
    }

    #[test]
    fn jitter_only_adds() {
        let mut pace = Pace::new(Refresh { jitter: SECOND, ..refresh() });
        let wait = pace.answered(2 * SECOND);
        assert!((2 * SECOND..=3 * SECOND).contains(&wait), "{wait:?}");
    }
}
