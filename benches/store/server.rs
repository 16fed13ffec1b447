//! The servers that are compared, as processes of their own.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use client::{Client, Config, Get};
use tempfile::TempDir;

/// A running server on no data; killed when dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) endpoint: String,
    process: Child,
    _folder: TempDir,
}

impl Server {
    pub(crate) async fn meshstore() -> anyhow::Result<Self> {
        Self::start("meshstore", env!("CARGO_BIN_EXE_meshstore"), &["server"], "--listen-mesh-addr", "").await
    }

    pub(crate) async fn etcd(program: &str) -> anyhow::Result<Self> {
        Self::start("etcd", program, &[], "--listen-peer-urls", "http://").await
    }

    async fn start(name: &'static str, program: &str, verb: &[&str], own: &str, scheme: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (endpoint, other) = (free_address()?, free_address()?);
        let url = format!("http://{endpoint}");
        let log = fs::File::create(folder.path().join("log"))?;
        let process = Command::new(program)
            .args(verb)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, own, &format!("{scheme}{other}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let server = Self { name, endpoint, process, _folder: folder };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let client = self.client()?;
        for _ in 0..100 {
            if client.get(Get::key("ready")).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{} did not answer within 10 s", self.name)
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(&Config::new([self.endpoint.clone()]))?)
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

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
