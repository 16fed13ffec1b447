//! Whole seconds, and how certificates write them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// 9999-12-31T23:59:59Z, the last moment that X.509 can name.
const LAST: u64 = 253_402_300_799;
/// 2050-01-01T00:00:00Z: from here on X.509 writes four-digit years. Source: RFC 5280, section 4.1.2.5.
const GENERALIZED_FROM: u64 = 2_524_608_000;

const DAY_SECONDS: u64 = 86_400;

/// A moment in whole seconds since 1970-01-01 UTC, before the year 10000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// A moment from the wire or the disk; `None` from the year 10000 on.
    pub fn new(seconds: u64) -> Option<Self> {
        (seconds <= LAST).then_some(Self(seconds))
    }

    /// The clock's moment, rounded down. For the edge only: nothing that is applied reads a clock.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(since_epoch.as_secs().min(LAST))
    }

    /// Seconds since 1970.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The same, as the wire writes it.
    pub fn to_wire(self) -> i64 {
        i64::try_from(self.0).expect("years up to 9999 fit in an i64")
    }

    /// Later by whole seconds, at most the last moment.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()).min(LAST))
    }

    /// Earlier by whole seconds, at least 1970.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_secs()))
    }

    /// How long after `earlier`; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// For people: `2026-11-24T14:12:00Z`. Source: RFC 3339.
    pub fn rfc3339(self) -> String {
        let (year, month, day) = civil(self.0 / DAY_SECONDS);
        let (hour, minute, second) = (self.0 / 3600 % 24, self.0 / 60 % 60, self.0 % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Whether X.509 writes it with a four-digit year (`GeneralizedTime`).
    pub(crate) fn is_generalized(self) -> bool {
        self.0 >= GENERALIZED_FROM
    }

    /// `YYMMDDHHMMSSZ`, or with a four-digit year from 2050 on.
    pub(crate) fn x509_text(self) -> String {
        let (year, month, day) = civil(self.0 / DAY_SECONDS);
        let (hour, minute, second) = (self.0 / 3600 % 24, self.0 / 60 % 60, self.0 % 60);
        let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
        if self.is_generalized() { format!("{year:04}{rest}") } else { format!("{:02}{rest}", year % 100) }
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar. Years are counted from March, so that the leap
/// day is a year's last; an era is 400 years, after which the calendar repeats.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01
    const ERA_DAYS: u64 = 146_097;
    let days = days_since_1970 + DAYS_TO_1970;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_are_written_for_certificates_and_for_people() {
        for (seconds, x509, rfc3339) in [
            (0, "700101000000Z", "1970-01-01T00:00:00Z"),
            (951_782_400, "000229000000Z", "2000-02-29T00:00:00Z"),
            (1_795_382_400, "261122212000Z", "2026-11-22T21:20:00Z"),
            (GENERALIZED_FROM - 1, "491231235959Z", "2049-12-31T23:59:59Z"),
            (GENERALIZED_FROM, "20500101000000Z", "2050-01-01T00:00:00Z"),
            (4_107_542_400, "21000301000000Z", "2100-03-01T00:00:00Z"),
            (LAST, "99991231235959Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!((Time(seconds).x509_text().as_str(), Time(seconds).rfc3339().as_str()), (x509, rfc3339));
        }
        assert_eq!(Time::new(LAST + 1), None);
    }

    proptest! {
        #[test]
        fn days_follow_each_other(day in 0..LAST / DAY_SECONDS) {
            let (year, month, date) = civil(day);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][usize::try_from(month - 1).unwrap()];
            let next = match (month, date) {
                (12, 31) => (year + 1, 1, 1),
                (_, last) if last == length => (year, month + 1, 1),
                _ => (year, month, date + 1),
            };
            prop_assert_eq!(civil(day + 1), next);
        }
    }
}
