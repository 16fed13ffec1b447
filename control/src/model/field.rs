//! Shapes that many kinds share: durations, percentages, string matches.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Declares a published message: its fields, all optional on the wire; an unset one is not written.
macro_rules! message {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$field_doc])* #[serde(skip_serializing_if = "crate::model::field::is_unset")] pub(crate) $field: $type,)*
        }
    };
}
pub(super) use message;

/// Declares a published enum, its values spelled as in the API; the first is the default.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $first:ident = $first_text:literal, $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub(crate) enum $name {
            #[default]
            #[serde(rename = $first_text)]
            $first,
            $(#[serde(rename = $text)] $variant,)*
        }
    };
}
pub(super) use choice;

/// Whether a field has its default, which protobuf's JSON form leaves out.
pub(super) fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

message! {
    /// A match on text; exactly one field is set, or none where the presence alone is asked.
    StringMatch {
        exact: Option<String>,
        prefix: Option<String>,
        /// RE2 syntax; must match the whole text.
        regex: Option<String>,
    }
}

message! {
    /// A percentage, 0 to 100.
    Percent {
        value: f64,
    }
}

/// A span of time, read as Go writes it (`1.5s`, `300ms`, `1h30m`) and written in seconds, as protobuf's JSON form does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GoDuration(pub(crate) Duration);

/// Longest span that protobuf's `Duration` can hold, nanoseconds.
const NANOS_MAX: u128 = 315_576_000_000 * 1_000_000_000;

impl GoDuration {
    fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::default());
        }
        let mut rest = text;
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
            let unit_end = rest[number..].find(|letter: char| letter.is_ascii_digit() || letter == '.');
            let unit_end = unit_end.map_or(rest.len(), |end| number + end);
            nanos = nanos.checked_add(nanoseconds(&rest[..number], &rest[number..unit_end])?)?;
            rest = &rest[unit_end..];
        }
        if text.is_empty() || nanos > NANOS_MAX {
            return None;
        }
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        let fraction = u32::try_from(nanos % 1_000_000_000).ok()?;
        Some(Self(Duration::new(seconds, fraction)))
    }
}

/// `number` of `unit` in nanoseconds; what is below one is dropped.
fn nanoseconds(number: &str, unit: &str) -> Option<u128> {
    let unit: u128 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > 18 || fraction.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)? * unit + digits(fraction)? * unit / scale)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos == 0 {
            return write!(f, "{seconds}s");
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format_args!("{text:?} is no duration: write it like \"1.5s\", \"300ms\" or \"1h30m\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1.5s", Some(1_500_000)),
            ("300ms", Some(300_000)),
            ("1h30m", Some(5_400_000_000)),
            (".5s", Some(500_000)),
            ("7us", Some(7)),
            ("", None),
            ("s", None),
            ("5", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("1..5s", None),
            ("99999999999999h", None),
        ];
        for (text, micros) in cases {
            assert_eq!(GoDuration::parse(text).map(|span| span.0.as_micros()), micros, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_it_was_written(seconds in 0_u64..1_000_000, nanos in 0_u32..1_000_000_000) {
            let span = GoDuration(Duration::new(seconds, nanos));
            prop_assert_eq!(GoDuration::parse(&span.to_string()), Some(span));
        }

        #[test]
        fn any_text_is_a_duration_or_not(text in "\\PC{0,12}") {
            let _ = GoDuration::parse(&text);
        }
    }
}
