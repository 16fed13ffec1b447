//! The processes of the demo: this same binary, once per role.
//!
//! Owns: each child, its lifeline (see [`lifeline`]) and its log file.
//!
//! - A child runs in a process group of its own, so that Ctrl-C reaches the demo alone, which then stops its children
//!   in order.
//! - Whatever becomes of the demo, no child outlives it by more than its own orderly stop.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use super::lifeline;

/// How long an orderly stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How much of a log is shown when its process failed, bytes.
const TAIL_BYTES: u64 = 2_000;

/// What to run, and what to call it: a role of this binary, as its command line has it.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// Names the log file, and the process in messages.
    pub(crate) name: String,
    /// Arguments after the program's name.
    pub(crate) arguments: Vec<OsString>,
}

impl Role {
    fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
        command.args(&self.arguments);
        Ok(command)
    }

    /// Runs to the end and returns what was printed; an exit status other than 0 is an error that quotes stderr.
    pub(crate) async fn run(&self) -> anyhow::Result<String> {
        let mut command = self.command()?;
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("cannot run {}", self.name))?;
        if !output.status.success() {
            bail!("{} failed: {}", self.name, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    /// Never written to: its closing, when this process ends, tells the child to stop.
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// Starts `role`; its output is appended to `LOGS/NAME.log`.
    pub(crate) fn start(role: &Role, logs: &Path) -> anyhow::Result<Self> {
        let log = logs.join(format!("{}.log", role.name));
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = role.command()?;
        command
            .env(lifeline::VARIABLE, lifeline::STDIN)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", role.name))?;
        // `Child::wait` would close it.
        let lifeline = child.stdin.take();
        Ok(Self { name: role.name.clone(), log, child, _lifeline: lifeline })
    }

    /// What its role calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it ends; dropping the future loses nothing.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("cannot wait for {}", self.name))
    }

    /// SIGTERM, and waits for the end; kills when that takes too long.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // An error means that it has ended by itself, which is what was asked for.
            let _ = kill_process(id, Signal::TERM);
        }
        match tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => self.kill().await,
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }

    /// The end of its log, for a message about its failure.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
