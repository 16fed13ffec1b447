//! Changes to a message's headers, compiled once.

use std::mem;

use http::{HeaderMap, HeaderName, HeaderValue, header::HOST};
use proto::envoy::config::core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction};

use super::wire::{Invalid, header_option};

/// Removals, then additions, in the order they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mutations {
    remove: Vec<HeaderName>,
    add: Vec<(HeaderName, HeaderValue, HeaderAppendAction)>,
    /// `host` or `:authority`, set: the request goes out under this name.
    host: Option<HeaderValue>,
}

impl Mutations {
    pub(crate) fn compile(add: Vec<HeaderValueOption>, remove: Vec<String>) -> Result<Self, Invalid> {
        let mut mutations = Self::default();
        for name in remove {
            mutations.remove.push(header_name(&name)?);
        }
        for option in add {
            mutations.push(option)?;
        }
        Ok(mutations)
    }

    fn push(&mut self, option: HeaderValueOption) -> Result<(), Invalid> {
        let (name, value, action, keep_empty) = header_option(option)?;
        let value = HeaderValue::from_str(&literal(&value)?).map_err(|error| Invalid::bad("header value", error))?;
        let action = HeaderAppendAction::try_from(action).map_err(|error| Invalid::bad("append_action", error))?;
        if name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host") {
            self.host = Some(value);
        } else if keep_empty || !value.is_empty() {
            self.add.push((header_name(&name)?, value, action));
        }
        Ok(())
    }

    /// These, then `outer`'s: Envoy evaluates the most specific level first.
    pub(crate) fn then(mut self, outer: &Self) -> Self {
        self.remove.extend(outer.remove.iter().cloned());
        self.add.extend(outer.add.iter().cloned());
        self.host = self.host.or_else(|| outer.host.clone());
        self
    }

    /// The name under which the request goes out, when it changes.
    pub(crate) fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value, action) in &self.add {
            let present = headers.contains_key(name);
            match action {
                HeaderAppendAction::AppendIfExistsOrAdd => {
                    headers.append(name, value.clone());
                }
                HeaderAppendAction::AddIfAbsent if present => {}
                HeaderAppendAction::OverwriteIfExists if !present => {}
                HeaderAppendAction::AddIfAbsent
                | HeaderAppendAction::OverwriteIfExists
                | HeaderAppendAction::OverwriteIfExistsOrAdd => {
                    headers.insert(name, value.clone());
                }
            }
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, Invalid> {
    let parsed: HeaderName = name.parse().map_err(|error| Invalid::bad("header name", error))?;
    if parsed == HOST {
        return Err(Invalid::bad("header name", "host can be set, and neither removed nor appended to"));
    }
    Ok(parsed)
}

/// Envoy's `%COMMAND%` values are not built; `%%` is a percent sign.
fn literal(value: &str) -> Result<String, Invalid> {
    let mut plain = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        let after = after.strip_prefix('%').ok_or_else(|| Invalid::Unsupported(format!("header value {value:?}")))?;
        plain.push_str(before);
        plain.push('%');
        rest = after;
    }
    plain.push_str(mem::take(&mut rest));
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use proto::envoy::config::core::v3::HeaderValue as WireHeader;

    use super::*;

    fn option(key: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
        HeaderValueOption {
            header: Some(WireHeader { key: key.into(), value: value.into(), ..WireHeader::default() }),
            append_action: action.into(),
            ..HeaderValueOption::default()
        }
    }

    #[test]
    fn each_action_does_what_envoy_says() {
        use HeaderAppendAction as A;
        for (action, present, absent) in [
            (A::AppendIfExistsOrAdd, vec!["old", "new"], vec!["new"]),
            (A::AddIfAbsent, vec!["old"], vec!["new"]),
            (A::OverwriteIfExistsOrAdd, vec!["new"], vec!["new"]),
            (A::OverwriteIfExists, vec!["new"], vec![]),
        ] {
            let mutations = Mutations::compile(vec![option("x", "new", action)], vec!["gone".into()]).expect("valid");
            for (initial, expected) in [(Some("old"), present), (None, absent)] {
                let mut headers = HeaderMap::new();
                headers.insert("gone", HeaderValue::from_static("1"));
                if let Some(value) = initial {
                    headers.insert("x", value.parse().expect("a value"));
                }
                mutations.apply(&mut headers);
                let values: Vec<_> = headers.get_all("x").iter().map(|value| value.to_str().expect("text")).collect();
                assert_eq!(values, expected, "{action:?} {initial:?}");
                assert!(!headers.contains_key("gone"));
            }
        }
    }

    #[test]
    fn a_command_is_refused_and_a_percent_sign_is_not() {
        assert_eq!(literal("100%%"), Ok("100%".to_owned()));
        assert!(literal("%REQ(x)%").is_err());
    }

    #[test]
    fn host_is_a_rewrite() {
        let set = option("Host", "other", HeaderAppendAction::OverwriteIfExistsOrAdd);
        let mutations = Mutations::compile(vec![set], vec![]).expect("valid");
        assert_eq!(mutations.host().map(HeaderValue::as_bytes), Some(&b"other"[..]));
    }
}
