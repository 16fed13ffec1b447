//! What the machine does for a test, if it is allowed.

use std::process::Command;

/// What a program prints, or why it failed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Says why a machine can not do this.
pub(crate) fn said<T>(outcome: Result<T, String>) -> Option<T> {
    outcome.inspect_err(|error| eprintln!("passed over: {error}")).ok()
}
