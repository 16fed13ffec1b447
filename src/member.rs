//! A member and all of its faces, on its ports.
//!
//! Owns: the listeners, the wiring of rooms to them, and the order in which all of it ends.
//!
//! - The client port speaks etcd v3: plain text on loopback, or TLS.
//! - The mesh port speaks mTLS alone: ADS, the CA, the mesh API. It opens once a trust domain was bootstrapped.
//! - The peer port speaks mTLS alone, to members of the same cluster. It opens where there is something to prove oneself
//!   by, and an address that others are told; it closes last, so that another member can be let lead.
//! - A listener that cannot be had is an error before anything runs.

mod agreement;
mod door;
mod mesh;
mod prompt;
mod workers;

pub(crate) use workers::Keeping;

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use door::Faces;
use server::{Access, GrpcFace, Member, PeerPort, Serves, member_custody};
use tls::{Policy, Security, web::ServerFiles};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{agreement::Agreement, mesh::Mesh};

/// How long requests and streams may take to end before they are cut.
const DRAIN: Duration = Duration::from_secs(5);
/// Where in the data directory the certificate is that a member makes for clients; etcd has it there too.
const SELF_SIGNED: &str = "fixtures/client";

/// Where a member listens, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The member itself.
    pub(crate) member: server::Config,
    /// Where etcd clients and probes connect.
    pub(crate) listeners: Vec<Listener>,
    /// Where other members connect.
    pub(crate) listen_peers: Vec<SocketAddr>,
    /// Somebody has asked for that: without certificates to prove itself by, the member does not start.
    pub(crate) demands_peer_port: bool,
    /// What the listeners that are secure show, and speak.
    pub(crate) client_tls: Option<(ClientCertificate, Policy)>,
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

/// The certificate of the listeners that are secure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    /// It and its key are in these files.
    Files(ServerFiles),
    /// The member makes it, and keeps it in the data directory.
    SelfSigned {
        /// Of a new one.
        validity: Duration,
    },
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

/// Runs a member until `stop`, or until its disk fails.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let ports = open_ports(&settings)?;
    let peer_ports = open_peer_ports(&settings)?;
    let agreement = Agreement::start()?;
    let member = agreement.runtime.spawn(Member::start(settings.member.clone())).await??;
    let mut faces = JoinSet::new();
    let peers = serve_peers(&member, peer_ports, &agreement, &mut faces)?;
    let services = client_services(&member).await;
    for (listener, security, purpose) in ports {
        info!(listen = %listener.local_addr()?, ?purpose, "serves etcd v3");
        let served = client_faces(&member, &services, &settings, purpose);
        faces.spawn(workers::serve(served, listener, security, settings.keeping, stop.clone()));
    }
    if let Some(mesh) = Mesh::new(&member, &settings)? {
        drop(faces.spawn(mesh.serve(stop.clone())));
    } else {
        info!("no trust domain yet: run 'meshstore cluster bootstrap' on this data directory to serve a mesh");
    }
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failure = member.fatal() => Err(failure.into()),
        ended = faces.join_next() => face_ended(ended),
    };
    // Nobody new is served from here on, and streams end; what else was asked is answered while there is a log to ask.
    stop.cancel();
    member.end_streams();
    let open = peers.len();
    if timeout(DRAIN, async { while faces.len() > open && faces.join_next().await.is_some() {} }).await.is_err() {
        warn!(listeners = faces.len() - open, "connections did not end in time, cutting them");
    }
    let stopped = member.shutdown().await;
    peers.iter().for_each(AbortHandle::abort);
    outcome.and(stopped.map_err(Into::into))
}

/// Takes the peer ports, where there is something to prove oneself by.
fn open_peer_ports(settings: &Settings) -> anyhow::Result<Vec<TcpListener>> {
    let data_dir = &settings.member.data_dir;
    if settings.member.peer_files.is_some() || member_custody(data_dir).exists() {
        return settings.listen_peers.iter().copied().map(bind).collect();
    }
    if settings.demands_peer_port {
        bail!(
            "other members are listened for by mTLS alone, and this member has no certificate: bootstrap the cluster by \
             'meshstore cluster bootstrap', or give --peer-cert-file, --peer-key-file and --peer-trusted-ca-file"
        );
    }
    Ok(Vec::new())
}

/// Serves other members on the thread on which the log is agreed on, until aborted.
fn serve_peers(
    member: &Member,
    ports: Vec<TcpListener>,
    agreement: &Agreement,
    faces: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Vec<AbortHandle>> {
    let Some(PeerPort { tls, routes, proves_members }) = member.peer_port()? else { return Ok(Vec::new()) };
    let mut serving = Vec::new();
    for listener in ports {
        info!(listen = %listener.local_addr()?, "serves other members");
        let security = if proves_members { Security::Mesh(tls.clone()) } else { Security::Web(tls.clone()) };
        let served = Faces { grpc: Some(GrpcFace::uncounted(routes.clone())), http: None };
        let serve = workers::serve_here(served, listener, security, CancellationToken::new());
        serving.push(faces.spawn_on(serve, &agreement.runtime));
    }
    Ok(serving)
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

/// Where clients reach the secure listeners: each address, and what they are told.
fn hosts(settings: &Settings) -> Vec<String> {
    let secure = settings.listeners.iter().filter(|listener| listener.secure).map(|listener| listener.address.ip());
    let addresses: Vec<_> = secure.collect();
    let is_here = addresses.iter().any(|address| address.is_loopback() || address.is_unspecified());
    let here = is_here.then(|| ["localhost", "127.0.0.1", "::1"].map(str::to_owned)).into_iter().flatten();
    let urls = settings.member.advertise_client_urls.iter().filter_map(|url| url.parse::<http::Uri>().ok());
    let told = urls.filter_map(|url| Some(url.host()?.trim_matches(['[', ']']).to_owned()));
    let listened = addresses.iter().filter(|address| !address.is_unspecified()).map(ToString::to_string);
    here.chain(listened).chain(told).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Takes all ports before anything runs.
fn open_ports(settings: &Settings) -> anyhow::Result<Vec<(TcpListener, Security, Purpose)>> {
    let tls = settings.client_tls.as_ref().map(|(certificate, policy)| {
        let files = match certificate {
            ClientCertificate::Files(files) => files.clone(),
            ClientCertificate::SelfSigned { validity } => {
                tls::web::self_signed(&settings.member.data_dir.join(SELF_SIGNED), &hosts(settings), *validity)?
            }
        };
        tls::web::server_config(files, policy, tls::H2_AND_HTTP1)
    });
    let tls = tls.transpose()?;
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
