//! The servers that are compared, as processes of their own.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use tempfile::TempDir;

use super::{
    client::Client,
    cluster::{self, Cluster},
};

/// The name of the server that keeps nothing.
pub(crate) const ECHO: &str = "echo";

/// A running server, or a cluster of them, on no data; killed when dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    running: Running,
}

enum Running {
    One { endpoint: String, process: Child, _folder: TempDir },
    Three(Cluster),
}

impl Server {
    /// A cluster, measured as a whole.
    pub(crate) fn of(cluster: Cluster) -> Self {
        Self { name: cluster.name, running: Running::Three(cluster) }
    }

    /// Where to connect. A cluster is written to through all members alike, and read through those that do not lead; a
    /// member whose disk is slow is left alone.
    pub(crate) async fn endpoints(&self, is_reading: bool) -> anyhow::Result<Vec<String>> {
        match &self.running {
            Running::One { endpoint, .. } => Ok(vec![endpoint.clone()]),
            Running::Three(cluster) => {
                let leader = cluster.whole().await?;
                let asked = cluster.steady().filter(|at| !is_reading || *at != leader);
                Ok(asked.map(|at| cluster.endpoint(at)).collect())
            }
        }
    }

    pub(crate) async fn meshstore() -> anyhow::Result<Self> {
        Self::start("meshstore", |endpoint, other, data| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_meshstore"));
            command.arg("server").args(["--listen-mesh-addr", other]).arg("--data-dir").arg(data);
            listening(command, endpoint)
        })
        .await
    }

    pub(crate) async fn etcd(program: &str) -> anyhow::Result<Self> {
        Self::start("etcd", |endpoint, other, data| {
            let mut command = Command::new(program);
            command.args(["--listen-peer-urls", &format!("http://{other}")]).arg("--data-dir").arg(data);
            listening(command, endpoint)
        })
        .await
    }

    pub(crate) async fn echo() -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        Self::start(ECHO, |endpoint, _, _| {
            let mut command = Command::new(program);
            command.args(["--echo", endpoint]);
            command
        })
        .await
    }

    async fn start(name: &'static str, command: impl FnOnce(&str, &str, &Path) -> Command) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (endpoint, other) = (free_address()?, free_address()?);
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = command(&endpoint, &other, &folder.path().join("data"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        ready(name, &endpoint).await?;
        Ok(Self { name, running: Running::One { endpoint, process, _folder: folder } })
    }

    /// The processor time that was used so far, by all members.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        match &self.running {
            Running::One { process, .. } => cluster::cpu(process.id()),
            Running::Three(cluster) => cluster.cpu(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Running::One { process, .. } = &mut self.running
            && process.kill().is_ok()
        {
            drop(process.wait());
        }
    }
}

async fn ready(name: &str, endpoint: &str) -> anyhow::Result<()> {
    for _ in 0..100 {
        if let Ok(client) = Client::connect(endpoint).await
            && client.put(0).await.is_ok()
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{name} did not answer within 10 s")
}

fn listening(mut command: Command, endpoint: &str) -> Command {
    let url = format!("http://{endpoint}");
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
