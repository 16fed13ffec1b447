//! All running processes of the demo together.
//!
//! Owns: the processes, in the order of their start.
//!
//! - While the demo waits for anything else, it also watches them: one that ends by itself fails the demo at once, with
//!   the end of its log.
//! - The first one started is what the others stand on: the others stop first, together, then it.

use std::{future::Future, path::PathBuf};

use anyhow::{Context, anyhow};
use futures_util::future::{join_all, select_all};

use super::process::{Process, Role};

/// See the module.
#[derive(Debug)]
pub(crate) struct Fleet {
    logs: PathBuf,
    processes: Vec<Process>,
}

impl Fleet {
    /// `logs`: the folder of the log files.
    pub(crate) fn new(logs: PathBuf) -> Self {
        Self { logs, processes: Vec::new() }
    }

    /// Starts one more.
    pub(crate) fn start(&mut self, role: &Role) -> anyhow::Result<()> {
        self.processes.push(Process::start(role, &self.logs)?);
        Ok(())
    }

    /// Runs `work` to its end, or fails as soon as a process ends by itself.
    pub(crate) async fn watch<T>(&mut self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            done = work => done,
            failure = self.failure() => Err(failure),
        }
    }

    async fn failure(&mut self) -> anyhow::Error {
        if self.processes.is_empty() {
            return std::future::pending().await;
        }
        let ends = self.processes.iter_mut().map(|process| {
            Box::pin(async move {
                let status = process.ended().await;
                (process, status)
            })
        });
        let ((process, status), ..) = select_all(ends).await;
        match status {
            Ok(status) => {
                anyhow!("{} ended by itself ({status}); its log ends:\n{}", process.name(), process.log_tail())
            }
            Err(error) => error,
        }
    }

    /// Kills the first process, on which the others stand, without warning, as a crash would.
    pub(crate) async fn kill_first(&mut self) -> anyhow::Result<()> {
        self.processes.first_mut().context("nothing runs")?.kill().await
    }

    /// Starts a killed first process again.
    pub(crate) fn restart_first(&mut self, role: &Role) -> anyhow::Result<()> {
        let first = self.processes.first_mut().context("nothing runs")?;
        *first = Process::start(role, &self.logs)?;
        Ok(())
    }

    /// Stops them all; the first error is returned, after all were tried.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let Some((first, others)) = self.processes.split_first_mut() else {
            return Ok(());
        };
        let stopped = join_all(others.iter_mut().map(Process::stop)).await;
        let first = first.stop().await;
        stopped.into_iter().collect::<anyhow::Result<()>>().and(first)
    }
}
