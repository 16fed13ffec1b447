//! etcd's configuration file, YAML or JSON.
//!
//! - A file says what flags say, by the flags' names: it is read as a command line, so that both mean the same.
//! - With a file, flags and environment do not count, as in etcd.
//! - A key that no flag has is an error, and so is one for what is not in this version: told with its line.

use std::{fmt, path::Path};

use clap::{
    Command, FromArgMatches,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::Args;
use crate::cli::failure::Failure;

/// Sections whose keys are flags by another name.
const SECTIONS: [(&str, &str); 2] = [("client-transport-security", ""), ("peer-transport-security", "peer-")];
/// Keys of a section that are no flag's name with a prefix.
const RENAMED: [(&str, &str); 4] = [
    ("allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-allowed-hostname", "peer-cert-allowed-hostname"),
    ("peer-allowed-cn", "peer-cert-allowed-cn"),
    ("crl-file", "client-crl-file"),
];
/// Flags that are durations: a number is nanoseconds, as Go reads it.
const DURATIONS: [&str; 11] = [
    "watch-progress-notify-interval",
    "grpc-keepalive-interval",
    "grpc-keepalive-timeout",
    "grpc-keepalive-min-time",
    "backend-batch-interval",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "compact-hash-check-time",
    "downgrade-check-time",
    "warning-apply-duration",
    "warning-unary-request-duration",
];

/// The flags that the file at `path` stands for.
pub(super) fn read(path: &Path) -> Result<Args, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::bad_args(format!("--config-file: cannot read {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    flags(&text).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(|problem| problem.told(path)).collect();
        Failure::bad_args(format!("--config-file: {}", problems.join("\n  ")))
    })
}

/// One thing that is wrong with a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Problem {
    /// From 1; 0 where it is of no line.
    line: u64,
    /// `SECTION.KEY`, or `KEY`; empty where it is of no key.
    field: String,
    message: String,
    /// What may have been meant; mostly empty.
    suggestion: String,
}

impl Problem {
    /// `FILE:LINE: FIELD: MESSAGE (SUGGESTION)`, without the parts that are not known.
    fn told(&self, path: &Path) -> String {
        let Self { line, field, message, suggestion } = self;
        let path = path.display();
        let place = if *line == 0 { path.to_string() } else { format!("{path}:{line}") };
        let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
        let suggestion = if suggestion.is_empty() { String::new() } else { format!(" ({suggestion})") };
        format!("{place}: {field}{message}{suggestion}")
    }
}

/// Reads a file as a command line; all that is wrong with single keys is told at once.
fn flags(text: &str) -> Result<Args, Vec<Problem>> {
    let words = words(text).map_err(|problem| vec![problem])?;
    let command = <Args as clap::Args>::augment_args(Command::new("server"));
    let command = command.no_binary_name(true).mut_args(|argument| argument.env(Resettable::Reset));
    let problems: Vec<_> = words.iter().filter_map(|word| word.problem(&command)).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let matches = command.try_get_matches_from(words.iter().map(|word| &word.text));
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    args.map_err(|error| vec![Problem { message: told(&error), ..Problem::default() }])
}

/// What one key of a file is on the command line.
#[derive(Debug)]
struct Word {
    line: u64,
    field: String,
    /// What its section puts before the names of flags; `None`: it is in no section.
    section: Option<&'static str>,
    /// `--FLAG=VALUE`.
    text: String,
}

impl Word {
    /// What is wrong with it, whatever else is in the file.
    fn problem(&self, command: &Command) -> Option<Problem> {
        let error = command.clone().try_get_matches_from([&self.text]).err()?;
        let (message, suggestion) = match error.kind() {
            ErrorKind::UnknownArgument => ("there is no such key".to_owned(), self.meant(&error)),
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => (told(&error), String::new()),
            // It wants another key, which may be there.
            _ => return None,
        };
        Some(Problem { line: self.line, field: self.field.clone(), message, suggestion })
    }

    /// The key that is most like this one.
    fn meant(&self, error: &clap::Error) -> String {
        let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg) else { return String::new() };
        let flag = flag.trim_start_matches("--");
        let key = self.section.map_or(flag, |prefix| {
            let key = RENAMED.iter().find(|(_, name)| *name == flag).map_or(flag, |(key, _)| *key);
            key.strip_prefix(prefix).unwrap_or(key)
        });
        format!("did you mean {key:?}?")
    }
}

/// clap's words without what is of a command line: its usage, and where help is.
fn told(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first =
        ["\n\nUsage:", "\n\nFor more"].iter().fold(text.as_str(), |text, end| text.split(end).next().unwrap_or(text));
    let lines: Vec<_> = first.trim_start_matches("error: ").split_whitespace().collect();
    lines.join(" ")
}

/// A map of the file: its keys in order, each with its line.
#[derive(Debug)]
struct Keys(Vec<(u64, String, Given)>);

/// What stands behind a key.
#[derive(Debug)]
enum Given {
    Value(Value),
    Section(&'static str, Keys),
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let section = SECTIONS.iter().find(|(name, _)| *name == key.value);
            let given = match section {
                Some((_, prefix)) => {
                    Given::Section(prefix, map.next_value::<Option<Keys>>()?.unwrap_or(Keys(Vec::new())))
                }
                None => Given::Value(map.next_value()?),
            };
            keys.push((key.referenced.line(), key.value, given));
        }
        Ok(Keys(keys))
    }
}

/// The command line that says what a file says.
fn words(text: &str) -> Result<Vec<Word>, Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    let file: Option<Keys> = serde_saphyr::from_str_with_options(text, options).map_err(|error| Problem {
        line: error.location().map_or(0, |location| location.line()),
        message: UserMessageFormatter.format_message(error.without_snippet()).into_owned(),
        ..Problem::default()
    })?;
    let mut words = Vec::new();
    for (line, key, given) in file.map(|keys| keys.0).unwrap_or_default() {
        match given {
            Given::Value(value) => words.extend(word((line, key.clone()), None, &key, &value)?),
            Given::Section(prefix, section) => {
                for (line, inner, given) in section.0 {
                    let place = (line, format!("{key}.{inner}"));
                    let Given::Value(value) = given else { return Err(wrong(place, "a section stands in no other")) };
                    let flag = format!("{prefix}{inner}");
                    let renamed = RENAMED.iter().find(|(name, _)| *name == flag);
                    let flag = renamed.map_or(flag.as_str(), |(_, name)| *name);
                    words.extend(word(place, Some(prefix), flag, &value)?);
                }
            }
        }
    }
    Ok(words)
}

/// `(line, field)`: where it is.
fn wrong((line, field): (u64, String), message: &str) -> Problem {
    Problem { line, field, message: message.to_owned(), ..Problem::default() }
}

/// What a key says; nothing for a value that is left out.
fn word(
    place: (u64, String),
    section: Option<&'static str>,
    flag: &str,
    value: &Value,
) -> Result<Option<Word>, Problem> {
    let value = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::Array(list) if list.is_empty() => return Ok(None),
        Value::Number(number) if DURATIONS.contains(&flag.strip_prefix("experimental-").unwrap_or(flag)) => {
            Some(format!("{number}ns"))
        }
        Value::Array(list) => list.iter().map(scalar).collect::<Option<Vec<_>>>().map(|list| list.join(",")),
        one => scalar(one),
    };
    let Some(value) = value else { return Err(wrong(place, "it is not a single value")) };
    let (line, field) = place;
    Ok(Some(Word { line, field, section, text: format!("--{flag}={value}") }))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(switch) => Some(switch.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_the_flags_that_it_names() {
        let text = "
name: 'a'
data-dir:
snapshot-count: 5
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
watch-progress-notify-interval: 5000000000
experimental-watch-progress-notify-interval: 1000000000
experimental-initial-corrupt-check: true
grpc-keepalive-interval: 2h
client-transport-security:
  cert-file: c
  client-cert-auth: true
peer-transport-security:
  key-file:
  allowed-cn: x
cipher-suites: [A, B]
log-outputs: []
";
        let expected = [
            "--name=a",
            "--snapshot-count=5",
            "--listen-client-urls=http://127.0.0.1:1,http://127.0.0.1:2",
            "--watch-progress-notify-interval=5000000000ns",
            "--experimental-watch-progress-notify-interval=1000000000ns",
            "--experimental-initial-corrupt-check=true",
            "--grpc-keepalive-interval=2h",
            "--cert-file=c",
            "--client-cert-auth=true",
            "--peer-cert-allowed-cn=x",
            "--cipher-suites=A,B",
        ];
        let texts = |text| words(text).map(|words| words.into_iter().map(|word| word.text).collect::<Vec<_>>());
        assert_eq!(texts(text).unwrap(), expected);
        assert_eq!(texts(r#"{"name": "a", "client-transport-security": null}"#).unwrap(), ["--name=a"]);
        assert!(texts("").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_was_meant() {
        let cases: [(&str, &[&str]); 11] = [
            ("\n# names\nnmae: a", &["f:3: nmae: there is no such key (did you mean \"name\"?)"]),
            (
                "data-dri: a\nxyzzy: 1\nsnapshot-count: many",
                &[
                    "f:1: data-dri: there is no such key (did you mean \"data-dir\"?)",
                    "f:2: xyzzy: there is no such key",
                    "f:3: snapshot-count: invalid value 'many' for '--snapshot-count <COUNT>': invalid digit found in string",
                ],
            ),
            (
                "peer-transport-security:\n  cert-fil: x\n  alowed-hostname: y",
                &[
                    "f:2: peer-transport-security.cert-fil: there is no such key (did you mean \"cert-file\"?)",
                    "f:3: peer-transport-security.alowed-hostname: there is no such key (did you mean \"allowed-hostname\"?)",
                ],
            ),
            (
                "discovery-srv: example.com",
                &["f:1: discovery-srv: --discovery-srv: members are not discovered in this version: leave it out"],
            ),
            ("{\n\"name\": {\"a\": \"b\"}}", &["f:2: name: it is not a single value"]),
            ("name: a\nname: b", &["f:2: duplicate mapping key `name` is not allowed here"]),
            ("name: a\nclient-transport-security: 1", &["f:2: "]),
            ("name: [", &["f:1: "]),
            ("hello", &["f:1: "]),
            ("cert-file: c", &["f: the following required arguments were not provided: --key-file <FILE>"]),
            (
                "client-transport-security:\n  peer-transport-security:\n",
                &["f:2: client-transport-security.peer-transport-security: a section stands in no other"],
            ),
        ];
        for (text, expected) in cases {
            let problems = flags(text).map(drop).unwrap_err();
            let told: Vec<_> = problems.iter().map(|problem| problem.told(Path::new("f"))).collect();
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for (told, expected) in told.iter().zip(expected) {
                assert!(told.starts_with(expected), "{told}");
            }
        }
    }
}
