//! Empty values: what etcd's own defaults, unit files and charts have where nothing is meant.
//!
//! - A variable that is empty is one that is not set, of whichever verb.
//! - A flag of `server` that is given empty is one that is not given. For other verbs an empty value is a value.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use clap::{Arg, Command, builder::Resettable};

/// Takes from every flag of a command and of its subcommands the variable that is empty.
pub(crate) fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|argument| match argument.get_env() {
        Some(name) if is_empty(name) => argument.env(Resettable::Reset),
        _ => argument,
    });
    command.mut_subcommands(without_empty_variables)
}

/// A command line without the flags of `command` that are given empty: `--FLAG=`, and `--FLAG ''`.
pub(crate) fn without_empty_flags(command: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let is_empty = match (named(command, &word), word.as_bytes().last()) {
            (Some(_), Some(b'=')) => true,
            (Some(flag), _) if !flag.is_require_equals_set() => words.next_if(|value| value.is_empty()).is_some(),
            _ => false,
        };
        if !is_empty {
            kept.push(word);
        }
    }
    kept
}

/// The flag that a word names, if it is `--FLAG` or `--FLAG=` and no more.
fn named<'a>(command: &'a Command, word: &OsStr) -> Option<&'a Arg> {
    let name = word.to_str()?.strip_prefix("--")?;
    let name = name.strip_suffix('=').unwrap_or(name);
    let is_it = |argument: &&Arg| {
        argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|names| names.contains(&name))
    };
    command.get_arguments().find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_is_given_empty_is_not_given() {
        let switch = Arg::new("switch").long("switch").num_args(0..=1).require_equals(true);
        let command = Command::new("server").arg(Arg::new("file").long("file").alias("old-file")).arg(switch);
        let cases: [(&[&str], &[&str]); 8] = [
            (&["--file", "a", "--switch"], &["--file", "a", "--switch"]),
            (&["--file=", "--switch="], &[]),
            (&["--file", "", "--file=a"], &["--file=a"]),
            (&["--old-file=", "--old-file", ""], &[]),
            (&["--switch", ""], &["--switch", ""]),
            (&["--file=a="], &["--file=a="]),
            (&["--other=", "--other", ""], &["--other=", "--other", ""]),
            (&["", "--file"], &["", "--file"]),
        ];
        for (words, expected) in cases {
            assert_eq!(without_empty_flags(&command, words.iter().map(OsString::from)), expected, "{words:?}");
        }
    }
}
