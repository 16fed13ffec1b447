//! Sockets that accept connections, and what each connection gets.
//!
//! Owns: the listening sockets of every worker, and the generation of configuration that new connections see.
//! In:   the listeners that should exist, from `config`.
//! Out:  connections, handed to `http` and `tcp`.
//!
//! - A listener whose configuration stays the same is not touched; one whose address stays keeps its sockets.
//! - New configuration is for new connections; old ones finish what they serve and are then closed, so that a
//!   stricter policy holds for all within one request.

mod accept;
mod detect;

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use tls::ClientAuth;
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{DownstreamTls, ListenerConfig},
    worker::{Shared, Worker, Workers},
};

/// Connections that the kernel holds for a worker that is busy.
const BACKLOG: u32 = 1_024;

/// A listener's configuration at one time, ready for use.
pub(crate) struct Generation {
    pub(crate) config: Arc<ListenerConfig>,
    /// Cancelled when the next generation takes over.
    pub(crate) drain: CancellationToken,
    tls: HashMap<DownstreamTls, TlsAcceptor>,
}

impl Generation {
    fn new(config: Arc<ListenerConfig>, shared: &Shared) -> Self {
        let contexts = config.tls_contexts().map(|context| {
            let auth = if context.require_client_certificate { ClientAuth::Required } else { ClientAuth::Optional };
            let alpn: Vec<&[u8]> = context.alpn.iter().map(Vec::as_slice).collect();
            (context.clone(), TlsAcceptor::from(tls::server_config(&shared.credentials, auth, &alpn)))
        });
        Self { tls: contexts.collect(), drain: CancellationToken::new(), config }
    }
}

struct Live {
    address: SocketAddr,
    current: Arc<ArcSwap<Generation>>,
    stop: CancellationToken,
}

/// All listeners.
pub(crate) struct Listeners {
    shared: Arc<Shared>,
    live: HashMap<Arc<str>, Live>,
}

impl Listeners {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, live: HashMap::new() }
    }

    /// Brings the sockets in line with what should exist. False when one could not be bound: try again later.
    pub(crate) fn apply(&mut self, workers: &Workers, wanted: &[Arc<ListenerConfig>]) -> bool {
        let gone = |live: &Live, name: &Arc<str>| {
            !wanted.iter().any(|config| config.name == *name && config.address == live.address)
        };
        self.live.retain(|name, live| {
            let gone = gone(live, name);
            if gone {
                tracing::info!(listener = %name, address = %live.address, "listener closed");
                live.close();
            }
            !gone
        });
        let mut complete = true;
        for config in wanted {
            match self.live.get(&config.name) {
                Some(live) if Arc::ptr_eq(&live.current.load().config, config) => {}
                Some(live) => {
                    let old = live.current.swap(Arc::new(Generation::new(config.clone(), &self.shared)));
                    old.drain.cancel();
                }
                None => match self.open(workers, config) {
                    Ok(live) => {
                        tracing::info!(listener = %config.name, address = %config.address, "listening");
                        self.live.insert(config.name.clone(), live);
                    }
                    Err(error) => {
                        tracing::error!(listener = %config.name, address = %config.address, %error, "cannot listen");
                        complete = false;
                    }
                },
            }
        }
        complete
    }

    fn open(&self, workers: &Workers, config: &Arc<ListenerConfig>) -> io::Result<Live> {
        // Shared ports hide conflicts: another process of the same user would get a share of the connections. So the
        // port is first taken alone.
        drop(std::net::TcpListener::bind(config.address)?);
        let listen = |worker: &Worker| {
            let _on_it = worker.runtime.enter();
            reuse_port(config.address)?.listen(BACKLOG)
        };
        // All of them listen before anybody is told that the proxy is ready.
        let listeners: Vec<_> = workers.all.iter().map(listen).collect::<io::Result<_>>()?;
        let live = Live {
            address: config.address,
            current: Arc::new(ArcSwap::from_pointee(Generation::new(config.clone(), &self.shared))),
            stop: CancellationToken::new(),
        };
        for (index, (worker, listener)) in workers.all.iter().zip(listeners).enumerate() {
            let accept = accept::Accept {
                shared: self.shared.clone(),
                worker: index,
                current: live.current.clone(),
                connections: worker.connections.clone(),
            };
            let stop = live.stop.clone();
            worker.runtime.spawn(accept.run(listener, stop));
        }
        Ok(live)
    }

    /// Stops accepting, and lets connections finish what they serve.
    pub(crate) fn close(&mut self) {
        self.live.drain().for_each(|(_, live)| live.close());
    }

    /// Names and addresses, for people.
    pub(crate) fn names(&self) -> Vec<(String, SocketAddr)> {
        let mut names: Vec<_> = self.live.iter().map(|(name, live)| (name.to_string(), live.address)).collect();
        names.sort();
        names
    }
}

impl Live {
    fn close(&self) {
        self.stop.cancel();
        self.current.load().drain.cancel();
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.close();
    }
}

/// A socket bound to a port that other workers share.
fn reuse_port(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}
