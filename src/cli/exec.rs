//! Commands that a verb runs: with variables of ours, nothing to read, and our own output.

use super::failure::{Exit, Failure};
use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};
use tokio::process::Command;

/// Runs a command to its end. `command`: the program, then its arguments; not empty.
pub(crate) async fn run(command: &[String], variables: &[(&str, String)]) -> Result<ExitStatus, Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| Failure::bad_args("no command to run is given"))?;
    let variables = variables.iter().map(|(name, value)| (name, value));
    let mut child = Command::new(program);
    child.args(arguments).envs(variables).stdin(Stdio::null());
    let failed = |error| Failure::new(Exit::Error, format!("cannot run {program:?}: {error}"));
    child.status().await.map_err(failed)
}

/// How a command ended, as etcdctl says it.
pub(crate) fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal: {signal}"),
        (None, None) => "ended in no known way".to_owned(),
    }
}

/// The exit code of a verb that is as good as the command that it ran. What a signal ended has none of its own.
pub(crate) fn exit(status: ExitStatus) -> Exit {
    Exit::Command(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
