//! One endpoint: its address, how it is spoken to, and its state.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{outlier::Health, pool::Pool};
use crate::{
    config::{Keepalive, Protocol, Service, Transport, Workload},
    telemetry::{Party, PartyId, Telemetry},
};

/// How connections to an endpoint are made and kept. Endpoints of a cluster share it.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) key: SpecKey,
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What makes two specs the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SpecKey {
    pub(crate) transport: Transport,
    pub(crate) protocol: Protocol,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) idle_timeout: Duration,
    pub(crate) idle_max: usize,
    pub(crate) requests_per_connection: Option<u32>,
    pub(crate) h2_streams_max: u32,
}

/// One endpoint of a cluster.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) spec: Arc<Spec>,
    pub(crate) service: Service,
    pub(crate) workload: Workload,
    /// Requests and connections that it serves for us now.
    pub(crate) active: AtomicU32,
    pub(crate) health: Health,
    /// One a worker.
    pub(crate) pools: Arc<[Pool]>,
    pub(crate) telemetry: Arc<Telemetry>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(crate) fn new(
        address: SocketAddr,
        spec: Arc<Spec>,
        service: Service,
        workload: Workload,
        telemetry: Arc<Telemetry>,
        epoch: Instant,
    ) -> Self {
        let pools = (0..telemetry.workers()).map(|_| Pool::default()).collect();
        Self {
            address,
            spec,
            service,
            workload,
            active: AtomicU32::new(0),
            health: Health::new(epoch),
            pools,
            telemetry,
        }
    }

    /// The same endpoint, to be connected to elsewhere from now on. Its connections stay in use.
    pub(crate) fn moved(&self, address: SocketAddr, epoch: Instant) -> Self {
        Self {
            address,
            spec: self.spec.clone(),
            service: self.service.clone(),
            workload: self.workload.clone(),
            active: AtomicU32::new(0),
            health: Health::new(epoch),
            pools: self.pools.clone(),
            telemetry: self.telemetry.clone(),
        }
    }

    /// How telemetry names the other end of a connection to it.
    pub(crate) fn party(&self, principal: Option<String>) -> PartyId {
        self.telemetry.party(Party {
            workload: self.workload.clone(),
            service: self.service.clone(),
            mutual_tls: principal.is_some(),
            principal: principal.unwrap_or_default(),
        })
    }

    /// Counts one more request or connection until the guard is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Relaxed);
        Busy(self.clone())
    }
}

/// One request or connection that an endpoint serves.
pub(crate) struct Busy(pub(crate) Arc<Endpoint>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
