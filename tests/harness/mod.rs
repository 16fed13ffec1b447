//! Starting and killing real processes; shared by the test programs, each of which uses a part.

mod ability;
pub(crate) mod certificates;
mod cluster;
mod mesh;
mod process;
mod server;

#[path = "../../src/demo/ports.rs"]
mod ports;

use std::{
    env,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::{LazyLock, Mutex},
    time::Duration,
};

pub(crate) use self::{
    ability::{Ability, pass_over},
    certificates::peer_certificates,
    cluster::Cluster,
    mesh::Mesh,
    process::Process,
    server::Server,
};

/// Longest wait for a condition.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often it is asked for.
const INTERVAL: Duration = Duration::from_millis(20);

/// The binary under test.
pub(crate) const MESHSTORE: &str = env!("CARGO_BIN_EXE_meshstore");

/// Where `scripts/setup.sh test` puts programs that are not ours.
pub(crate) fn tools() -> PathBuf {
    let cache = env::var_os("MESHSTORE_CACHE").map(PathBuf::from);
    cache.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap()).join(".cache/meshstore")).join("bin")
}

/// A free port of 127.0.0.1 that no other test was given.
pub(crate) fn free_port() -> SocketAddr {
    static PORTS: LazyLock<Mutex<ports::Ports>> = LazyLock::new(Mutex::default);
    PORTS.lock().unwrap().next().unwrap()
}

/// Asks until the answer is `Some`; `what` names the condition if that never happens.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, condition: impl Fn() -> F) -> T {
    let asked = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Waits until something listens at `address`.
pub(crate) async fn listening(address: SocketAddr) {
    let connected = || async { tokio::net::TcpStream::connect(address).await.ok() };
    eventually(&format!("listening on {address}"), connected).await;
}
