//! Plain TCP: bytes both ways.
//!
//! - Each side may close its half; the other goes on until it has said all.
//! - A connection without a byte in either direction for the idle time is closed.

mod metered;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use self::metered::{Meter, Metered};
use crate::{
    config::TcpConfig,
    http::{Flags, Peer},
    telemetry::TcpKey,
    upstream::{Cluster, ConnectFailure, Io, Resource},
    worker::Shared,
};

/// Why nothing was connected.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no such cluster")]
    NoCluster,
    #[error("no healthy upstream")]
    NoHealthy,
    #[error("too many connections")]
    Overflow,
    #[error(transparent)]
    Connect(#[from] ConnectFailure),
}

impl Failure {
    fn flags(&self) -> Flags {
        match self {
            Self::NoCluster => Flags::NO_CLUSTER,
            Self::NoHealthy => Flags::NO_HEALTHY,
            Self::Overflow => Flags::OVERFLOW,
            Self::Connect(_) => Flags::CONNECT,
        }
    }
}

/// Joins a client's connection to an endpoint of the filter's cluster, until both have closed.
pub(crate) async fn serve(
    shared: &Shared,
    worker: usize,
    config: &TcpConfig,
    peer: Peer,
    drain: CancellationToken,
    client: Io,
) {
    let name = config.target();
    let cluster = shared.snapshot.load().clusters.get(name).cloned();
    let mut key = TcpKey {
        direction: config.direction,
        source: peer.party,
        destination: cluster.as_ref().map(|cluster| cluster.party).unwrap_or_default(),
        flags: Flags::default(),
    };
    let joined = match cluster {
        Some(cluster) => join(shared, worker, config, &cluster, &mut key, drain, client).await,
        None => Err(Failure::NoCluster),
    };
    if let Err(failure) = joined {
        key.flags = failure.flags();
        shared.telemetry.tcp_opened(worker, key);
        shared.telemetry.tcp_closed(worker, key);
        tracing::debug!(cluster = %name, peer = %peer.address, error = %failure, "connection not forwarded");
    }
}

async fn join(
    shared: &Shared,
    worker: usize,
    config: &TcpConfig,
    cluster: &Arc<Cluster>,
    key: &mut TcpKey,
    drain: CancellationToken,
    client: Io,
) -> Result<(), Failure> {
    let limit = cluster.config.thresholds.connections;
    let _permit = cluster.breakers.acquire(Resource::Connections, limit).ok_or(Failure::Overflow)?;
    let endpoint = cluster.balancer.pick(Instant::now(), |_| false).ok_or(Failure::NoHealthy)?.clone();
    let _busy = endpoint.busy();
    let connected = endpoint.connect().await.inspect_err(|_| cluster.note_failure(&endpoint))?;
    key.destination = endpoint.party(connected.peer.map(|peer| peer.to_string()));
    shared.telemetry.tcp_opened(worker, *key);
    let idle = config.idle_timeout.unwrap_or(shared.limits.tcp_idle_timeout);
    let meter = Arc::new(Meter::default());
    let mut client = Metered::client(client, meter.clone());
    let mut upstream = Metered::endpoint(connected.io, meter.clone());
    tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {
            if let Err(error) = copied {
                tracing::debug!(cluster = %cluster.config.name, %error, "connection ended");
            }
        }
        () = meter.idle(idle) => {}
        () = overdue(&drain, shared.limits.drain) => {}
    }
    let (received, sent) = meter.bytes();
    shared.telemetry.tcp_bytes(worker, *key, received, sent);
    shared.telemetry.tcp_closed(worker, *key);
    Ok(())
}

/// TCP has no way to ask a client to finish: a connection that should end gets the drain time.
async fn overdue(drain: &CancellationToken, limit: Duration) {
    drain.cancelled().await;
    tokio::time::sleep(limit).await;
}
