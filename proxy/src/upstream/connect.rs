//! Connections to endpoints, plain or mutually authenticated.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsStream;
use types::SpiffeId;

use super::Endpoint;
use crate::config::{Keepalive, Transport};

/// Why no connection was made; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("connection timeout")]
    Timeout,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("TLS_error: {0}")]
    Tls(io::Error),
    #[error("the peer shows no identity: {0}")]
    Peer(#[from] tls::PeerError),
    #[error("HTTP handshake: {0}")]
    Http(hyper::Error),
}

/// A byte stream to a client or an endpoint.
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A new connection and what its handshake told.
pub(crate) struct Connected {
    pub(crate) io: Io,
    pub(crate) peer: Option<SpiffeId>,
}

impl Endpoint {
    /// Opens a connection within the connect timeout, TLS included.
    pub(crate) async fn connect(&self) -> Result<Connected, ConnectFailure> {
        let connected = timeout(self.spec.key.connect_timeout, self.handshake()).await;
        connected.map_err(|_| ConnectFailure::Timeout)?
    }

    async fn handshake(&self) -> Result<Connected, ConnectFailure> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        if let Some(keepalive) = &self.spec.key.keepalive {
            keep_alive(&tcp, keepalive)?;
        }
        let Some((connector, name)) = &self.spec.tls else {
            return Ok(Connected { io: Io::Plain(tcp), peer: None });
        };
        let tls = connector.connect(name.clone(), tcp).await.map_err(ConnectFailure::Tls)?;
        let peer = tls::peer_id(tls.get_ref().1.peer_certificates().unwrap_or_default())?;
        if let Transport::Tls(context) = &self.spec.key.transport
            && !context.peers.accept(&peer)
        {
            return Err(tls::PeerError::Unexpected(peer).into());
        }
        Ok(Connected { io: Io::Tls(Box::new(tls.into())), peer: Some(peer) })
    }
}

/// Has the system probe a connection that is silent.
fn keep_alive(tcp: &TcpStream, keepalive: &Keepalive) -> io::Result<()> {
    let mut wanted = TcpKeepalive::new();
    if let Some(idle) = keepalive.idle {
        wanted = wanted.with_time(idle);
    }
    if let Some(interval) = keepalive.interval {
        wanted = wanted.with_interval(interval);
    }
    if let Some(probes) = keepalive.probes {
        wanted = wanted.with_retries(probes);
    }
    SockRef::from(tcp).set_tcp_keepalive(&wanted)
}

impl Io {
    /// Whether HTTP/2 was agreed by ALPN.
    pub(crate) fn negotiated_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

macro_rules! either {
    ($self:expr, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Io::Plain($io) => $call,
            Io::Tls($io) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_socket_has_the_keepalive_that_it_was_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let tcp = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("a connection");
        let socket = SockRef::from(&tcp);
        assert!(!socket.keepalive().expect("readable"));
        let usual = socket.tcp_keepalive_interval().expect("readable");
        let keepalive = Keepalive { probes: Some(4), idle: Some(Duration::from_secs(30)), interval: None };
        keep_alive(&tcp, &keepalive).expect("set");
        assert!(socket.keepalive().expect("readable"));
        assert_eq!(socket.tcp_keepalive_time().expect("readable"), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_retries().expect("readable"), 4);
        assert_eq!(socket.tcp_keepalive_interval().expect("readable"), usual);
    }
}
