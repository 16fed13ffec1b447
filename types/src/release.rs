//! Releases of this program, as far as the members of one cluster tell them apart.
//!
//! - Patches of one release write and understand the same: major and minor number are its name.
//! - A release runs beside the one before it and no other; [`Release::before`] says which one that is.

use std::{fmt, str::FromStr};

/// A release of this program, `MAJOR.MINOR`. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    major: u16,
    minor: u16,
}

impl Release {
    /// The first one. It knew of no others, and tells nobody that it is it.
    pub const FIRST: Self = Self { major: 0, minor: 1 };
    /// The one in which a cluster has a version.
    pub const WITH_CLUSTER_VERSION: Self = Self { major: 0, minor: 2 };
    /// This program's. What it writes that the one before it cannot read waits until the cluster's version is this.
    pub const THIS: Self = Self::WITH_CLUSTER_VERSION;
    /// All of them up to this one, in order. A new release is added at the end.
    const ALL: [Self; 2] = [Self::FIRST, Self::THIS];

    /// The one that it runs beside: the one before it, or the first itself.
    #[must_use]
    pub fn before(self) -> Self {
        Self::ALL.into_iter().rev().find(|earlier| *earlier < self).unwrap_or(Self::FIRST)
    }

    /// The number that stands for it between members and on the disk: greater for later ones, never 0.
    pub fn number(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }

    /// The release that a number stands for; 0, where nothing was told, is the first.
    pub fn from_number(number: u32) -> Self {
        let [major, minor] = [number >> 16, number & 0xffff].map(|half| u16::try_from(half).unwrap_or(u16::MAX));
        if number == 0 { Self::FIRST } else { Self { major, minor } }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What was to be a release is none that this program could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownRelease;

impl fmt::Display for UnknownRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<_> = Release::ALL.iter().map(Release::to_string).collect();
        write!(f, "the releases up to this one are {}", known.join(", "))
    }
}

impl std::error::Error for UnknownRelease {}

/// Reads the name of this release or an earlier one.
impl FromStr for Release {
    type Err = UnknownRelease;

    fn from_str(text: &str) -> Result<Self, UnknownRelease> {
        Self::ALL.into_iter().find(|release| release.to_string() == text).ok_or(UnknownRelease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_release_is_the_one_that_the_package_says() {
        assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{}.", Release::THIS)), "{}", Release::THIS);
        assert!(Release::ALL.is_sorted() && Release::ALL.last() == Some(&Release::THIS));
    }

    #[test]
    fn a_release_runs_beside_the_one_before_it() {
        assert_eq!(Release::THIS.before(), Release::FIRST);
        assert_eq!(Release::FIRST.before(), Release::FIRST);
    }

    #[test]
    fn a_release_is_known_by_its_number_and_by_its_name() {
        for release in Release::ALL {
            assert_eq!(Release::from_number(release.number()), release);
            assert_eq!(release.to_string().parse(), Ok(release));
        }
        assert_eq!(Release::from_number(0), Release::FIRST);
        assert!(Release::from_number(u32::MAX) > Release::THIS);
        assert!(Release::FIRST.number() < Release::THIS.number());
        for unknown in ["", "0", "0.0", "0.2.0", "9.9"] {
            assert_eq!(unknown.parse::<Release>(), Err(UnknownRelease), "{unknown}");
        }
    }
}
