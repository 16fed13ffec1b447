//! etcd's configuration file, YAML or JSON.
//!
//! - A file says what flags say, by the flags' names: it is read as a command line, so that both mean the same.
//! - With a file, flags and environment do not count, as in etcd.
//! - A key that no flag has is an error, and so is one for what is not in this version.

use std::path::Path;

use clap::{ArgMatches, Command, FromArgMatches, builder::Resettable};
use serde_json::{Map, Value};

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
const DURATIONS: [&str; 10] = [
    "watch-progress-notify-interval",
    "grpc-keepalive-interval",
    "grpc-keepalive-timeout",
    "grpc-keepalive-min-time",
    "backend-batch-interval",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "compact-hash-check-time",
    "warning-apply-duration",
    "warning-unary-request-duration",
];

/// The flags that the file at `path` stands for.
pub(super) fn read(path: &Path) -> Result<Args, Failure> {
    let failed = |reason: String| Failure::bad_args(format!("--config-file {}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let words = words(&text).map_err(failed)?;
    parse(words).map_err(|error| failed(told(&error)))
}

fn parse(words: Vec<String>) -> Result<Args, clap::Error> {
    let command = <Args as clap::Args>::augment_args(Command::new("server"));
    let command = command.no_binary_name(true).mut_args(|argument| argument.env(Resettable::Reset));
    let matches: ArgMatches = command.try_get_matches_from(words)?;
    Args::from_arg_matches(&matches)
}

/// clap's words without its usage, which is that of a command line.
fn told(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\nUsage:").next().unwrap_or(&text);
    first.trim().trim_start_matches("error: ").to_owned()
}

/// The command line that says what a file says.
fn words(text: &str) -> Result<Vec<String>, String> {
    let file: Option<Map<String, Value>> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut words = Vec::new();
    for (key, value) in file.unwrap_or_default() {
        match (SECTIONS.iter().find(|(section, _)| *section == key), value) {
            (Some((_, prefix)), Value::Object(section)) => {
                for (key, value) in section {
                    let flag = format!("{prefix}{key}");
                    let renamed = RENAMED.iter().find(|(name, _)| *name == flag);
                    words.extend(word(renamed.map_or(&flag, |(_, name)| *name), &value)?);
                }
            }
            (Some(_), Value::Null) => {}
            (Some(_), _) => return Err(format!("{key} is not a section")),
            (None, value) => words.extend(word(&key, &value)?),
        }
    }
    Ok(words)
}

/// `--FLAG=VALUE`; nothing for a value that is left out.
fn word(flag: &str, value: &Value) -> Result<Option<String>, String> {
    let value = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::Array(list) if list.is_empty() => return Ok(None),
        Value::Number(number) if DURATIONS.contains(&flag) => format!("{number}ns"),
        Value::Array(list) => list.iter().map(|one| scalar(flag, one)).collect::<Result<Vec<_>, _>>()?.join(","),
        one => scalar(flag, one)?,
    };
    Ok(Some(format!("--{flag}={value}")))
}

fn scalar(flag: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(switch) => Ok(switch.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("{flag} is not a single value")),
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
            "--grpc-keepalive-interval=2h",
            "--cert-file=c",
            "--client-cert-auth=true",
            "--peer-cert-allowed-cn=x",
            "--cipher-suites=A,B",
        ];
        assert_eq!(words(text).unwrap(), expected);
        assert_eq!(words(r#"{"name": "a", "client-transport-security": null}"#).unwrap(), ["--name=a"]);
        assert!(words("").unwrap().is_empty());
        assert!(words("client-transport-security: 1").is_err());
        assert!(words("name: {a: b}").is_err());
    }

    #[test]
    fn what_is_not_known_is_told_by_its_name() {
        for (text, told) in [
            ("nmae: a", "--nmae"),
            ("discovery-srv: example.com", "members are not discovered"),
            ("snapshot-count: many", "--snapshot-count"),
        ] {
            let error = parse(words(text).unwrap()).map(drop).unwrap_err();
            let text = super::told(&error);
            assert!(text.contains(told) && !text.contains("Usage"), "{text}");
        }
    }
}
