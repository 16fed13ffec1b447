//! Runs of seeds, each in a process of its own.

use std::{
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A run that has ended.
pub(crate) struct Ran {
    pub(crate) passed: bool,
    /// What it said on standard output.
    pub(crate) said: String,
}

/// Runs a seed, with a bug or without. What it logs goes to standard error.
pub(crate) fn run(seed: u64, bug: Option<&str>, log: Option<&str>) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshstore-sim"));
    command.arg(seed.to_string()).args(bug).env_remove("RUST_LOG");
    if let Some(log) = log {
        command.env("RUST_LOG", log).stderr(std::process::Stdio::inherit());
    }
    let output = command.output().expect("the simulation is built with its tests");
    let mut said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if !output.status.success() && log.is_none() {
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    Ran { passed: output.status.success(), said }
}

/// Does it for each, as many at once as there are cores; gives the results in order.
pub(crate) fn in_parallel<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = all.get(at) else { return };
                    let result = work(one);
                    done.lock().expect("no panic").push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
