//! Programs that are run to their end, and servers of either kind.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use proto::etcdserverpb::{RangeRequest, kv_client::KvClient};
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{MESHSTORE, Process, eventually, free_port, tools};

/// The binary under test.
pub(crate) fn meshstore() -> &'static str {
    MESHSTORE
}

/// Where `scripts/setup.sh test` puts a program of etcd's, if it does; else it is one of the system's.
fn installed(name: &str) -> PathBuf {
    Some(tools().join(name)).filter(|path| path.exists()).unwrap_or_else(|| name.into())
}

/// Runs a program to its end.
pub(crate) async fn program(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(installed(name));
    let output = command.args(arguments).env("ETCDCTL_API", "3").output().await;
    output.unwrap_or_else(|error| panic!("{name}: {error}: run scripts/setup.sh test"))
}

/// Runs a program that is to succeed.
pub(crate) async fn run(name: &str, arguments: &[&str]) -> Output {
    let output = program(name, arguments).await;
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
    output
}

/// A running server, ours or etcd's.
pub(crate) struct Store {
    _process: Process,
    listen: SocketAddr,
    channel: Channel,
}

impl Store {
    pub(crate) async fn etcd(folder: &Path, data: &str, listen: SocketAddr, peer: &str) -> Self {
        let (url, cluster) = (format!("http://{listen}"), format!("default={peer}"));
        let peers = ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", &cluster];
        let clients = ["--data-dir", data, "--listen-client-urls", &url, "--advertise-client-urls", &url];
        Self::start(folder, installed("etcd"), &[&clients[..], &peers].concat(), listen).await
    }

    pub(crate) async fn meshstore(folder: &Path, data: &str, listen: SocketAddr) -> Self {
        let (url, mesh) = (format!("http://{listen}"), free_port().to_string());
        let clients = ["server", "--data-dir", data, "--listen-client-urls", &url, "--advertise-client-urls", &url];
        Self::start(folder, MESHSTORE, &[&clients[..], &["--listen-mesh-addr", &mesh]].concat(), listen).await
    }

    /// Returns when it answers a linearizable read.
    async fn start(folder: &Path, program: impl AsRef<OsStr>, arguments: &[&str], listen: SocketAddr) -> Self {
        let process = Process::start(&format!("server-{}", listen.port()), program, arguments, folder);
        let channel = Endpoint::from_shared(format!("http://{listen}")).unwrap().connect_lazy();
        let read = || async {
            let request = RangeRequest { key: "a".into(), ..RangeRequest::default() };
            KvClient::new(channel.clone()).range(request).await.ok()
        };
        eventually("an answer of the server", read).await;
        Self { _process: process, listen, channel }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.listen.to_string()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// How many keys it has.
    pub(crate) async fn count(&self) -> i64 {
        let all =
            RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only: true, ..Default::default() };
        KvClient::new(self.channel()).range(all).await.unwrap().into_inner().count
    }
}
