//! The xDS face: aggregated discovery, delta and state of the world.
//!
//! Owns: one state machine a stream, and what is known of each connected proxy.
//! In:   compiled revisions; requests of proxies that proved who they are.
//! Out:  responses, made when the transport asks for one: a stream has no queue and no task of its own.
//!
//! - A proxy is configured only as the namespace and account of its certificate.
//! - A slow proxy delays nobody: when it can take more, it gets the newest revision.

mod registry;
mod session;
mod stream;
mod wire;

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::AggregatedDiscoveryService,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{compile::Compiled, peer};

pub(crate) use registry::{ProxyStatus, Registry};
#[cfg(any(test, feature = "fuzzing"))]
pub use session::fuzzing::discovery;
pub(crate) use session::{Progress, Protocol};

/// The aggregated discovery service. Source: Envoy's xDS protocol, v3.
#[derive(Clone, Debug)]
pub struct Ads {
    compiled: watch::Receiver<Option<Arc<Compiled>>>,
    registry: Registry,
    stop: CancellationToken,
}

impl Ads {
    pub(crate) fn new(
        compiled: watch::Receiver<Option<Arc<Compiled>>>,
        registry: Registry,
        stop: CancellationToken,
    ) -> Self {
        Self { compiled, registry, stop }
    }

    fn open<F: wire::Flavor>(&self, request: Request<Streaming<F::Request>>) -> Result<Responses<F::Response>, Status> {
        let peer = peer::identity(&request)?;
        let source = stream::Source { compiled: self.compiled.clone(), stop: self.stop.clone() };
        let entry = self.registry.enter(peer.clone(), F::PROTOCOL);
        Ok(Box::pin(stream::responses::<F>(request.into_inner(), peer, source, entry)))
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<wire::StateOfTheWorld>(request).map(Response::new)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<wire::Delta>(request).map(Response::new)
    }
}

#[cfg(test)]
mod tests;
