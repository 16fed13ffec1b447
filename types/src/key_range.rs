//! Which keys a request speaks of.

use bytes::Bytes;

/// A set of keys, as etcd's `key` and `range_end` name it. Keys order as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// The one key.
    One(Bytes),
    /// From the first key up to, and without, the second; empty when they are not in order.
    Between(Bytes, Bytes),
    /// The key and all that follow.
    AtLeast(Bytes),
}

impl KeyRange {
    /// Reads the wire's form: no end is one key, an end of `"\0"` is open.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        match &range_end[..] {
            [] => Self::One(key),
            [0] => Self::AtLeast(key),
            _ => Self::Between(key, range_end),
        }
    }

    /// The wire's form: `(key, range_end)`.
    pub fn to_wire(&self) -> (Bytes, Bytes) {
        match self {
            Self::One(key) => (key.clone(), Bytes::new()),
            Self::Between(key, end) => (key.clone(), end.clone()),
            Self::AtLeast(key) => (key.clone(), Bytes::from_static(b"\0")),
        }
    }

    /// Every key.
    pub fn all() -> Self {
        Self::AtLeast(Bytes::new())
    }

    /// All keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        match prefix.iter().rposition(|&byte| byte != u8::MAX) {
            None => Self::AtLeast(prefix),
            Some(last) => {
                let mut end = prefix[..=last].to_vec();
                end[last] += 1;
                Self::Between(prefix, end.into())
            }
        }
    }

    /// Whether `key` is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(start, end) => &start[..] <= key && key < &end[..],
            Self::AtLeast(start) => &start[..] <= key,
        }
    }

    /// Whether no key can be one of them.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Between(start, end) if start >= end)
    }

    /// Whether some key can be one of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let reaches = |range: &Self, key: &[u8]| match range {
            Self::One(one) => key <= &one[..],
            Self::Between(_, end) => key < &end[..],
            Self::AtLeast(_) => true,
        };
        !self.is_empty() && !other.is_empty() && reaches(self, other.start()) && reaches(other, self.start())
    }

    /// The least key that it can contain.
    pub fn start(&self) -> &Bytes {
        let (Self::One(start) | Self::Between(start, _) | Self::AtLeast(start)) = self;
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn range_end_means_what_etcd_says() {
        let key = |text: &'static str| Bytes::from_static(text.as_bytes());
        let cases = [
            ("a", "", KeyRange::One(key("a"))),
            ("a", "c", KeyRange::Between(key("a"), key("c"))),
            ("a", "\0", KeyRange::AtLeast(key("a"))),
        ];
        for (start, end, expected) in cases {
            assert_eq!(KeyRange::from_wire(key(start), key(end)), expected, "key={start:?} end={end:?}");
            assert_eq!(expected.to_wire(), (key(start), key(end)));
        }
    }

    fn any_range() -> impl Strategy<Value = KeyRange> {
        let key = || proptest::collection::vec(0_u8..3, 0..3);
        (key(), key()).prop_map(|(key, end)| KeyRange::from_wire(key.into(), end.into()))
    }

    proptest! {
        #[test]
        fn ranges_overlap_when_they_share_a_key(one in any_range(), other in any_range()) {
            // One byte more than the ends have is enough to find a shared key.
            let keys = (0..4).flat_map(|len| (0..4_usize.pow(len)).map(move |n| {
                (0..len).map(|at| u8::try_from(n / 4_usize.pow(at) % 4).expect("below 4")).collect::<Vec<_>>()
            }));
            let shared = keys.into_iter().any(|key| one.contains(&key) && other.contains(&key));
            prop_assert_eq!(one.overlaps(&other), shared, "{:?} {:?}", one, other);
        }

        #[test]
        fn a_prefix_contains_what_starts_with_it(prefix in any::<Vec<u8>>(), key in any::<Vec<u8>>(), joined in any::<bool>()) {
            let key = if joined { [&prefix[..], &key[..]].concat() } else { key };
            prop_assert_eq!(KeyRange::prefix(prefix.clone()).contains(&key), key.starts_with(&prefix));
        }
    }
}
