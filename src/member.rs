//! A member and all of its faces, on its two ports.
//!
//! Owns: the listeners, the wiring of rooms to them, and the order in which all of it ends.
//!
//! - The client port speaks etcd v3: plain text on loopback, or TLS.
//! - The mesh port speaks mTLS alone: ADS, the CA, the mesh API. It opens once a trust domain was bootstrapped.
//! - A listener that cannot be had is an error before anything runs.

mod agreement;
mod door;
mod prompt;
mod workers;

pub(crate) use workers::Keeping;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use ca::{Authority, Custody, Issuer};
use control::Control;
use door::Faces;
use server::{Access, CONTROL_PLANE_TXN_OPS_MAX, GrpcFace, Member, Serves};
use tls::{ClientAuth, Credentials, Policy, Security, web::ServerFiles};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info, warn};

use self::agreement::Agreement;

/// How long requests and streams may take to end before they are cut.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the member's own certificate lives; it is replaced at half of that.
const OWN_SVID_TTL: Duration = Duration::from_hours(24);
/// Between two tries to replace it, when one failed.
const RENEWAL_RETRY: Duration = Duration::from_secs(30);

/// Where a member listens, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The member itself.
    pub(crate) member: server::Config,
    /// Where etcd clients and probes connect.
    pub(crate) listeners: Vec<Listener>,
    /// Certificate and key of the listeners that are secure.
    pub(crate) client_tls: Option<(ServerFiles, Policy)>,
    /// Whom the client port answers over HTTP.
    pub(crate) access: Access,
    /// Serve the JSON gateway.
    pub(crate) gateway: bool,
    /// How client connections are kept.
    pub(crate) keeping: Keeping,
    /// Serve plain text beyond loopback.
    pub(crate) insecure_plaintext: bool,
    /// Where proxies and administrators connect.
    pub(crate) listen_mesh: SocketAddr,
}

/// One address, and what is served there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    /// By TLS, with the settings' certificate.
    pub(crate) secure: bool,
    pub(crate) purpose: Purpose,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Clients, by gRPC and by HTTP.
    Clients,
    /// Clients by gRPC alone.
    Grpc,
    /// Clients by HTTP alone.
    Http,
    /// Probes: health and metrics.
    Probes,
}

/// Where a data directory keeps the authority's sealed keys, and the key that unseals them.
pub(crate) fn custody(data_dir: &Path) -> Custody {
    Custody::new(data_dir.join("authority"), data_dir.join("authority.kek"))
}

/// Runs a member until `stop`, or until its disk fails.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let ports = open_ports(&settings)?;
    let agreement = Agreement::start()?;
    let member = agreement.runtime.spawn(Member::start(settings.member.clone())).await??;
    let mut faces = JoinSet::new();
    let services = client_services(&member).await;
    for (listener, security, purpose) in ports {
        info!(listen = %listener.local_addr()?, ?purpose, "serves etcd v3");
        let served = client_faces(&member, &services, &settings, purpose);
        faces.spawn(workers::serve(served, listener, security, settings.keeping, stop.clone()));
    }
    let mesh = if member.ledger().genesis()?.is_some() {
        Some(Mesh::open(&member, &settings, &mut faces, &stop).await?)
    } else {
        info!("no trust domain yet: run 'meshstore cluster bootstrap' on this data directory to serve a mesh");
        None
    };
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failure = member.fatal() => Err(failure.into()),
        ended = faces.join_next() => face_ended(ended),
    };
    // Nobody new is served from here on, and streams end; what else was asked is answered while there is a log to ask.
    stop.cancel();
    member.end_streams();
    if let Some(mesh) = mesh {
        mesh.close().await;
    }
    if timeout(DRAIN, async { while faces.join_next().await.is_some() {} }).await.is_err() {
        warn!(listeners = faces.len(), "connections did not end in time, cutting them");
    }
    let stopped = member.shutdown().await;
    outcome.and(stopped.map_err(Into::into))
}

fn face_ended(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> anyhow::Result<()> {
    match ended {
        Some(Ok(outcome)) => outcome.context("a listener ended"),
        Some(Err(error)) => Err(error).context("a listener died"),
        None => bail!("no listener is configured"),
    }
}

/// etcd's services and gRPC's own health service.
async fn client_services(member: &Member) -> GrpcFace {
    let (health, service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    member.grpc(member.routes().add_service(service))
}

fn client_faces(member: &Member, services: &GrpcFace, settings: &Settings, purpose: Purpose) -> Faces {
    let access = Arc::new(settings.access.clone());
    let http = |serves| Some(member.http(services.clone(), access, serves));
    let clients = Serves::Clients { gateway: settings.gateway };
    match purpose {
        Purpose::Clients => Faces { grpc: Some(services.clone()), http: http(clients) },
        Purpose::Grpc => Faces { grpc: Some(services.clone()), http: None },
        Purpose::Http => Faces { grpc: None, http: http(clients) },
        Purpose::Probes => Faces { grpc: None, http: http(Serves::Probes) },
    }
}

/// Takes all ports before anything runs.
fn open_ports(settings: &Settings) -> anyhow::Result<Vec<(TcpListener, Security, Purpose)>> {
    let tls = settings.client_tls.as_ref();
    let tls =
        tls.map(|(files, policy)| tls::web::server_config(files.clone(), policy, tls::H2_AND_HTTP1)).transpose()?;
    let open = |listener: &Listener| {
        let security = match &tls {
            Some(tls) if listener.secure => Security::Web(tls.clone()),
            _ => Security::Plain,
        };
        if !listener.secure && listener.purpose != Purpose::Probes {
            plain_text(listener.address, settings.insecure_plaintext)?;
        }
        Ok((bind(listener.address)?, security, listener.purpose))
    };
    settings.listeners.iter().map(open).collect()
}

/// Plain text is for loopback, unless somebody has chosen otherwise and is told so.
fn plain_text(listen: SocketAddr, chosen: bool) -> anyhow::Result<()> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    if !chosen {
        bail!(
            "refusing to serve plain text on {listen}, which is not loopback: give --cert-file and --key-file, \
             or --insecure-plaintext if everybody who reaches that address may read and write everything"
        );
    }
    warn!(%listen, "SERVING PLAIN TEXT BEYOND LOOPBACK: everybody who reaches this address may read and write everything");
    Ok(())
}

fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(listen);
    bound.with_context(|| format!("cannot listen on {listen}; is another server running there?"))
}

/// What stands behind the mesh port.
struct Mesh {
    control: Control,
    background: JoinSet<()>,
}

impl Mesh {
    async fn open(
        member: &Member,
        settings: &Settings,
        faces: &mut JoinSet<anyhow::Result<()>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let data_dir: &PathBuf = &settings.member.data_dir;
        let authority = Authority::open(&custody(data_dir), member.ledger())?;
        let issuer = Issuer::new(member.ledger_log(), member.ledger(), Arc::new(authority), ca::Config::default());
        let own = Own { issuer: Arc::new(issuer), listen: settings.listen_mesh };
        let credentials = own.obtain().await?;

        let client = client::Client::in_process(member.control_plane_routes());
        let config = control::Config::new(own.issuer.trust_domain()?);
        let control = Control::start(client, control::Config { txn_ops_max: CONTROL_PLANE_TXN_OPS_MAX, ..config });
        let routes = Routes::new(ca::issuing_face(Arc::clone(&own.issuer)))
            .add_service(ca::admin_face(Arc::clone(&own.issuer)))
            .add_service(control.ads())
            .add_service(control.mesh())
            .add_service(control.workloads());
        let tls = tls::server_config(&credentials, ClientAuth::Optional, tls::H2);
        let listener = bind(settings.listen_mesh)?;
        info!(listen = %listener.local_addr()?, trust_domain = %credentials.trust_domain(), "serves the mesh");
        let mesh = Faces { grpc: Some(GrpcFace::uncounted(routes)), http: None };
        faces.spawn(workers::serve(mesh, listener, Security::Mesh(tls), Keeping::default(), stop.clone()));

        let mut background = JoinSet::new();
        background.spawn(ca::keep_time(member.ledger_log(), member.ledger()));
        background.spawn(own.keep_fresh(credentials));
        Ok(Self { control, background })
    }

    async fn close(mut self) {
        self.control.shutdown().await;
        self.background.shutdown().await;
    }
}

/// The member's own identity towards proxies and administrators.
struct Own {
    issuer: Arc<Issuer>,
    listen: SocketAddr,
}

impl Own {
    async fn obtain(&self) -> anyhow::Result<Credentials> {
        let (bundle, svid) = self.issue().await?;
        Ok(Credentials::new(bundle, Some(svid))?)
    }

    async fn issue(&self) -> anyhow::Result<(tls::TrustBundle, tls::Svid)> {
        let id = Issuer::server_id(&self.issuer.trust_domain()?);
        let addresses = Some(self.listen.ip()).filter(|ip| !ip.is_unspecified());
        let names = vec!["localhost".to_owned()];
        let credential = self.issuer.issue_own(id, names, addresses.into_iter().collect(), OWN_SVID_TTL).await?;
        Ok(credential.for_tls()?)
    }

    /// Replaces the certificate at half of its life, until dropped.
    async fn keep_fresh(self, credentials: Credentials) {
        let mut wait = OWN_SVID_TTL / 2;
        loop {
            sleep(wait).await;
            let replaced = match self.issue().await {
                Ok((bundle, svid)) => credentials.replace(bundle, Some(svid)).map_err(Into::into),
                Err(error) => Err(error),
            };
            wait = match replaced {
                Ok(()) => OWN_SVID_TTL / 2,
                Err(error) => {
                    error!(%error, "cannot renew the member's own certificate, will try again");
                    RENEWAL_RETRY
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_beyond_loopback_is_a_choice() {
        let cases = [
            ("127.0.0.1:1", false, true),
            ("[::1]:1", false, true),
            ("0.0.0.0:1", false, false),
            ("0.0.0.0:1", true, true),
        ];
        for (listen, chosen, expected) in cases {
            let listen = listen.parse().expect("an address");
            assert_eq!(plain_text(listen, chosen).is_ok(), expected, "{listen} {chosen}");
        }
    }
}
