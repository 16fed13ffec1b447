//! One member, alone: `meshstore server` on free ports, with its data in a temporary folder.

use std::{env, net::SocketAddr, path::Path};

use tempfile::TempDir;

use super::{MESHSTORE, Process, free_port, listening};

/// A program to run in the server's place, with etcd's flags. With etcd's own binary it shows that a test expects of us
/// what etcd does: `MESHSTORE_TEST_ETCD=/usr/bin/etcd cargo test --test end_to_end etcdctl`.
const PEER: &str = "MESHSTORE_TEST_ETCD";

pub(crate) struct Server {
    process: Process,
    folder: TempDir,
    etcd: SocketAddr,
    mesh: SocketAddr,
}

impl Server {
    /// Starts one on no data; returns when it takes connections.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (etcd, mesh) = (free_port(), free_port());
        let process = run(folder.path(), etcd, mesh);
        listening(etcd).await;
        Self { process, folder, etcd, mesh }
    }

    /// SIGKILL, then a new process on the same data; returns when it takes connections.
    pub(crate) async fn crash_and_restart(&mut self) {
        self.process.kill();
        self.process = run(self.folder.path(), self.etcd, self.mesh);
        listening(self.etcd).await;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Where it speaks etcd v3.
    pub(crate) fn endpoint(&self) -> String {
        self.etcd.to_string()
    }
}

fn run(folder: &Path, etcd: SocketAddr, mesh: SocketAddr) -> Process {
    let url = format!("http://{etcd}");
    let data = folder.join("data");
    let data = data.to_str().unwrap();
    let common = ["--data-dir", data, "--listen-client-urls", &url, "--advertise-client-urls", &url];
    if let Ok(peer) = env::var(PEER) {
        let peer_url = format!("http://{mesh}");
        let own = ["--listen-peer-urls", peer_url.as_str()];
        return Process::start("server", peer, common.into_iter().chain(own), folder);
    }
    let mesh = mesh.to_string();
    let own = ["--listen-mesh-addr", mesh.as_str()];
    Process::start("server", MESHSTORE, ["server"].into_iter().chain(common).chain(own), folder)
}
