//! One worker's connections of one listener.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::SpiffeId;

use super::{Generation, detect::detect};
use crate::{
    config::{Chain, Filter, Wire},
    http::{HttpConnection, Peer, client_cert_claim},
    tcp,
    telemetry::Party,
    upstream::Io,
    worker::Shared,
};

/// Wait after an accept that failed, for example for want of file descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// What an accept loop needs.
pub(crate) struct Accept {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: usize,
    pub(crate) current: Arc<ArcSwap<Generation>>,
    pub(crate) connections: TaskTracker,
}

/// Why a connection was closed before it carried anything.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("no filter chain matches")]
    NoChain,
    #[error("TLS handshake took too long")]
    TlsTimeout,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Peer(#[from] tls::PeerError),
}

impl Accept {
    /// Accepts until told to stop. A full worker takes no more: the kernel pushes back.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.shared.limits.connections_max));
        let this = Arc::new(self);
        while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &slots)).await {
            let Some((stream, address, slot)) = accepted else { continue };
            let accept = this.clone();
            this.connections.spawn(async move {
                if let Err(error) = accept.serve(stream, address).await {
                    tracing::debug!(peer = %address, %error, "connection rejected");
                }
                drop(slot);
            });
        }
    }

    async fn serve(&self, stream: TcpStream, address: SocketAddr) -> Result<(), Rejected> {
        stream.set_nodelay(true)?;
        let generation = self.current.load_full();
        let config = &generation.config;
        let chain = if let Some(chain) = config.only_chain() {
            chain
        } else {
            let limit = config.detect_timeout.unwrap_or(self.shared.limits.detect_timeout);
            let wire: Wire = detect(&stream, limit, config.silent_is_plain).await?;
            config.chain(wire).ok_or(Rejected::NoChain)?
        };
        let (io, identity) = self.secure(&generation, chain, stream).await?;
        let peer = self.peer(address, &io, identity.as_ref());
        let drain = generation.drain.clone();
        match &chain.filter {
            Filter::Http(config) => {
                let (shared, config) = (self.shared.clone(), config.clone());
                let activity = Arc::default();
                HttpConnection { shared, worker: self.worker, config, peer, drain, activity }.serve(io).await;
            }
            Filter::Tcp(config) => tcp::serve(&self.shared, self.worker, config, peer, drain, io).await,
        }
        Ok(())
    }

    async fn secure(
        &self,
        generation: &Generation,
        chain: &Chain,
        stream: TcpStream,
    ) -> Result<(Io, Option<SpiffeId>), Rejected> {
        let Some(context) = &chain.tls else { return Ok((Io::Plain(stream), None)) };
        let acceptor = generation.tls.get(context).ok_or(Rejected::NoChain)?;
        let handshake = timeout(self.shared.limits.tls_timeout, acceptor.accept(stream)).await;
        let stream = handshake.map_err(|_| Rejected::TlsTimeout)??;
        let shown = stream.get_ref().1.peer_certificates();
        let identity = shown.map(tls::peer_id).transpose()?;
        if let Some(peer) = identity.as_ref().filter(|peer| !context.peers.accept(peer)) {
            return Err(tls::PeerError::Unexpected(peer.clone()).into());
        }
        Ok((Io::Tls(Box::new(stream.into())), identity))
    }

    fn peer(&self, address: SocketAddr, io: &Io, identity: Option<&SpiffeId>) -> Peer {
        let text = identity.map(ToString::to_string);
        Peer {
            address,
            tls: matches!(io, Io::Tls(_)),
            client_cert: text.as_deref().and_then(|id| client_cert_claim(&self.shared.own_id, id)),
            party: self.shared.telemetry.party(Party::client(identity)),
            identity: text.map(Into::into),
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, slot)),
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            sleep(ACCEPT_BACK_OFF).await;
            None
        }
    }
}
