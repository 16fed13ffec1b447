//! Faults of system calls, by strace.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    harness::{Ability, eventually, pass_over},
    machine::{able, run},
};

/// Whether strace is here; if not, that is said.
pub(crate) fn has_strace() -> bool {
    let found = run("strace", &["--version"]).map_err(|error| format!("{error}; `scripts/setup.sh test` installs it"));
    able(Ability::STRACE, found).is_some()
}

/// The command under which a program is killed when it syncs for the `n`th time. The program is this process's own child.
pub(crate) fn killed_at_sync(n: u32) -> [String; 8] {
    let when = format!("inject=fdatasync:signal=KILL:when={n}");
    ["strace", "-D", "-f", "-qq", "-o/dev/null", "-etrace=fdatasync", "-e", &when].map(str::to_owned)
}

/// Something is done to each sync of a process from now on, until this is dropped.
pub(crate) struct Syncs(Child);

impl Syncs {
    /// They fail with an error, by its name. `None` where strace is not here or may not attach, which is said.
    pub(crate) async fn fail(process: u32, error: &str) -> Option<Self> {
        Self::inject(&format!("error={error}"), process).await
    }

    /// Each takes so much longer.
    pub(crate) async fn stall(process: u32, longer: Duration) -> Option<Self> {
        Self::inject(&format!("delay_enter={}", longer.as_micros()), process).await
    }

    async fn inject(fault: &str, process: u32) -> Option<Self> {
        if !has_strace() {
            return None;
        }
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", "trace=fdatasync,fsync", "-e", &format!("inject=fdatasync,fsync:{fault}")]);
        command.args(["-p", &process.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tracing = Self(child);
        let traced = || async { is_traced(process).then_some(()) };
        let attached = tokio::time::timeout(Duration::from_mins(1), eventually("strace attaches", traced)).await;
        if attached.is_err() {
            pass_over(Ability::STRACE, "it cannot attach to a process here");
        }
        attached.is_ok().then_some(tracing)
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether all threads of a process are traced.
fn is_traced(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}
