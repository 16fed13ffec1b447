//! The way to other members.
//!
//! - Each connection is made anew by what is trusted at that moment, and by the addressee's own name.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use raft::{DialError, Lane, MemberId, Node};
use tls::{ClientStream, Connector};
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use super::{
    security::PeerSecurity,
    traffic::{CountedStream, Traffic},
};

/// Connects to members.
#[derive(Clone)]
pub(crate) struct PeerDialer {
    security: PeerSecurity,
    config: Arc<raft::Config>,
    traffic: Arc<Traffic>,
}

impl PeerDialer {
    /// `config`: by which it is known how soon a dead connection is noticed.
    pub(crate) fn new(security: PeerSecurity, config: raft::Config, traffic: Arc<Traffic>) -> Self {
        Self { security, config: Arc::new(config), traffic }
    }

    /// A channel that connects when it is used, and again whenever it must: to the first of the addresses that answers,
    /// and to this member alone, or to any member if `None`.
    pub(crate) fn channel(&self, to: Option<MemberId>, addresses: &[String]) -> Channel {
        let addresses: Vec<Uri> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let traffic = Arc::clone(&self.traffic);
        let connector = PeerConnector { security: self.security.clone(), to, addresses, traffic };
        // The connector knows the addresses; the endpoint's is only the name under which HTTP asks.
        raft::tune(Endpoint::from_static("https://member"), &self.config).connect_with_connector_lazy(connector)
    }
}

impl fmt::Debug for PeerDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerDialer").field("security", &self.security).finish_non_exhaustive()
    }
}

impl raft::Dialer for PeerDialer {
    fn dial(&self, member: MemberId, node: &Node, _lane: Lane) -> Result<Channel, DialError> {
        if node.peer_urls.is_empty() {
            return Err("the member has told no peer address yet".into());
        }
        Ok(self.channel(Some(member), &node.peer_urls))
    }
}

/// Makes connections to one member.
#[derive(Clone)]
struct PeerConnector {
    security: PeerSecurity,
    to: Option<MemberId>,
    addresses: Vec<Uri>,
    traffic: Arc<Traffic>,
}

type Connected = TokioIo<CountedStream<ClientStream>>;
type Failed = Box<dyn Error + Send + Sync>;

impl PeerConnector {
    async fn connect(self) -> Result<Connected, Failed> {
        let mut connector = Connector::tls(self.security.client_config(self.to)?);
        let mut failed: Failed = "the member has no address".into();
        let counts = self.traffic.with(self.to.unwrap_or(MemberId(0)));
        for address in self.addresses {
            match connector.call(address).await {
                Ok(connected) => return Ok(TokioIo::new(CountedStream::new(connected.into_inner(), counts))),
                Err(error) => failed = error.into(),
            }
            counts.failures.fetch_add(1, Relaxed);
        }
        Err(failed)
    }
}

impl Service<Uri> for PeerConnector {
    type Response = Connected;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, Failed>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _name: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}
