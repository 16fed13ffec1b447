//! Commands that a verb runs: with variables of ours, nothing to read, and our own output.

use super::failure::{Exit, Failure};
use std::{
    ffi::OsStr,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
};
use tokio::process::Command;

/// Signals that end a process, as Go names them.
const SIGNALS: [(i32, &str); 11] = [
    (1, "hangup"),
    (2, "interrupt"),
    (3, "quit"),
    (4, "illegal instruction"),
    (6, "aborted"),
    (8, "floating point exception"),
    (9, "killed"),
    (11, "segmentation fault"),
    (13, "broken pipe"),
    (14, "alarm clock"),
    (15, "terminated"),
];

/// Runs a command to its end. `command`: the program, then its arguments; not empty.
pub(crate) async fn run(command: &[String], variables: &[(&str, impl AsRef<OsStr>)]) -> Result<ExitStatus, Failure> {
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
        (None, Some(signal)) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("signal: {name}"),
            None => format!("signal: signal {signal}"),
        },
        (None, None) => "ended in no known way".to_owned(),
    }
}

/// The exit code of a verb that is as good as the command that it ran. What a signal ended has none of its own.
pub(crate) fn exit(status: ExitStatus) -> Exit {
    Exit::Command(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_etcdctl_tells_it() {
        for (status, told, code) in [
            (3 << 8, "exit status 3", 3),
            (9, "signal: killed", 255),
            (15, "signal: terminated", 255),
            (40, "signal: signal 40", 255),
        ] {
            let status = ExitStatus::from_raw(status);
            assert_eq!((ended(status).as_str(), exit(status).code()), (told, code));
        }
    }
}
