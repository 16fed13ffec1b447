//! One server at a time, as a process of its own.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::Client;

/// How long a server may take to answer at first.
const START_MAX: Duration = Duration::from_mins(5);
/// More than any question stores.
const QUOTA_BYTES: &str = "17179869184";

/// Which server.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    Etcd(String),
    Meshstore(String),
}

impl Program {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Meshstore(_) => "meshstore",
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        let (Self::Etcd(path) | Self::Meshstore(path)) = self;
        let version = Command::new(path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    }

    fn command(&self, address: &str, other: &str, data: &Path) -> Command {
        let mut command = match self {
            Self::Etcd(path) => {
                let mut command = Command::new(path);
                let url = format!("http://{other}");
                command.args(["--listen-peer-urls", &url, "--initial-advertise-peer-urls", &url]);
                command.args(["--initial-cluster", &format!("default={url}"), "--log-level", "error"]);
                command
            }
            Self::Meshstore(path) => {
                let mut command = Command::new(path);
                command.args(["server", "--listen-mesh-addr", other]);
                command
            }
        };
        let url = format!("http://{address}");
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--quota-backend-bytes", QUOTA_BYTES]).arg("--data-dir").arg(data);
        command
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    program: Program,
    address: String,
    other: String,
    process: Child,
    folder: TempDir,
}

impl Server {
    /// Starts one on no data.
    pub(crate) async fn start(program: &Program) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (address, other) = (free_address()?, free_address()?);
        let process = run(program, &address, &other, folder.path())?;
        let server = Self { program: program.clone(), address, other, process, folder };
        server.client().await?;
        Ok(server)
    }

    /// SIGTERM, and a new process on the same data; how long that takes until it has answered a linearizable read.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<Duration> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        self.process.wait()?;
        let begun = Instant::now();
        self.process = run(&self.program, &self.address, &self.other, self.folder.path())?;
        self.client().await?;
        Ok(begun.elapsed())
    }

    /// A connection that has answered.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let begun = Instant::now();
        loop {
            if let Ok(client) = Client::connect(&self.address).await
                && client.get("probe").await.is_ok()
            {
                return Ok(client);
            }
            ensure!(begun.elapsed() < START_MAX, "{} does not answer: {}", self.program.name(), self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Resident memory, MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// Forgets the peak so far. Source: proc(5), `clear_refs`.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?)
    }

    /// The most resident memory since [`Server::forget_peak`], MiB.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
    }

    /// Disk that the data directory takes, MiB.
    pub(crate) fn disk_mib(&self) -> u64 {
        bytes_below(&self.folder.path().join("data")) >> 20
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}

fn run(program: &Program, address: &str, other: &str, folder: &Path) -> anyhow::Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    let mut command = program.command(address, other, &folder.join("data"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", program.name()))
}

/// Blocks that files take; what disappears meanwhile takes none.
fn bytes_below(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
