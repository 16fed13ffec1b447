//! The network of a run: real gRPC over simulated TCP.
//!
//! - Nothing that is lost is sent again, as TCP would: whoever waits must have a deadline, and probe its connections.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use hyper_util::rt::TokioIo;
use raft::{DialError, Dialer, Lane, MemberId, Node};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tonic::{
    codegen::http::Uri,
    service::Routes,
    transport::{Channel, Endpoint, Server, server::Connected},
};
use turmoil::net::{TcpListener, TcpStream};

/// Where members speak to each other.
pub(crate) const PEER_PORT: u16 = 2380;
/// Where clients speak to them.
pub(crate) const CLIENT_PORT: u16 = 2379;
/// How often a silent connection of a client is probed, and how long it may take to answer.
const PROBE: Duration = Duration::from_millis(800);

/// The way from one member to the others.
pub(crate) struct Dial(pub(crate) raft::Config);

impl Dialer for Dial {
    fn dial(&self, _member: MemberId, node: &Node, _lane: Lane) -> Result<Channel, DialError> {
        let url: Uri = node.peer_urls.first().ok_or("the member has told no address yet")?.parse()?;
        let host = url.host().ok_or("an address without a host")?;
        let limit = self.0.election_timeout;
        Ok(channel(&raft::tune(Endpoint::from_static("http://member"), &self.0), host, PEER_PORT, limit))
    }
}

/// A client's channel to a member.
pub(crate) fn client_channel(host: &str, connect_timeout: Duration) -> Channel {
    let endpoint = Endpoint::from_static("http://member").http2_keep_alive_interval(PROBE).keep_alive_timeout(PROBE);
    channel(&endpoint.keep_alive_while_idle(true), host, CLIENT_PORT, connect_timeout)
}

fn channel(endpoint: &Endpoint, host: &str, port: u16, limit: Duration) -> Channel {
    let host: Arc<str> = host.into();
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_name: Uri| {
        let host = Arc::clone(&host);
        async move {
            let connecting = TcpStream::connect((host.to_string(), port));
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            timeout(limit, connecting).await.map_err(late)?.map(TokioIo::new)
        }
    }))
}

/// Serves until its task ends.
pub(crate) async fn serve(port: u16, routes: Routes) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let mut server = Server::builder().http2_keepalive_interval(Some(PROBE)).http2_keepalive_timeout(Some(PROBE));
    Ok(server.add_routes(routes).serve_with_incoming(incoming(listener)).await?)
}

fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Accepted>> {
    stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
        Some((accepted, listener))
    })
}

/// A connection that a member has accepted.
struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
