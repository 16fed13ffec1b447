//! Metrics in Prometheus' text form, as far as the tour reads them.
//!
//! - A line that is not a sample is skipped; label values are unescaped.

use std::collections::BTreeMap;

/// One sample: labels and value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Sample {
    /// A label's value; empty when it is absent, which means the same to Prometheus.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All samples of the metric called `name`.
pub(super) fn samples(text: &str, name: &str) -> Vec<Sample> {
    text.lines().filter_map(|line| sample(line.strip_prefix(name)?)).collect()
}

/// Reads `{labels} value [timestamp]`, or `value` alone.
fn sample(rest: &str) -> Option<Sample> {
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None if rest.starts_with(' ') => (BTreeMap::new(), rest),
        None => return None,
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { labels, value })
}

/// Reads `name="value",...}` and returns what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

/// Reads up to the closing quote and returns what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_prometheus_writes() {
        let text = "# HELP requests_total All.\n\
             requests_total{a=\"1\",b=\"x,y} \\\"z\\\\\"} 7\n\
             requests_total 2.5 1700000000\n\
             requests_total_created{a=\"1\"} 9\n\
             requests_total{a=\"broken} 1\n\
             other{a=\"1\"} 3\n";
        let found = samples(text, "requests_total");
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].label("a"), found[0].label("b"), found[0].value), ("1", "x,y} \"z\\", 7.0));
        assert_eq!((found[1].label("a"), found[1].value), ("", 2.5));
    }
}
