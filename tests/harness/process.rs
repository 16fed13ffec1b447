//! One child process: killed when dropped, and its log shown when the test failed.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use rustix::process::{Pid, Signal};

/// How much of the log a failed test shows, bytes.
const TAIL_BYTES: usize = 4_000;

pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output goes to `FOLDER/NAME.log`, from its beginning.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
        folder: &Path,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let mut command = Command::new(program.as_ref());
        command.args(arguments).stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { child, log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends it a signal; one that has ended by itself gets none.
    pub(crate) fn signal(&self, signal: Signal) {
        // A child that nobody has waited for is still there to be signalled.
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Everything it printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let start = log.floor_char_boundary(log.len().saturating_sub(TAIL_BYTES));
            eprintln!("---- {} ends:\n{}", self.log.display(), &log[start..]);
        }
    }
}
