//! `--auto-compaction-mode` and `--auto-compaction-retention`.

use std::{num::NonZeroU64, time::Duration};

use store::AutoCompaction;

use crate::cli::{duration, failure::Failure};

/// What a retention counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// Time.
    #[default]
    Periodic,
    /// Revisions.
    Revision,
}

/// How much history is kept. A retention of 0 keeps all of it; a period without a unit is hours, as in etcd.
pub(super) fn kept(mode: Mode, retention: Option<&str>) -> Result<Option<AutoCompaction>, Failure> {
    let retention = retention.unwrap_or("0");
    let malformed = |wanted: &str| {
        let failure = Failure::bad_args(format!("--auto-compaction-retention {retention:?} is not {wanted}"));
        failure.next("write it as 1 (hours), 5m or, with --auto-compaction-mode revision, 1000")
    };
    let number = retention.parse::<u64>().ok();
    match mode {
        Mode::Revision => {
            let revisions = number.ok_or_else(|| malformed("a number of revisions"))?;
            Ok(NonZeroU64::new(revisions).map(AutoCompaction::Revisions))
        }
        Mode::Periodic => {
            let hours = number.map(|hours| Duration::from_secs(hours.saturating_mul(3600)));
            let period = hours.map_or_else(|| duration::parse(retention), Ok).map_err(|_| malformed("a period"))?;
            Ok(Some(period).filter(|period| !period.is_zero()).map(AutoCompaction::Periodic))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_read_as_etcd_reads_it() {
        let revisions = |count| NonZeroU64::new(count).map(AutoCompaction::Revisions);
        let cases = [
            (Mode::Periodic, None, Some(None)),
            (Mode::Periodic, Some("0"), Some(None)),
            (Mode::Periodic, Some("1"), Some(Some(AutoCompaction::Periodic(Duration::from_hours(1))))),
            (Mode::Periodic, Some("5m"), Some(Some(AutoCompaction::Periodic(Duration::from_mins(5))))),
            (Mode::Periodic, Some("often"), None),
            (Mode::Revision, Some("0"), Some(None)),
            (Mode::Revision, Some("1000"), Some(revisions(1000))),
            (Mode::Revision, Some("5m"), None),
        ];
        for (mode, retention, expected) in cases {
            assert_eq!(kept(mode, retention).ok(), expected, "{mode:?} {retention:?}");
        }
    }
}
