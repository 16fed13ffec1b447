//! One delta ADS stream, from its first request to its end.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::stream;
use proto::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    google::rpc::Status as WireStatus,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::Client;
use crate::config::Kind;

/// Requests on their way to the server. A server that does not read so many has failed, and the stream ends.
const REQUESTS_QUEUE: usize = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Code of a refusal. Source: `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;
/// Longest text of a refusal, bytes.
const REASON_BYTES_MAX: usize = 4_096;

/// How the server is reached.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: tls::Connector,
    pub(crate) node: Node,
    pub(crate) message_bytes_max: usize,
}

/// Why a stream ended. Another attempt may succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error("cannot connect: {0:?}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{0}")]
    Status(#[from] tonic::Status),
    #[error("the server closed the stream")]
    Closed,
    #[error("the server does not read its requests")]
    Stuck,
}

/// Runs one stream; `Ok` when told to stop.
pub(super) async fn run(client: &mut Client, server: &Server, stop: &CancellationToken) -> Result<(), SessionEnd> {
    let connect = server.endpoint.connect_with_connector(server.connector.clone());
    let Some(channel) = client.meanwhile(connect, stop).await else { return Ok(()) };
    let mut api =
        AggregatedDiscoveryServiceClient::new(channel? as Channel).max_decoding_message_size(server.message_bytes_max);
    let (requests, mut queue) = mpsc::channel(REQUESTS_QUEUE);
    let mut session = Session { requests, node: Some(server.node.clone()), subscribed: BTreeMap::new() };
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_wildcard()) {
        session.send(DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            initial_resource_versions: client.resources.versions(kind),
            ..DeltaDiscoveryRequest::default()
        })?;
        session.subscribe(client, false)?;
    }
    let outgoing = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let opened = api.delta_aggregated_resources(outgoing);
    let Some(opened) = client.meanwhile(opened, stop).await else { return Ok(()) };
    let mut responses = opened?.into_inner();
    client.shared.telemetry.gauges.xds_connected.set(true);
    tracing::info!("configuration stream open");
    while let Some(response) = client.meanwhile(responses.message(), stop).await {
        session.answer(client, response?.ok_or(SessionEnd::Closed)?)?;
    }
    Ok(())
}

/// The settings of every connection to the server.
pub(crate) fn endpoint(address: std::net::SocketAddr) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("https://{address}"))?
        .connect_timeout(Duration::from_secs(10))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

struct Session {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    /// Told once, in the first request.
    node: Option<Node>,
    /// Names subscribed to, of the kinds that are not taken whole.
    subscribed: BTreeMap<Kind, HashSet<Arc<str>>>,
}

impl Session {
    fn send(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), SessionEnd> {
        request.node = self.node.take();
        self.requests.try_send(request).map_err(|_| SessionEnd::Stuck)
    }

    /// Applies a response and says what became of it.
    fn answer(&mut self, client: &mut Client, response: DeltaDiscoveryResponse) -> Result<(), SessionEnd> {
        let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
        let refused = match Kind::of_type_url(&type_url) {
            Some(kind) => apply(client, kind, response),
            None => vec![format!("type {type_url:?} was not asked for")],
        };
        client.publish();
        self.subscribe(client, true)?;
        let error_detail = (!refused.is_empty()).then(|| {
            let mut message = refused.join("; ");
            message.truncate(message.floor_char_boundary(REASON_BYTES_MAX));
            tracing::warn!(type_url, error = message, "configuration refused in part");
            WireStatus { code: INVALID_ARGUMENT, message, ..WireStatus::default() }
        });
        self.send(DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// Subscribes to what accepted resources need, and unsubscribes from what they need no more.
    fn subscribe(&mut self, client: &mut Client, may_forget: bool) -> Result<(), SessionEnd> {
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_wildcard()) {
            let wanted = client.book.wanted(kind);
            let subscribed = self.subscribed.entry(kind).or_default();
            let first = subscribed.is_empty();
            let add: Vec<String> = wanted.difference(subscribed).map(ToString::to_string).collect();
            let drop: Vec<String> = subscribed.difference(&wanted).map(ToString::to_string).collect();
            *subscribed = wanted;
            if add.is_empty() && drop.is_empty() {
                continue;
            }
            if may_forget {
                for name in &drop {
                    client.book.remove(kind, name);
                    client.resources.remove(kind, name);
                }
            }
            let mut versions = client.resources.versions(kind);
            versions.retain(|name, _| first && add.contains(name));
            self.send(DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: add,
                resource_names_unsubscribe: drop,
                initial_resource_versions: versions,
                ..DeltaDiscoveryRequest::default()
            })?;
        }
        Ok(())
    }
}

/// Applies what can be applied; returns what was refused, and why.
fn apply(client: &mut Client, kind: Kind, response: DeltaDiscoveryResponse) -> Vec<String> {
    let mut refused = Vec::new();
    let gauges = &client.shared.telemetry.clone().gauges;
    for resource in response.resources {
        // Without content a resource is a sign of life.
        let Some(any) = resource.resource else { continue };
        match client.accept(kind, &resource.name, &resource.version, any) {
            Ok(()) => gauges.xds_accepted.add(),
            Err(error) => {
                gauges.xds_rejected.add();
                refused.push(format!("{}: {error}", resource.name));
            }
        }
    }
    for name in response.removed_resources {
        client.remove(kind, &name);
    }
    refused
}
