//! A proxy from start to end.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tls::{Connector, Expect, H2};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Book, Snapshot, Workload},
    identity::{Identity, IdentityError},
    register::keep_registered,
    resolve::{Names, Resolver},
    settings::{Config, Role, server_id},
    state_dir::StateDir,
    telemetry::{Admin, AdminState, Own, Switch, Telemetry},
    upstream::Builder,
    worker::{Shared, Workers},
    xds::{self, Client, Server},
};

/// Idle upstream connections are looked through this often.
const SWEEP: Duration = Duration::from_secs(5);

/// Why a proxy can not run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A directory, file, thread or the admin address can not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The proxy has no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The server's address is unusable.
    #[error("server address: {0}")]
    Server(#[from] tonic::transport::Error),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> ProxyError {
    move |source| ProxyError::Io { what, source }
}

/// Runs a proxy until `stop`, then lets connections finish as [`Limits`](crate::Limits) say.
///
/// # Errors
/// Only at start: [`ProxyError`]. Later failures are logged, counted and tried again.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ProxyError> {
    let dir = StateDir::open(&config.state_dir).map_err(io_error("state directory"))?;
    let identity = Identity::load(&config, dir.clone())?;
    let credentials = identity.credentials();
    let own_id = config.spiffe_id(&credentials.trust_domain()).to_string();
    let own = Own { workload: own_workload(&config), principal: own_id.clone() };
    let telemetry = Telemetry::new(own, &config.limits, config.access_log.as_ref()).map_err(io_error("access log"))?;
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(Snapshot::default()),
        telemetry: Arc::new(telemetry),
        credentials: credentials.clone(),
        limits: config.limits.clone(),
        own_id,
    });
    let workers = Arc::new(Workers::start(config.limits.worker_count()).map_err(io_error("worker thread"))?);
    let ready = Arc::new(Switch::default());
    let builder = Builder::new(credentials.clone(), shared.telemetry.clone(), config.limits.clone());
    let resolver = Resolver::new(config.dns_resolver).map_err(io::Error::other).map_err(io_error("resolver"))?;
    let names = Names::new(resolver, shared.telemetry.clone(), config.limits.dns_endpoints_max);
    let book = Book::new(builder, names, config.limits.warming);
    let mut client = Client::new(book, workers.clone(), shared.clone(), ready.clone());

    // Two signals: `leave` ends what brings traffic here, `end` what serves until the last connection is gone.
    let (tasks, leave, end) = (TaskTracker::new(), stop.child_token(), CancellationToken::new());
    let _ended = end.clone().drop_guard();
    if let Some(address) = config.admin {
        let admin = Admin::bind(address).await.map_err(io_error("admin address"))?;
        let state = AdminState { shared: shared.clone(), resources: client.resources.clone(), ready: ready.clone() };
        tasks.spawn(admin.run(state, end.clone()));
    }
    if credentials.svid().is_some() {
        client.restore(&dir);
    }
    identity.ensure(&shared.telemetry.gauges, &leave).await?;

    let server = Server {
        endpoint: xds::endpoint(config.server)?,
        connector: Connector::tls(tls::client_config(
            &credentials,
            Expect::OneOf(vec![server_id(&credentials.trust_domain())]),
            H2,
        )),
        node: xds::node(&config),
        message_bytes_max: config.limits.xds_message_bytes_max,
    };
    if config.role == Role::Sidecar && !config.inbound.is_empty() {
        let (endpoint, connector) = (server.endpoint.clone(), server.connector.clone());
        tasks.spawn(keep_registered(config.clone(), endpoint, connector, leave.clone()));
    }
    let renewal = shared.telemetry.clone();
    let renew_until = end.clone();
    tasks.spawn(async move { identity.renew(&renewal.gauges, renew_until).await });
    tasks.spawn(xds::keep_on_disk(dir, client.resources.clone(), end.clone()));
    tasks.spawn(sweep(shared.clone(), end.clone()));
    let accept = CancellationToken::new();
    let serving = tasks.spawn(client.run(server, accept.clone()));

    stop.cancelled().await;
    ready.set(false);
    tracing::info!("draining");
    tokio::time::sleep(config.limits.drain_delay).await;
    accept.cancel();
    // The client owns the listeners: when it is done, nothing new is accepted.
    if serving.await.is_err() {
        tracing::error!("the configuration task panicked");
    }
    let cut = match Arc::into_inner(workers) {
        Some(workers) => workers.drain(config.limits.drain).await,
        None => 0,
    };
    end.cancel();
    tasks.close();
    tasks.wait().await;
    tracing::info!(cut, "stopped");
    Ok(())
}

fn own_workload(config: &Config) -> Workload {
    let label = |name: &str| config.labels.get(name).cloned().unwrap_or_default();
    Workload {
        name: config.name.clone(),
        namespace: config.namespace.to_string(),
        app: label("app"),
        version: label("version"),
        cluster: String::new(),
    }
}

/// Closes upstream connections that idle too long.
async fn sweep(shared: Arc<Shared>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        let now = Instant::now();
        for cluster in shared.snapshot.load().clusters.values() {
            cluster.sweep(now);
        }
    }
}
