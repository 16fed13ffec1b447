//! What the machine does for a test, if it is allowed.

use std::process::Command;

use crate::harness::{Ability, pass_over};

/// What a program prints, or why it failed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// What came of something that takes an ability. A machine that has it not is passed over.
pub(crate) fn able<T>(ability: Ability, outcome: Result<T, String>) -> Option<T> {
    outcome.inspect_err(|error| pass_over(ability, error)).ok()
}
