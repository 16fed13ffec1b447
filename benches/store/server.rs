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

use super::client::Client;

/// The name of the server that keeps nothing.
pub(crate) const ECHO: &str = "echo";

/// A running server on no data; killed when dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) endpoint: String,
    process: Child,
    _folder: TempDir,
}

impl Server {
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
        let server = Self { name, endpoint, process, _folder: folder };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        for _ in 0..100 {
            if let Ok(client) = Client::connect(&self.endpoint).await
                && client.put(0).await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{} did not answer within 10 s", self.name)
    }

    /// The processor time that the server has used so far. Source: proc(5), `stat`, fields 14 and 15, in ticks of 10 ms.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no command in stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}

fn listening(mut command: Command, endpoint: &str) -> Command {
    let url = format!("http://{endpoint}");
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    command
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
