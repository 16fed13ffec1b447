//! What stands behind the mesh port.
//!
//! Owns: the port, the member's own certificate for it, and what runs for the mesh beside it.
//!
//! - The port is taken before anything runs, and serves once the member has applied the trust domain's founding and has a
//!   certificate: at once where it was founded, and on a member that has just joined when the log has arrived.

use std::{net::SocketAddr, net::TcpListener, sync::Arc, time::Duration};

use anyhow::Context;
use ca::{Authority, IssueError, Issuer};
use client::Client;
use control::Control;
use futures_util::future::BoxFuture;
use server::{CONTROL_PLANE_TXN_OPS_MAX, GrpcFace, Member, workload_custody};
use tls::{ClientAuth, Credentials, Security};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info};

use super::{Keeping, Settings, bind, door::Faces, workers};

/// How long the member's own certificate lives; it is replaced at half of that.
const OWN_SVID_TTL: Duration = Duration::from_hours(24);
/// Between two tries to replace it, when one failed.
const RENEWAL_RETRY: Duration = Duration::from_secs(30);
/// Between two tries to get the first one, while nobody leads or the log has not arrived.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// The mesh port, before it serves.
pub(super) struct Mesh {
    own: Own,
    listener: TcpListener,
    client: Client,
    /// The face by which the cluster grows.
    membership: Routes,
    time: BoxFuture<'static, ()>,
}

impl Mesh {
    /// `None` where no trust domain was founded, and none was joined.
    pub(super) fn new(member: &Member, settings: &Settings) -> anyhow::Result<Option<Self>> {
        let custody = workload_custody(&settings.member.data_dir);
        if member.ledger().genesis()?.is_none() && !custody.exists() {
            return Ok(None);
        }
        let authority = Authority::open(&custody, member.ledger())?;
        let issuer = Issuer::new(member.ledger_log(), member.ledger(), Arc::new(authority), ca::Config::default());
        let own = Own { issuer: Arc::new(issuer), listen: settings.listen_mesh };
        Ok(Some(Self {
            listener: bind(settings.listen_mesh)?,
            client: Client::in_process(member.control_plane_routes()),
            membership: Routes::new(member.membership(Arc::clone(&own.issuer))),
            time: Box::pin(member.keep_ledger_time()),
            own,
        }))
    }

    /// Serves until `stop`, and until its connections have ended.
    pub(super) async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { own, listener, client, membership, time } = self;
        let Some(credentials) = stop.run_until_cancelled(own.first()).await else { return Ok(()) };
        let credentials = credentials?;
        let config = control::Config::new(own.issuer.trust_domain()?);
        let control = Control::start(client, control::Config { txn_ops_max: CONTROL_PLANE_TXN_OPS_MAX, ..config });
        let routes = membership
            .add_service(ca::issuing_face(Arc::clone(&own.issuer)))
            .add_service(ca::admin_face(Arc::clone(&own.issuer)))
            .add_service(control.ads())
            .add_service(control.mesh())
            .add_service(control.workloads());
        let tls = tls::server_config(&credentials, ClientAuth::Optional, tls::H2);
        info!(listen = %listener.local_addr()?, trust_domain = %credentials.trust_domain(), "serves the mesh");
        let mut background = JoinSet::new();
        background.spawn(time);
        background.spawn(own.keep_fresh(credentials));
        let faces = Faces { grpc: Some(GrpcFace::uncounted(routes)), http: None };
        let serving =
            tokio::spawn(workers::serve(faces, listener, Security::Mesh(tls), Keeping::default(), stop.clone()));
        stop.cancelled().await;
        // Streams of the mesh end by themselves once there is nothing behind them.
        control.shutdown().await;
        background.shutdown().await;
        serving.await.context("the mesh port died")?
    }
}

/// The member's own identity towards proxies and administrators.
struct Own {
    issuer: Arc<Issuer>,
    listen: SocketAddr,
}

impl Own {
    /// Waits for the trust domain to be founded as far as this member knows, and for a leader to order by.
    async fn first(&self) -> anyhow::Result<Credentials> {
        let mut waiting = false;
        while self.issuer.ledger().genesis()?.is_none() {
            if !std::mem::replace(&mut waiting, true) {
                info!("waits for the log, to serve the mesh");
            }
            sleep(FIRST_RETRY).await;
        }
        loop {
            match self.issue().await {
                Ok((bundle, svid)) => return Ok(Credentials::new(bundle, Some(svid))?),
                Err(error) if error.downcast_ref().is_some_and(|error| matches!(error, IssueError::Log(_))) => {
                    if !std::mem::replace(&mut waiting, true) {
                        info!(%error, "waits for a leader, to serve the mesh");
                    }
                    sleep(FIRST_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
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
