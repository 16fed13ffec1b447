//! When a secret ends, as people read it: `2026-11-24T14:12:00Z, in 24 h`.

use ca::Time;
use std::time::Duration;

/// `expires_at`: Unix seconds, as the server has given them.
pub(crate) fn told(expires_at: i64) -> String {
    told_at(expires_at, Time::now())
}

fn told_at(expires_at: i64, now: Time) -> String {
    match u64::try_from(expires_at).ok().and_then(Time::new) {
        Some(end) => format!("{}, in {}", end.rfc3339(), span(end.since(now))),
        None => "the end of time".to_owned(),
    }
}

/// To the minute, or to the hour where that is as good: clocks differ by more than what is left out.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = (seconds + 30) / 60;
    match (minutes / 60, minutes % 60) {
        (0, 0 | 1) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) if hours < 24 => format!("{hours} h {minutes} min"),
        (hours, _) => format!("{hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_a_moment_and_a_span() {
        let now = Time::new(1_795_382_400).unwrap();
        let cases = [
            (45, "2026-11-22T21:20:45Z, in 45 s"),
            (15 * 60 - 1, "2026-11-22T21:34:59Z, in 15 min"),
            (3600, "2026-11-22T22:20:00Z, in 1 h"),
            (5400, "2026-11-22T22:50:00Z, in 1 h 30 min"),
            (86_399, "2026-11-23T21:19:59Z, in 24 h"),
            (-5, "2026-11-22T21:19:55Z, in 0 s"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(told_at(now.to_wire() + seconds, now), expected);
        }
        assert_eq!(told_at(i64::MAX, now), "the end of time");
    }
}
