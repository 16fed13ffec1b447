//! Checks that many kinds share: names, hosts, ports, patterns, spans and shares.

use std::{collections::BTreeMap, fmt::Display, net::IpAddr};

use regex::RegexBuilder;
use types::Namespace;

use super::Issue;
use crate::model::{GoDuration, Id, Percent, Resource, StringMatch};

/// Longest regular expression, bytes; as Istio.
const REGEX_BYTES_MAX: usize = 1024;
/// Largest compiled regular expression, bytes: it runs on every request.
const REGEX_PROGRAM_BYTES_MAX: usize = 256 << 10;
/// Longest DNS name, bytes.
const NAME_BYTES_MAX: usize = 253;
/// Longest span that may be configured: a day is more than any timeout or interval means.
const SPAN_MAX: std::time::Duration = std::time::Duration::from_hours(24);

/// Collects what is wrong with one resource.
pub(super) struct Check {
    id: Id,
    pub(super) issues: Vec<Issue>,
}

impl Check {
    pub(super) fn new(id: &Id) -> Self {
        Self { id: id.clone(), issues: Vec::new() }
    }

    pub(super) fn issue(&mut self, field: impl Display, message: impl Into<String>, suggestion: impl Into<String>) {
        let (field, message, suggestion) = (field.to_string(), message.into(), suggestion.into());
        self.issues.push(Issue { id: self.id.clone(), field, message, suggestion });
    }

    pub(super) fn metadata(&mut self, resource: &Resource) {
        let Id { namespace, name, .. } = &resource.id;
        if name.is_empty() {
            self.issue("metadata.name", "a resource needs a name", "");
        } else if !is_dns_name(name) {
            let message = format!("{name:?} is no name: it takes a-z, 0-9, '-' and '.', at most {NAME_BYTES_MAX}");
            self.issue("metadata.name", message, name.to_ascii_lowercase().replace('_', "-"));
        }
        if let Err(error) = Namespace::parse(namespace) {
            self.issue("metadata.namespace", error.to_string(), "");
        }
        self.labels("metadata.labels", &resource.labels);
    }

    /// Labels are ASCII words, so that they fit on the wire and in metrics.
    pub(super) fn labels(&mut self, field: impl Display, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
            if key.is_empty() || !word(key) || !word(value) || value.len() > 63 {
                let message = format!("{key:?}: {value:?} is no label: it takes letters, digits, '-', '_' and '.'");
                self.issue(format_args!("{field}.{key}"), message, "");
            }
        }
    }

    /// A host: a DNS name or IP address, a `*.` wildcard, or `*` alone.
    pub(super) fn host(&mut self, field: impl Display, host: &str) {
        let name = host.strip_prefix("*.").unwrap_or(host);
        if host.is_empty() {
            self.issue(field, "a host must not be empty", "");
        } else if host != "*" && !is_dns_name(name) && name.parse::<IpAddr>().is_err() {
            let message = format!("{host:?} is no host: a DNS name, perhaps after \"*.\", or \"*\"");
            self.issue(field, message, host.to_ascii_lowercase());
        }
    }

    pub(super) fn hosts(&mut self, field: &str, hosts: &[String]) {
        if hosts.is_empty() {
            self.issue(field, "at least one host is needed", "");
        }
        for (index, host) in hosts.iter().enumerate() {
            self.host(format_args!("{field}[{index}]"), host);
            if hosts[..index].contains(host) {
                self.issue(format_args!("{field}[{index}]"), format!("host {host:?} is given twice"), "keep one");
            }
        }
    }

    pub(super) fn port(&mut self, field: impl Display, port: u32) {
        if !(1..=65535).contains(&port) {
            self.issue(field, format!("{port} is no port: use 1 to 65535"), "");
        }
    }

    pub(super) fn ip(&mut self, field: impl Display, address: &str) {
        if address.parse::<IpAddr>().is_err() {
            self.issue(field, format!("{address:?} is no IP address"), "");
        }
    }

    /// A span between a millisecond and a day.
    pub(super) fn span(&mut self, field: impl Display, span: Option<GoDuration>) {
        let Some(GoDuration(span)) = span else { return };
        if span.as_millis() == 0 {
            self.issue(field, "the span must be at least 1ms", "");
        } else {
            self.span_or_zero(field, Some(GoDuration(span)));
        }
    }

    /// A span of at most a day; 0 turns off what it limits.
    pub(super) fn span_or_zero(&mut self, field: impl Display, span: Option<GoDuration>) {
        if span.is_some_and(|GoDuration(span)| span > SPAN_MAX) {
            self.issue(field, "the span must be at most 24h", "");
        }
    }

    pub(super) fn percentage(&mut self, field: impl Display, percentage: Option<&Percent>) {
        if let Some(Percent { value }) = percentage
            && !(0.0..=100.0).contains(value)
        {
            self.issue(field, format!("{value} is no percentage: use 0 to 100"), "");
        }
    }

    /// Exactly one way to match; `or_present`: or none, which asks for presence.
    pub(super) fn string_match(&mut self, field: impl Display, value: &StringMatch, or_present: bool) {
        let StringMatch { exact, prefix, regex } = value;
        let set = [exact, prefix, regex].into_iter().flatten().count();
        if set > 1 || (set == 0 && !or_present) {
            self.issue(&field, "exactly one of exact, prefix and regex is needed", "");
        }
        if prefix.as_ref().is_some_and(String::is_empty) {
            self.issue(format_args!("{field}.prefix"), "an empty prefix matches everything", "remove the match");
        }
        if let Some(regex) = regex {
            self.regex(format_args!("{field}.regex"), regex);
        }
    }

    /// An RE2 expression: no look-around, no back-references, and of bounded cost.
    pub(super) fn regex(&mut self, field: impl Display, regex: &str) {
        if regex.is_empty() || regex.len() > REGEX_BYTES_MAX {
            return self.issue(field, format!("a regular expression has 1 to {REGEX_BYTES_MAX} bytes"), "");
        }
        if let Err(error) = RegexBuilder::new(regex).size_limit(REGEX_PROGRAM_BYTES_MAX).build() {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            self.issue(field, format!("{regex:?} is no RE2 expression: {reason}"), "");
        }
    }

    /// The name of an HTTP header, in any case.
    pub(super) fn header_name(&mut self, field: impl Display, name: &str) {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            self.issue(field, format!("{name:?} is no header name"), "");
        }
    }

    /// Text that goes onto the wire as it is.
    pub(super) fn header_value(&mut self, field: impl Display, value: &str) {
        if value.contains('%') {
            self.issue(field, "format strings (%) in header values are not supported yet", "remove the %");
        } else if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
            self.issue(field, "a header value has no control characters", "");
        }
    }

    pub(super) fn export_to(&mut self, field: &str, export_to: &[String]) {
        for (index, to) in export_to.iter().enumerate() {
            if !matches!(to.as_str(), "*" | "." | "~") && Namespace::parse(to).is_err() {
                let message = format!("{to:?} is no namespace");
                self.issue(format_args!("{field}[{index}]"), message, "use \"*\", \".\", \"~\" or a namespace");
            }
        }
    }
}

/// A DNS subdomain: labels of letters, digits and `-`, in lower case.
pub(super) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= NAME_BYTES_MAX && text.split('.').all(label)
}
