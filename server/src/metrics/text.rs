//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use types::Durations;

/// A page of metrics, as it is written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// One family of metrics on the page, its description written.
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: &'a str,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// A number that only grows.
    pub(super) fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "counter", help)
    }

    /// A number as it is now.
    pub(super) fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "gauge", help)
    }

    pub(super) fn histogram<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.family(name, "histogram", help)
    }

    fn family<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        // Writing to a string does not fail, here and below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { page: &mut self.0, name }
    }
}

impl Family<'_> {
    /// The only one of its family.
    pub(super) fn is(mut self, value: impl Display) {
        self.with(&[], value);
    }

    /// One of its family.
    pub(super) fn with(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.sample("", labels, None, value);
        self
    }

    /// One histogram of its family, its sum in seconds.
    pub(super) fn durations(&mut self, labels: Labels<'_>, durations: &Durations) -> &mut Self {
        let counted = durations.counted();
        for (bound, count) in counted.cumulative {
            self.sample("_bucket", labels, Some(&bound.as_secs_f64().to_string()), count);
        }
        self.sample("_bucket", labels, Some("+Inf"), counted.count);
        self.sample("_sum", labels, None, counted.sum.as_secs_f64());
        self.sample("_count", labels, None, counted.count);
        self
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        self.page.push_str(self.name);
        self.page.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.page, "{before}{name}=\"");
            escape(value, self.page);
            self.page.push('"');
            before = ',';
        }
        if before == ',' {
            self.page.push('}');
        }
        let _ = writeln!(self.page, " {value}");
    }
}

fn escape(value: &str, page: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            other => page.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_described_once_and_labels_escaped() {
        const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_secs(2)];
        let mut page = Page::default();
        page.gauge("a", "What a is.").is(1.5);
        page.counter("b_total", "What b is.").with(&[("x", "1"), ("y", "\"\\\n")], 2).with(&[], 3);
        let durations = Durations::new(BOUNDS);
        durations.record(Duration::from_secs(1));
        page.histogram("c_seconds", "What c is.").durations(&[("x", "1")], &durations);
        let expected = "# HELP a What a is.\n# TYPE a gauge\na 1.5\n\
            # HELP b_total What b is.\n# TYPE b_total counter\nb_total{x=\"1\",y=\"\\\"\\\\\\n\"} 2\nb_total 3\n\
            # HELP c_seconds What c is.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{x=\"1\",le=\"0.001\"} 0\nc_seconds_bucket{x=\"1\",le=\"2\"} 1\nc_seconds_bucket{x=\"1\",le=\"+Inf\"} 1\n\
            c_seconds_sum{x=\"1\"} 1\nc_seconds_count{x=\"1\"} 1\n";
        assert_eq!(page.into_text(), expected);
    }
}
