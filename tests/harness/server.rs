//! One member, alone: `meshstore server` on free ports, with its data in a temporary folder.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{MESHSTORE, Process, eventually, free_port, listening};

/// A program to run in the server's place, with etcd's flags. With etcd's own binary it shows that a test expects of us
/// what etcd does: `MESHSTORE_TEST_ETCD=/usr/bin/etcd cargo test --test end_to_end etcdctl`.
const PEER: &str = "MESHSTORE_TEST_ETCD";

pub(crate) struct Server {
    process: Process,
    folder: TempDir,
    etcd: SocketAddr,
    mesh: SocketAddr,
    flags: Vec<String>,
}

impl Server {
    /// Starts one on no data; returns when it takes connections.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with more flags.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
        let (etcd, mesh) = (free_port(), free_port());
        let process = run(folder.path(), etcd, mesh, &flags);
        listening(etcd).await;
        Self { process, folder, etcd, mesh, flags }
    }

    /// SIGTERM; it ends in its own time.
    pub(crate) fn terminate(&self) {
        self.process.terminate();
    }

    /// How it ended, once it has.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let process = std::sync::Mutex::new(&mut self.process);
        let ended = eventually("the server ends", || async { process.lock().unwrap().ended() }).await;
        ended.code()
    }

    /// SIGKILL, then a new process on the same data; returns when it takes connections.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.process.kill();
        self.process = run(self.folder.path(), self.etcd, self.mesh, &self.flags);
        listening(self.etcd).await;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything that it printed since it was started last.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// A file of its data directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Where it speaks etcd v3.
    pub(crate) fn endpoint(&self) -> String {
        self.etcd.to_string()
    }
}

fn run(folder: &Path, etcd: SocketAddr, mesh: SocketAddr, flags: &[String]) -> Process {
    let url = format!("http://{etcd}");
    let data = folder.join("data");
    let data = data.to_str().unwrap();
    let common = ["--data-dir", data, "--listen-client-urls", &url, "--advertise-client-urls", &url];
    let common = common.into_iter().chain(flags.iter().map(String::as_str));
    if let Ok(peer) = env::var(PEER) {
        let peer_url = format!("http://{mesh}");
        let own = ["--listen-peer-urls", peer_url.as_str()];
        return Process::start("server", peer, common.chain(own), folder);
    }
    let mesh = mesh.to_string();
    let own = ["--listen-mesh-addr", mesh.as_str()];
    Process::start("server", MESHSTORE, ["server"].into_iter().chain(common).chain(own), folder)
}
