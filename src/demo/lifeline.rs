//! What ties a child process to the one that started it.
//!
//! Owns: the agreement between the two. The parent keeps the write end of a pipe to the child's standard input and
//! never writes. When the parent ends, in whatever way, `SIGKILL` included, the kernel closes the pipe; the child
//! reads the end of file and sends itself SIGTERM, so that it stops as it always does.
//!
//! - A process without [`VARIABLE`] in its environment is not concerned: standard input stays its own.
//! - The variable is for the child alone: its own children do not inherit an agreement that they have no pipe for,
//!   because their standard input is another.

use std::{io::Read, thread, time::Duration};

use rustix::process::{Signal, getpid, kill_process};

/// Environment variable that says: standard input is a lifeline.
pub(crate) const VARIABLE: &str = "MESHSTORE_LIFELINE";
/// Its only value.
pub(crate) const STDIN: &str = "stdin";
/// How long an orderly stop may take once the parent is gone; then the process ends at once.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Called first thing in `main`: ties this process to its parent if the parent asked for it.
pub(crate) fn hold() {
    if std::env::var(VARIABLE).is_ok_and(|value| value == STDIN) {
        thread::spawn(follow);
    }
}

fn follow() {
    let mut ignored = [0; 64];
    // An error means that the pipe is of no use any more, like its end.
    while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
    if kill_process(getpid(), Signal::TERM).is_ok() {
        thread::sleep(STOP_DEADLINE);
    }
    std::process::exit(1);
}
