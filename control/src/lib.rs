//! Control: stored configuration in, xDS out.
//!
//! Owns: the mesh model, what makes a configuration valid, its compilation to Envoy's types, the registry of workloads,
//! and the gRPC faces over them: aggregated discovery, the mesh API, workload registration.
//! In:   an etcd v3 client of the store, in this process or over the network.
//! Out:  [`Control`], whose services a server mounts on its mesh port.
//!
//! - Everything a proxy is sent is a pure function of a store revision and the proxy itself.
//! - Configuration enters by one door, validated as the whole that would result.
//! - Each face demands a certificate of the mesh; the listener in front of it need not.

mod ads;
mod api;
mod compile;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod mesh;
mod model;
mod peer;
mod source;
#[cfg(test)]
mod testing;
mod validate;
mod workloads;

use std::time::Duration;

use client::Client;
use proto::{
    envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer,
    mesh::{mesh_server::MeshServer, workloads_server::WorkloadsServer},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use types::TrustDomain;

pub use ads::Ads;
pub use api::MeshApi;
pub use workloads::Workloads;

/// Largest request that the mesh API reads, bytes: several sources of the largest size each.
const REQUEST_BYTES_MAX: usize = 32 << 20;

/// What the control plane is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trust domain of the identities that proxies are told to accept.
    pub trust_domain: TrustDomain,
    /// Most operations that the store takes in one transaction (its `--max-txn-ops`), and so the most resources that one
    /// call can change. etcd's default is 128.
    pub txn_ops_max: usize,
    /// How long a registered workload outlives the silence of its proxy; whole seconds. 10 s is usual.
    pub workload_ttl: Duration,
}

impl Config {
    /// The usual limits, for a trust domain.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, txn_ops_max: 128, workload_ttl: Duration::from_secs(10) }
    }
}

/// The control plane of one member: its services, and the task that follows the store for them.
#[derive(Debug)]
pub struct Control {
    ads: Ads,
    mesh: MeshApi,
    workloads: Workloads,
    stop: CancellationToken,
    follower: JoinHandle<()>,
}

impl Control {
    /// Starts following the store through `client`. Needs a tokio runtime; the store need not answer yet.
    pub fn start(client: Client, config: Config) -> Self {
        let Config { trust_domain, txn_ops_max, workload_ttl } = config;
        let (publish, compiled) = watch::channel(None);
        let (stop, registry) = (CancellationToken::new(), ads::Registry::default());
        let follower = tokio::spawn(source::follow(client.clone(), trust_domain, publish, stop.clone()));
        Self {
            ads: Ads::new(compiled, registry.clone(), stop.clone()),
            mesh: MeshApi::new(client.clone(), registry, txn_ops_max),
            workloads: Workloads::new(client, workload_ttl, stop.clone()),
            stop,
            follower,
        }
    }

    /// Envoy's aggregated discovery service, delta and state of the world. Callers show the certificate of their workload.
    pub fn ads(&self) -> AggregatedDiscoveryServiceServer<Ads> {
        AggregatedDiscoveryServiceServer::new(self.ads.clone())
    }

    /// The mesh API. Callers show the administrator's certificate.
    pub fn mesh(&self) -> MeshServer<MeshApi> {
        MeshServer::new(self.mesh.clone()).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// The registration of workloads. Callers show the certificate of their workload.
    pub fn workloads(&self) -> WorkloadsServer<Workloads> {
        WorkloadsServer::new(self.workloads.clone())
    }

    /// Ends all streams and the task behind them, and waits for it. Registered workloads stay for their leases.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.follower.await {
            tracing::error!(%error, "the task that follows the configuration failed");
        }
    }
}
