//! Durations as etcd's flags write them: `5s`, `1m30s`, `250ms`, and whole milliseconds.

use std::time::Duration;

const UNITS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads Go's form: numbers, each with its unit; only 0 needs none.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let malformed = || format!("{text:?} is not a duration such as 5s, 1m30s or 250ms");
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
        total += number.parse::<f64>().map_err(|_| malformed())? * seconds;
        rest = after;
    }
    if text.is_empty() { Err(malformed()) } else { Duration::try_from_secs_f64(total).map_err(|_| malformed()) }
}

/// Reads how long a secret is good for: the wire has whole seconds, and 0 there would be the server's choice.
pub(crate) fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse(text)?;
    if ttl < Duration::from_secs(1) { Err("1s is the least".to_owned()) } else { Ok(ttl) }
}

/// Reads whole milliseconds, as etcd's `--heartbeat-interval` has them.
pub(crate) fn parse_milliseconds(text: &str) -> Result<Duration, String> {
    let number: u64 = text.parse().map_err(|_| format!("{text:?} is not a whole number of milliseconds"))?;
    if number == 0 { Err("0 ms is too short".to_owned()) } else { Ok(Duration::from_millis(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_in_go() {
        let cases = [
            ("5s", Some(5_000)),
            ("0", Some(0)),
            ("1m30s", Some(90_000)),
            ("250ms", Some(250)),
            ("1.5h", Some(5_400_000)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("5 s", None),
            ("1d", None),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text).ok(), milliseconds.map(Duration::from_millis), "{text:?}");
        }
        assert_eq!((parse_ttl("1s"), parse_ttl("999ms").is_ok()), (Ok(Duration::from_secs(1)), false));
        assert_eq!(parse_milliseconds("100"), Ok(Duration::from_millis(100)));
        assert!(parse_milliseconds("0").is_err() && parse_milliseconds("1s").is_err());
    }
}
