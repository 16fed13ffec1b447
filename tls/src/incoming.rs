//! Incoming connections, handed over when their handshake is done.
//!
//! Owns: the listening socket, the handshakes under way, and the limits on both.
//!
//! - A peer that is slow, silent or not TLS costs one handshake slot until its deadline, and delays nobody else.
//! - A full server stops accepting, and the kernel pushes back.
//! - No error of `accept` ends the listener.
//! - Threads that share a listener accept in turn: see [`Turns`].
//! - Dropping it closes the socket and cuts handshakes under way; connections handed over live on.

mod turns;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream as AsyncStream;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::PollSemaphore;
use tracing::{debug, warn};

pub(crate) use self::turns::Taken;
pub use self::turns::{Turn, Turns};
use crate::{
    peer,
    stream::{Connection, Held, PeerInfo, Stream},
};

/// First and longest pause after `accept` failed for want of resources.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How a listener's connections are secured.
#[derive(Clone)]
pub enum Security {
    /// Not at all.
    Plain,
    /// As [`crate::server_config`] says: a certificate shown proves a SPIFFE ID.
    Mesh(Arc<ServerConfig>),
    /// As [`crate::web::server_config`] says: a certificate shown proves no SPIFFE ID, whatever names it carries.
    Web(Arc<ServerConfig>),
}

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once, handshakes included; more wait in the kernel's queue. Default 10 000.
    pub connections_max: usize,
    /// Handshakes under way at once. Default 1024.
    pub handshakes_max: usize,
    /// How long a handshake may take. Default 5 s.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: 10_000, handshakes_max: 1024, handshake_timeout: Duration::from_secs(5) }
    }
}

/// A stream, without end, of connections whose handshake is done, for tonic's `serve_with_incoming_shutdown`.
pub struct Incoming {
    listener: TcpListener,
    security: Security,
    limits: Limits,
    slots: PollSemaphore,
    /// Taken for the next connection, before it is there.
    slot: Option<OwnedSemaphorePermit>,
    /// If other threads accept from the same socket.
    turn: Option<Turn>,
    handshakes: JoinSet<Option<Connection>>,
    pause: Pause,
}

impl Incoming {
    /// Binds `addr`.
    pub async fn bind(addr: SocketAddr, security: Security, limits: Limits) -> io::Result<Self> {
        Ok(Self::new(TcpListener::bind(addr).await?, security, limits))
    }

    /// Serves a socket that listens already.
    pub fn new(listener: TcpListener, security: Security, limits: Limits) -> Self {
        let slots = PollSemaphore::new(Arc::new(Semaphore::new(limits.connections_max)));
        let (handshakes, pause) = (JoinSet::new(), Pause::default());
        Self { listener, security, limits, slots, slot: None, turn: None, handshakes, pause }
    }

    /// Accepts in turn with others, on the same socket.
    #[must_use]
    pub fn in_turn(self, turn: Turn) -> Self {
        Self { turn: Some(turn), ..self }
    }

    /// The address it listens at, its port known even if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for a slot and its turn, then for a connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Accepted> {
        if self.slot.is_none() {
            self.slot = ready!(self.slots.poll_acquire(cx));
        }
        loop {
            ready!(self.pause.poll(cx));
            if let Some(turn) = &self.turn {
                ready!(turn.poll(cx));
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((socket, addr)) => {
                    self.pause.reset();
                    let slot = self.slot.take().expect("taken above, and the semaphore is never closed");
                    let held = Held { _slot: slot, _turn: self.turn.as_ref().map(Turn::take) };
                    return Poll::Ready(Accepted { socket, addr, held });
                }
                Err(error) if is_of_one_connection(&error) => debug!(%error, "connection lost before it was accepted"),
                Err(error) => self.pause.begin(&error),
            }
        }
    }
}

impl AsyncStream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match this.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(connection)))) => return Poll::Ready(Some(Ok(connection))),
                Poll::Ready(Some(_failed)) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            if this.handshakes.len() >= this.limits.handshakes_max {
                return Poll::Pending; // the handshakes under way wake us
            }
            let accepted = ready!(this.poll_accept(cx));
            match &this.security {
                Security::Plain => return Poll::Ready(Some(Ok(accepted.plain()))),
                Security::Mesh(config) => {
                    this.handshakes.spawn(accepted.handshake(config.clone(), this.limits.handshake_timeout, true));
                }
                Security::Web(config) => {
                    this.handshakes.spawn(accepted.handshake(config.clone(), this.limits.handshake_timeout, false));
                }
            }
        }
    }
}

/// Errors that tell of the connection at hand, and not of the listener or the machine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Accepted {
    socket: TcpStream,
    addr: SocketAddr,
    held: Held,
}

impl Accepted {
    fn plain(self) -> Connection {
        let Self { socket, addr, held } = self.prepared();
        Connection {
            stream: Stream::Plain(socket),
            peer: PeerInfo { addr, spiffe_id: None, common_name: None },
            _held: held,
        }
    }

    async fn handshake(self, config: Arc<ServerConfig>, deadline: Duration, in_mesh: bool) -> Option<Connection> {
        let Self { socket, addr, held } = self.prepared();
        let tls = match timeout(deadline, TlsAcceptor::from(config).accept(socket)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                debug!(peer = %addr, %error, "TLS handshake failed");
                return None;
            }
            Err(_) => {
                debug!(peer = %addr, "TLS handshake timed out");
                return None;
            }
        };
        // The verifier has passed the chain, so that a certificate without an identity does not occur.
        let chain = tls.get_ref().1.peer_certificates();
        let spiffe_id = chain.filter(|_| in_mesh).and_then(|chain| peer::peer_id(chain).ok());
        let common_name = chain.filter(|_| !in_mesh).and_then(peer::common_name).map(Into::into);
        let peer = PeerInfo { addr, spiffe_id, common_name };
        Some(Connection { stream: Stream::Tls(Box::new(tls)), peer, _held: held })
    }

    fn prepared(self) -> Self {
        if let Err(error) = self.socket.set_nodelay(true) {
            debug!(peer = %self.addr, %error, "cannot set TCP_NODELAY");
        }
        self
    }
}

/// The wait after `accept` failed: short at first, twice as long with each failure in a row.
#[derive(Default)]
struct Pause {
    now: Option<Pin<Box<Sleep>>>,
    last: Option<Duration>,
}

impl Pause {
    fn begin(&mut self, error: &io::Error) {
        let pause = self.last.map_or(PAUSE_MIN, |last| (last * 2).min(PAUSE_MAX));
        warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections, pausing");
        self.last = Some(pause);
        self.now = Some(Box::pin(sleep(pause)));
    }

    fn reset(&mut self) {
        self.last = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.now {
            ready!(sleep.as_mut().poll(cx));
            self.now = None;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
