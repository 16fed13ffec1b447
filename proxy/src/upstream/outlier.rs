//! Passive health: endpoints that fail are left alone for a while.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::StatusCode;

use crate::config::Outlier;

/// Ejection of one endpoint. Times are milliseconds since `epoch`.
#[derive(Debug)]
pub(crate) struct Health {
    epoch: Instant,
    failures_5xx: AtomicU32,
    failures_gateway: AtomicU32,
    ejections: AtomicU32,
    /// 0 when it was never ejected.
    ejected_until: AtomicU64,
}

/// What a request showed of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Status(StatusCode),
    /// No response: counted as a gateway error.
    NoResponse,
}

impl Health {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            failures_5xx: AtomicU32::new(0),
            failures_gateway: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        }
    }

    /// Whether the endpoint is left alone at the moment.
    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        let until = self.ejected_until.load(Relaxed);
        until != 0 && until > self.millis(now)
    }

    /// Counts what a request showed; true when the endpoint has failed often enough to be ejected.
    pub(crate) fn note(&self, outlier: &Outlier, verdict: Verdict) -> bool {
        let (any, gateway) = match verdict {
            Verdict::NoResponse => (true, true),
            Verdict::Status(status) => (status.is_server_error(), matches!(status.as_u16(), 502..=504)),
        };
        let over = |failed: bool, count: &AtomicU32, limit: Option<u32>| match (failed, limit) {
            (true, Some(limit)) => count.fetch_add(1, Relaxed) + 1 >= limit,
            (true, None) => false,
            (false, _) => {
                // A store only when there is something to clear: the common case shares no written line.
                if count.load(Relaxed) != 0 {
                    count.store(0, Relaxed);
                }
                false
            }
        };
        let by_5xx = over(any, &self.failures_5xx, outlier.consecutive_5xx);
        over(gateway, &self.failures_gateway, outlier.consecutive_gateway) || by_5xx
    }

    /// Ejects for the base time, times the ejections so far; each interval of good behaviour forgives one.
    pub(crate) fn eject(&self, outlier: &Outlier, now: Instant) {
        let now = self.millis(now);
        let since = now.saturating_sub(self.ejected_until.load(Relaxed));
        let interval = u64::try_from(outlier.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let forgiven = u32::try_from(since / interval).unwrap_or(u32::MAX);
        let count = self.ejections.load(Relaxed).saturating_sub(forgiven) + 1;
        let time = outlier.base_ejection.saturating_mul(count).min(outlier.max_ejection);
        self.ejections.store(count, Relaxed);
        self.failures_5xx.store(0, Relaxed);
        self.failures_gateway.store(0, Relaxed);
        self.ejected_until.store(now.saturating_add(millis(time)).max(1), Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.epoch))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether one more of `total` endpoints may be ejected when `ejected` are.
pub(crate) fn may_eject(outlier: &Outlier, ejected: usize, total: usize) -> bool {
    let within = (ejected + 1) * 100 <= usize::try_from(outlier.max_ejection_percent).unwrap_or(100) * total;
    within || (outlier.always_eject_one && ejected == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlier() -> Outlier {
        Outlier {
            consecutive_5xx: Some(3),
            consecutive_gateway: Some(2),
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_mins(5),
            max_ejection_percent: 50,
            always_eject_one: false,
        }
    }

    #[test]
    fn only_failures_in_a_row_count() {
        let (health, outlier) = (Health::new(Instant::now()), outlier());
        let status = |code| Verdict::Status(StatusCode::from_u16(code).expect("a status"));
        let verdicts = [(500, false), (200, false), (500, false), (500, false), (500, true)];
        for (code, over) in verdicts {
            assert_eq!(health.note(&outlier, status(code)), over, "{code}");
        }
        health.eject(&outlier, Instant::now());
        assert!(!health.note(&outlier, Verdict::NoResponse));
        assert!(health.note(&outlier, status(503)));
    }

    #[test]
    fn ejections_lengthen_and_are_forgiven() {
        let (start, outlier) = (Instant::now(), outlier());
        let health = Health::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        health.eject(&outlier, at(1));
        assert!(health.is_ejected(at(30)) && !health.is_ejected(at(31)));
        health.eject(&outlier, at(31));
        assert!(health.is_ejected(at(90)) && !health.is_ejected(at(91)));
        health.eject(&outlier, at(91 + 25));
        assert!(!health.is_ejected(at(91 + 25 + 30)));
    }

    #[test]
    fn the_share_of_ejected_endpoints_is_bounded() {
        let mut outlier = outlier();
        assert!(may_eject(&outlier, 0, 2) && !may_eject(&outlier, 1, 2) && !may_eject(&outlier, 0, 1));
        outlier.always_eject_one = true;
        assert!(may_eject(&outlier, 0, 1) && !may_eject(&outlier, 1, 3));
    }
}
