//! One member, from its data directory to its services.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use ca::{AuthorityError, Issuer, Ledger, MemberAuthority, Time};
use engine::{Engine, Home, Options};
use parking_lot::Mutex;
use proto::etcdserverpb::{
    auth_server::AuthServer, cluster_server::ClusterServer, lease_server::LeaseServer,
    maintenance_server::MaintenanceServer,
};
use proto::member::{
    membership_server::{Membership, MembershipServer},
    peers_server::PeersServer,
};
use proto::{
    upgrade::upgrade_server::UpgradeServer, v3electionpb::election_server::ElectionServer,
    v3lockpb::lock_server::LockServer,
};
use raft::{ChangeError, ClusterId, Dialer, Formation, MemberId, Raft, RaftError};
use rustls::ServerConfig;
use store::{Lessor, Store, Sweeper};
use tls::CredentialsError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{error, info, warn};
use types::TrustDomain;

use crate::{
    Config,
    auth::{AuthFace, Authenticator, Gates, KeyError, Side, SimpleTokens},
    clock::Clock,
    cluster::ClusterFace,
    compactor, compare,
    core::Core,
    custody::member_custody,
    damage,
    election::ElectionFace,
    expiry,
    ground::{Ground, SimulatedDisk},
    http::{self, Access, HttpFace, Serves},
    identity::IdentityError,
    joining::JoiningFace,
    kv::KvFace,
    lease::LeaseFace,
    ledger::{self, LedgerLog},
    lock::LockFace,
    machine::{self, StateMachine},
    maintenance::MaintenanceFace,
    metrics::{GrpcFace, Metrics},
    peers::{Guarded, Links, PeerSecurity, PeersFace, members_of},
    promote, publish,
    session::Sessions,
    settle,
    snapshot::{self, SnapshotError, Snapshots},
    space::{self, Space},
    unary::KvService,
    upgrade::{self, UpgradeFace},
    watch::{WatchFace, WatchServer},
};

/// A request may be this much longer than the command in it. Source: etcd `grpcOverheadBytes`.
const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;
/// Operations in a transaction of the member's own control plane, which applies many resources at once.
pub const CONTROL_PLANE_TXN_OPS_MAX: usize = 10_000;
/// Longest command of the member's own control plane, bytes.
const CONTROL_PLANE_REQUEST_BYTES_MAX: usize = 7 << 20;

/// Why a member could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be used.
    #[error("data directory {}: {source}", .path.display())]
    DataDir {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data directory cannot be opened: it is in use by another process, or damaged.
    #[error("data directory {}: {source}", .path.display())]
    Engine {
        /// Which part of it.
        path: PathBuf,
        /// Why.
        source: engine::EngineError,
    },
    /// Tokens cannot be signed or verified as configured.
    #[error(transparent)]
    Auth(#[from] KeyError),
    /// The keys on disk cannot be read.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The ledger on disk cannot be read.
    #[error(transparent)]
    Ledger(#[from] ca::LedgerError),
    /// No agreement is possible with what is on disk, or no more.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// Who the data directory is can not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An authority's keys can not be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Certificates can not be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The keys in the data directory are another cluster's.
    #[error("the data directory has the authority of {found}, and this is a member of {ours}")]
    ForeignAuthority {
        /// Whose they are.
        found: TrustDomain,
        /// Whose they should be.
        ours: TrustDomain,
    },
    /// A member of a cluster that is there has nothing on its disk.
    #[error(
        "the data directory {} is nobody's, and this member's cluster is there already: is a disk not mounted? \
         Make a new member by 'meshstore cluster join' ('meshstore cluster add' prints the line; for one whose disk is \
         lost, 'meshstore cluster replace' does), or name the others by --initial-cluster",
        .path.display()
    )]
    NobodysDirectory {
        /// Which one.
        path: PathBuf,
    },
    /// There is no member that could go on alone.
    #[error(
        "--force-new-cluster: the data directory {} is nobody's: name that of the member that is left by --data-dir",
        .path.display()
    )]
    NobodyToForce {
        /// Which one.
        path: PathBuf,
    },
    /// The log is not where the member's log must be.
    #[error(
        "there is no log in {}, and this member has one: is a disk not mounted, or was --wal-dir another? If it is lost, \
         have a new member take this one's place (`meshstore cluster replace`); if it is the only one, restore a snapshot \
         (`meshstore snapshot restore`)",
        .path.display()
    )]
    LogMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The log is in another folder than the one that is asked for.
    #[error(
        "the log is in {}, and --wal-dir says {}: leave the flag out, or move the log there while the member is stopped",
        .now.display(),
        .wanted.display()
    )]
    LogElsewhere {
        /// Where it is.
        now: PathBuf,
        /// What is asked for.
        wanted: PathBuf,
    },
    /// A new member's log would be among what somebody else has.
    #[error("{} is not empty, and this member's log is not made yet: name another folder by --wal-dir", .path.display())]
    LogTaken {
        /// Which one.
        path: PathBuf,
    },
    /// Members speak TLS alone.
    #[error("a cluster of several members needs certificates that its members know one another by")]
    NoPeerCertificates,
    /// The cluster knows no member with this one's addresses.
    #[error("cluster {cluster} has no member at {}: add it first, by 'meshstore member add'", .peer_urls.join(","))]
    NotAdded {
        /// The cluster that was asked.
        cluster: ClusterId,
        /// The addresses.
        peer_urls: Vec<String>,
    },
    /// Nobody told which member this is.
    #[error("no member of the cluster answers at {}", .asked.join(","))]
    Unanswered {
        /// Who was asked.
        asked: Vec<String>,
    },
    /// The log does not know the member whose log it is.
    #[error("the member is not in its own cluster's log")]
    Unplaced,
    /// The cluster did not take what this member is.
    #[error("cannot tell the cluster of this member: {0}")]
    Unpublished(#[from] ChangeError),
    /// What is on the disk is not what was written there. Says where, and what to do.
    #[error("{0}")]
    Damaged(String),
}

impl ServerError {
    /// The certificate's or key's file that is to blame, where it is one alone.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Auth(error) => error.file(),
            Self::Credentials(error) => error.file(),
            _ => None,
        }
    }
}

/// What stands behind the peer port.
#[derive(Debug)]
pub struct PeerPort {
    /// Lets in members of this cluster alone.
    pub tls: Arc<ServerConfig>,
    /// Its certificates name members by SPIFFE ID.
    pub proves_members: bool,
    /// What members ask.
    pub routes: Routes,
}

/// A running member. Stop it with [`Member::shutdown`]; dropping it leaves the disk as a crash would.
#[derive(Debug)]
pub struct Member {
    core: Arc<Core>,
    state: Home,
    ledger: ca::LedgerView,
    snapshots: Snapshots,
    methods: Arc<http::Methods>,
    security: Option<PeerSecurity>,
    background: Vec<JoinHandle<()>>,
}

impl Member {
    /// Opens the data directory, or makes it, and takes part in the cluster.
    ///
    /// # Errors
    /// See [`ServerError`]: nothing runs then.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        Self::start_on(config).await.map_err(damage::explained)
    }

    async fn start_on(config: Config) -> Result<Self, ServerError> {
        make_private(&config.data_dir)?;
        let ground = Ground::of_data_dir(&config).await?;
        Self::stand_on(ground, config).await
    }

    /// Takes part in the cluster of a simulation, with which it shares a thread: on `disk`, and by the connections of
    /// `dialer`. It founds the cluster as [`Config::founding`] says, or was added to one and has `joined` for its ids.
    ///
    /// # Errors
    /// See [`ServerError`]: nothing runs then.
    pub async fn simulated(
        config: Config,
        disk: &SimulatedDisk,
        joined: Option<(ClusterId, MemberId)>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self, ServerError> {
        Self::stand_on(Ground::simulated(&config, disk, joined, dialer), config).await
    }

    async fn stand_on(ground: Ground, config: Config) -> Result<Self, ServerError> {
        let Ground { identity, formation, state, log, folders, security, dialer, traffic } = ground;
        let (cluster, member) = (identity.cluster(), identity.member());
        let clock = Clock::start();
        let (store, view) = Store::open(state.engine(), config.store.clone())?;
        let (ledger, ledger_view) = Ledger::open(state.engine())?;
        let lessor = Arc::new(Mutex::new(Lessor::new(config.store.lease_checkpoint_interval)));
        let sweeper = store.sweeper();
        let tokens = Arc::new(SimpleTokens::new(config.auth.token_ttl, clock));
        let auth = Authenticator::new(&config.auth, Arc::clone(&tokens), state.engine().workers())?;
        let metrics = Arc::new(Metrics::new(traffic));
        let machine = StateMachine::new(
            state.clone(),
            (store, ledger),
            (Arc::clone(&lessor), tokens),
            config.release,
            (clock, Arc::clone(&metrics)),
        );
        let state_path = || config.data_dir.join(STATE);
        let machine = machine.map_err(|source| ServerError::Engine { path: state_path(), source })?;
        let guards_mesh = machine.founded();
        let raft_config = raft_config(&config, cluster, member, formation);
        let way = dialer.clone().unwrap_or_else(|| Arc::new(raft::Alone));
        let raft = Raft::start(raft_config, log, machine, way).await?;
        info!(%member, %cluster, revision = %view.revision(), data_dir = %config.data_dir.display(), "member started");

        let space = Space::new(state.clone(), folders, config.store.quota_backend_bytes);
        let space =
            Arc::new(space.map_err(|source| ServerError::Engine { path: config.data_dir.join(STATE), source })?);
        let leadership = raft.leadership();
        let core = Arc::new(Core::new(
            raft,
            (view, space),
            guards_mesh,
            (auth, lessor),
            (clock, Arc::clone(&metrics)),
            config,
            (cluster, member, Links::new(dialer)),
        ));
        if core.raft.leadership().borrow().acting {
            publish::once(&core, &identity).await.map_err(|error| error.map_or(ServerError::Unplaced, Into::into))?;
        }
        let publish = tokio::spawn(publish::run(Arc::clone(&core), identity, core.stop.clone()));
        let promote = tokio::spawn(promote::run(Arc::clone(&core), core.stop.clone()));
        let upgrade = tokio::spawn(upgrade::run(Arc::clone(&core), core.stop.clone()));
        let expiry = tokio::spawn(expiry::run(Arc::clone(&core), core.stop.clone()));
        let settle = tokio::spawn(settle::run(Arc::clone(&core), core.stop.clone()));
        let compactor = tokio::spawn(compactor::run(Arc::clone(&core), core.stop.clone()));
        let compare = tokio::spawn(compare::run(Arc::clone(&core), core.stop.clone()));
        let space = tokio::spawn(space::run(Arc::clone(&core), core.stop.clone()));
        let stop = core.stop.clone();
        let leaders = tokio::spawn(async move { metrics.watch_leaders(leadership, stop).await });
        let sweep = tokio::spawn(sweep(sweeper, core.stop.clone()));
        let mut background = vec![publish, promote, upgrade, expiry, settle, compactor, compare, space, sweep, leaders];
        if let Some(security) = security.clone() {
            let stop = core.stop.clone();
            let fresh = async move {
                let _stopped = stop.run_until_cancelled(security.keep_fresh()).await;
            };
            background.push(tokio::spawn(fresh));
        }
        let methods = Arc::new(http::Methods::new());
        let snapshots = Snapshots::default();
        Ok(Self { core, state, ledger: ledger_view, methods, snapshots, security, background })
    }

    /// etcd's services, as the client port offers them.
    pub fn routes(&self) -> Routes {
        self.services(Side::Clients, &self.core.config.store)
    }

    /// `routes`, which are [`Member::routes`] and what else stands beside them, with their calls counted.
    pub fn grpc(&self, routes: Routes) -> GrpcFace {
        let kv = Gates::new(Arc::clone(&self.core), Side::Clients).guard(self.kv(&self.core.config.store));
        GrpcFace::new(routes, Some(kv), Arc::clone(&self.core.calls))
    }

    /// What the member says over HTTP. The JSON gateway calls `services`, and counts where they count.
    pub fn http(&self, services: GrpcFace, access: Arc<Access>, serves: Serves) -> HttpFace {
        let request_bytes = self.core.config.store.request_bytes_max + REQUEST_OVERHEAD_BYTES;
        let methods = Arc::clone(&self.methods);
        HttpFace::new(Arc::clone(&self.core), methods, services, request_bytes, access, serves)
    }

    /// etcd's services for the control plane in this process, which authenticates its own callers: it may write
    /// `/mesh/`, and many keys in one transaction.
    pub fn control_plane_routes(&self) -> Routes {
        let limits = store::Limits {
            txn_ops_max: CONTROL_PLANE_TXN_OPS_MAX,
            request_bytes_max: CONTROL_PLANE_REQUEST_BYTES_MAX,
            ..self.core.config.store.clone()
        };
        self.services(Side::ControlPlane, &limits)
    }

    fn kv(&self, limits: &store::Limits) -> KvService {
        let face = KvFace { core: Arc::clone(&self.core), limits: limits.clone() };
        KvService::new(face, limits.request_bytes_max + REQUEST_OVERHEAD_BYTES)
    }

    fn services(&self, side: Side, limits: &store::Limits) -> Routes {
        let (core, limits) = (&self.core, limits.clone());
        let kv = KvFace { core: Arc::clone(core), limits: limits.clone() };
        let service = self.kv(&limits);
        let lease = LeaseFace { core: Arc::clone(core), limits };
        let snapshots = self.snapshots.clone();
        let maintenance = MaintenanceFace { core: Arc::clone(core), state: self.state.clone(), snapshots };
        let sessions = Sessions { core: Arc::clone(core), kv: kv.clone(), lease: lease.clone() };
        Gates::new(Arc::clone(core), side)
            .offer(service)
            .offer(WatchServer::new(WatchFace(Arc::clone(core))))
            .offer(LeaseServer::new(lease).max_encoding_message_size(usize::MAX))
            .offer(ClusterServer::new(ClusterFace(Arc::clone(core))))
            .offer(MaintenanceServer::new(maintenance))
            .offer(AuthServer::new(AuthFace(Arc::clone(core))))
            .offer(LockServer::new(LockFace(sessions.clone())))
            .offer(ElectionServer::new(ElectionFace(sessions)))
            .offer(UpgradeServer::new(UpgradeFace(Arc::clone(core))))
            .into_routes()
    }

    /// What the other members reach; `None` for a member that has nothing to prove itself by.
    ///
    /// # Errors
    /// [`ServerError::Credentials`] if its certificates can not be used.
    pub fn peer_port(&self) -> Result<Option<PeerPort>, ServerError> {
        let Some(security) = &self.security else { return Ok(None) };
        let peers = PeersServer::new(PeersFace(Arc::clone(&self.core)));
        let traffic = &self.core.metrics.traffic;
        let log = Guarded::new(security, traffic, self.core.raft.service());
        let routes = Routes::new(log).add_service(Guarded::new(security, traffic, peers));
        let proves_members = matches!(security, PeerSecurity::Own { .. });
        Ok(Some(PeerPort { tls: security.server_config()?, proves_members, routes }))
    }

    /// What the other members reach in a simulation, whose network lets in nobody else.
    pub fn simulated_peer_routes(&self) -> Routes {
        Routes::new(self.core.raft.service()).add_service(PeersServer::new(PeersFace(Arc::clone(&self.core))))
    }

    /// Whether a change of voters is under way, as far as this member has heard.
    pub fn is_changing_voters(&self) -> bool {
        self.core.raft.is_changing_voters()
    }

    /// Makes the authority by which members know one another, unless there is one. It is used from the next start on.
    ///
    /// # Errors
    /// [`ServerError::Authority`] if its keys can not be written, or are another cluster's.
    pub fn found_member_authority(&self) -> Result<(), ServerError> {
        let custody = member_custody(&self.core.config.data_dir);
        MemberAuthority::found(&custody, &members_of(self.core.cluster), Time::now())?;
        Ok(())
    }

    /// Keeps the ledger's time near this member's clock while it leads, until dropped.
    pub fn keep_ledger_time(&self) -> impl Future<Output = ()> + Send + 'static {
        ledger::keep_time(Arc::clone(&self.core), self.ledger.clone())
    }

    /// How the cluster grows, for the mesh port: the administrator invites, and who is invited joins.
    pub fn membership(&self, issuer: Arc<Issuer>) -> MembershipServer<impl Membership> {
        MembershipServer::new(JoiningFace::new(Arc::clone(&self.core), issuer))
    }

    /// The CA's ledger as this member has applied it.
    pub fn ledger(&self) -> ca::LedgerView {
        self.ledger.clone()
    }

    /// Where the CA proposes its commands.
    pub fn ledger_log(&self) -> Arc<dyn ca::Log> {
        Arc::new(LedgerLog(Arc::clone(&self.core)))
    }

    /// Returns why the member cannot go on, if ever: its disk failed, say. Shut it down then.
    pub async fn fatal(&self) -> ServerError {
        tokio::select! {
            error = self.core.raft.fatal() => damage::explained(error.into()),
            what = self.core.damage.found() => ServerError::Damaged(damage::advise(&what)),
            error = self.core.misnamed.wait() => ServerError::Unpublished(error.clone()),
        }
    }

    /// Ends all streams, refuses what is new, lets another member lead, and returns when all is on disk.
    ///
    /// # Errors
    /// What had stopped the member before.
    pub async fn shutdown(self) -> Result<(), ServerError> {
        self.core.stop.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
        for task in self.background {
            if let Err(error) = task.await {
                warn!(%error, "a task of the member had panicked");
            }
        }
        let stopped = self.core.raft.shutdown().await;
        self.state.engine().rest();
        Ok(stopped?)
    }

    /// Has whoever joins given this member's state, instead of the log so far.
    pub(crate) async fn forget_log(&self) -> Result<(), ServerError> {
        Ok(self.core.raft.forget_log().await?)
    }

    /// The member's id.
    pub fn id(&self) -> MemberId {
        self.core.member
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.core.cluster
    }

    /// Writes all of the member's state to a file, as `Maintenance.Snapshot` sends it; gives its length.
    ///
    /// # Errors
    /// See [`SnapshotError`]: there is no file then, or the one that was there.
    pub async fn save_snapshot(&self, path: PathBuf) -> Result<u64, SnapshotError> {
        let (state, about, stop) = (self.state.clone(), snapshot::About::of(&self.core), self.core.stop.clone());
        let saving = tokio::task::spawn_blocking(move || snapshot::save(&state, &about, &stop, &path));
        saving.await.map_err(|_| SnapshotError::Interrupted)?
    }

    /// What the member has published.
    #[cfg(test)]
    pub(crate) fn view(&self) -> store::View {
        self.core.view.clone()
    }

    /// Ends all streams, and lets no lease expire any more; requests are still answered, until [`Member::shutdown`].
    pub fn end_streams(&self) {
        self.core.stop.cancel();
    }
}

/// Takes away what compactions left dead. Without it the store goes on and grows, so a fault here only is told.
async fn sweep(sweeper: Sweeper, stop: CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(sweeper.run()).await {
        error!(%error, "cannot sweep compacted history");
    }
}

pub(crate) fn raft_config(config: &Config, cluster: ClusterId, member: MemberId, formation: Formation) -> raft::Config {
    raft::Config {
        formation,
        force_new_cluster: config.force_new_cluster,
        release: config.release,
        patience: config.request_timeout(),
        heartbeat: config.heartbeat,
        election_timeout: config.election_timeout,
        snapshot_every_entries: config.snapshot_count,
        catch_up_entries: config.catch_up_entries,
        ..raft::Config::new(cluster, member)
    }
}

/// The part of the data directory that holds the member's state.
pub(crate) const STATE: &str = "state";

/// The spaces of a member's state.
pub(crate) fn state_spaces() -> Vec<engine::Space> {
    [Store::SPACES, Ledger::SPACES, &[machine::RAFT]].concat()
}

/// Opens what a member's state is kept on.
pub(crate) fn open_state(path: PathBuf) -> Result<Home, ServerError> {
    let spaces = state_spaces();
    Home::open(&path, &spaces, &Options::default()).map_err(|source| ServerError::Engine { path, source })
}

pub(crate) fn open_log(path: PathBuf) -> Result<Engine, ServerError> {
    Engine::journal(&path, raft::SPACES).map_err(|source| ServerError::Engine { path, source })
}

/// Makes a folder for its owner alone.
pub(crate) fn make_private(path: &Path) -> Result<(), ServerError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ServerError::DataDir { path: path.to_owned(), source })
}
