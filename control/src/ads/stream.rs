//! A stream: requests and revisions in, responses out, at the pace of the transport.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{Stream, stream};
use proto::envoy::config::core::v3::Node;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};
use types::SpiffeId;

use super::{
    registry::Entry,
    session::{Request, Session},
    wire::Flavor,
};
use crate::compile::{Compiled, Proxy, ResourceType};

/// Answers to types that are not served, waiting to be sent; a client that asks for more is cut off.
const UNKNOWN_MAX: usize = 64;
/// Longest rejection that is kept, bytes.
const REASON_BYTES_MAX: usize = 4096;

/// Where configurations come from, and when streams are to end.
pub(super) struct Source {
    pub(super) compiled: watch::Receiver<Option<Arc<Compiled>>>,
    pub(super) stop: CancellationToken,
}

/// The responses of one stream.
pub(super) fn responses<F: Flavor>(
    requests: Streaming<F::Request>,
    peer: SpiffeId,
    source: Source,
    entry: Entry,
) -> impl Stream<Item = Result<F::Response, Status>> + Send {
    let connection =
        Connection::<F> { requests, peer, source, entry, state: None, unknown: VecDeque::new(), unknowns: 0 };
    stream::unfold(Some(connection), |connection| async {
        let mut connection = connection?;
        match connection.response().await {
            Ok(Some(response)) => Some((Ok(response), Some(connection))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })
}

struct Connection<F: Flavor> {
    requests: Streaming<F::Request>,
    peer: SpiffeId,
    source: Source,
    entry: Entry,
    /// Known from the first request on, which carries the node.
    state: Option<(Proxy, Session)>,
    unknown: VecDeque<F::Response>,
    unknowns: u64,
}

impl<F: Flavor> Connection<F> {
    /// The next response; `None` ends the stream.
    async fn response(&mut self) -> Result<Option<F::Response>, Status> {
        loop {
            if let Some(response) = self.ready() {
                return Ok(Some(response));
            }
            let has_proxy = self.state.is_some();
            tokio::select! {
                () = self.source.stop.cancelled() => return Err(Status::unavailable("the server is stopping")),
                request = self.requests.message() => match request? {
                    Some(request) => self.request(request).await?,
                    None => return Ok(None),
                },
                changed = self.source.compiled.changed(), if has_proxy => {
                    changed.map_err(|_| Status::unavailable("the server is stopping"))?;
                    self.recompile();
                }
            }
        }
    }

    fn ready(&mut self) -> Option<F::Response> {
        if let Some(response) = self.unknown.pop_front() {
            return Some(response);
        }
        let (_, session) = self.state.as_mut()?;
        let response = session.next();
        self.entry.update(session.progress());
        let response = response?;
        debug!(revision = %response.revision, of = ?response.of, resources = response.resources.len(), "xds push");
        Some(F::write(response))
    }

    async fn request(&mut self, request: F::Request) -> Result<(), Status> {
        if self.state.is_none() {
            self.begin(F::node(&request)).await?;
        }
        let Some(of) = ResourceType::of_url(F::type_url(&request)) else { return self.unknown(request) };
        let mut request = F::read(request);
        if let Some(reason) = &mut request.error {
            truncate(reason);
            warn!(peer = %self.peer, of = ?of, %reason, "a proxy rejected its configuration");
        }
        self.take(of, request);
        Ok(())
    }

    fn take(&mut self, of: ResourceType, request: Request) {
        if let Some((_, session)) = &mut self.state {
            session.request(of, request);
        }
    }

    fn unknown(&mut self, request: F::Request) -> Result<(), Status> {
        self.unknowns += 1;
        if self.unknown.len() >= UNKNOWN_MAX {
            return Err(Status::resource_exhausted("too many requests for types that are not served"));
        }
        self.unknown.extend(F::unknown(request, format!("u{}", self.unknowns)));
        Ok(())
    }

    /// Reads who the proxy is, and makes its first configuration, waiting for the first revision if need be.
    async fn begin(&mut self, node: Option<&Node>) -> Result<(), Status> {
        let node = node.ok_or_else(|| Status::invalid_argument("the first request must carry the node"))?;
        let proxy = Proxy::of_node(node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let named = (self.peer.namespace().as_str(), self.peer.service_account().as_str());
        if named != (&*proxy.namespace, &*proxy.service_account) {
            let text = format!("the node is of {}/{}, its certificate is not", proxy.namespace, proxy.service_account);
            return Err(Status::permission_denied(text));
        }
        let compiled = self.source.compiled.wait_for(Option::is_some).await;
        let compiled = compiled.ok().and_then(|compiled| compiled.clone());
        let compiled = compiled.ok_or_else(|| Status::unavailable("the server is stopping"))?;
        self.source.compiled.mark_unchanged();
        info!(peer = %self.peer, node = %proxy.id, protocol = ?F::PROTOCOL, revision = %compiled.revision(), "proxy connected");
        self.entry.introduce(&proxy.id, &client_version(node));
        let config = Arc::new(compiled.for_proxy(&proxy, None));
        self.state = Some((proxy, Session::new(F::PROTOCOL, config)));
        Ok(())
    }

    fn recompile(&mut self) {
        let Some(compiled) = self.source.compiled.borrow_and_update().clone() else { return };
        if let Some((proxy, session)) = &mut self.state {
            let config = compiled.for_proxy(proxy, Some(session.config()));
            session.offer(Arc::new(config));
        }
    }
}

fn truncate(reason: &mut String) {
    if let Some((end, _)) = reason.char_indices().nth(REASON_BYTES_MAX / 4) {
        reason.truncate(end);
    }
}

/// What the client calls itself: `envoy/1.40.0`.
fn client_version(node: &Node) -> String {
    use proto::envoy::config::core::v3::node::UserAgentVersionType;
    let version = match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .as_ref()
            .map(|version| format!("{}.{}.{}", version.major_number, version.minor_number, version.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    format!("{}/{version}", node.user_agent_name)
}
