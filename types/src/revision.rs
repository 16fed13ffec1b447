//! The store's clock, and the names of its leases.

use std::{fmt, num::NonZeroI64};

/// A point in the store's history. 1 is the empty store; each transaction that changes something adds exactly 1.
///
/// Assigned only by the store's apply; on the wire an `int64`, where 0 and below mean "none" or "latest".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(NonZeroI64);

impl Revision {
    /// The revision of an empty store.
    pub const FIRST: Self = Self(NonZeroI64::new(1).expect("1 is not 0"));

    /// A revision from the wire or the disk; `None` unless it is at least 1.
    pub fn new(value: i64) -> Option<Self> {
        NonZeroI64::new(value).filter(|value| value.is_positive()).map(Self)
    }

    /// The wire's form, always positive.
    pub fn get(self) -> i64 {
        self.0.get()
    }

    /// The revision that the next changing transaction gets.
    #[must_use]
    pub fn next(self) -> Self {
        let next = self.get().checked_add(1).and_then(NonZeroI64::new);
        Self(next.expect("2^63 transactions outlast the cluster"))
    }

    /// The revision before this one; `None` at [`Revision::FIRST`].
    pub fn previous(self) -> Option<Self> {
        Self::new(self.get() - 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease; never 0, which on the wire means "no lease".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(NonZeroI64);

impl LeaseId {
    /// A lease named on the wire or the disk; `None` for 0.
    pub fn new(value: i64) -> Option<Self> {
        NonZeroI64::new(value).map(Self)
    }

    /// The wire's form.
    pub fn get(self) -> i64 {
        self.0.get()
    }
}

/// As `etcdctl` prints it: lower-case hexadecimal.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_numbers_are_revisions() {
        for (value, expected) in [(i64::MIN, None), (-1, None), (0, None), (1, Some(1)), (i64::MAX, Some(i64::MAX))] {
            assert_eq!(Revision::new(value).map(Revision::get), expected, "{value}");
        }
        assert_eq!(Revision::FIRST.previous(), None);
        assert_eq!(Revision::FIRST.next().previous(), Some(Revision::FIRST));
    }

    #[test]
    fn a_lease_is_any_number_but_zero() {
        assert_eq!(LeaseId::new(0), None);
        assert_eq!(LeaseId::new(-7).map(LeaseId::get), Some(-7));
        assert_eq!(LeaseId::new(0x2a).map(|lease| lease.to_string()), Some("000000000000002a".to_owned()));
    }
}
