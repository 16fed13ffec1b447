//! A member's place in a run: its host, and the disk that outlives it.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use engine::Pace;
use futures_util::FutureExt;
use raft::{ClusterId, MemberId, RaftError};
use server::{AuthConfig, Config, Founder, Founding, Member, ServerError, SimulatedDisk};
use tokio::{sync::Notify, time::sleep};
use tonic::service::Routes;

use crate::{
    network::{CLIENT_PORT, Dial, PEER_PORT, serve},
    plan::Plan,
    wall_clock::WallClock,
};

/// A disk's usual time for a sync, at most.
const SYNC_MICROS: u64 = 1_500;

/// How often it is looked at whether a change of voters is under way.
const LOOK: Duration = Duration::from_millis(50);

/// Which member sits there, and what stays of it while it is down. Clones share it.
#[derive(Clone)]
pub(crate) struct Seat(Arc<Inner>);

struct Inner {
    name: String,
    founding: Founding,
    joined: Option<(ClusterId, MemberId)>,
    plan: Plan,
    disk: SimulatedDisk,
    speed: Arc<Speed>,
    wall_clock: WallClock,
    /// It is to shut down in order.
    leave: Notify,
    /// It was told that it is no member any more.
    removed: AtomicBool,
    /// It knew of a change of voters under way when that was looked at last.
    changes_voters: AtomicBool,
}

/// How slow a disk is.
#[derive(Default)]
struct Speed {
    sync_micros_max: AtomicU64,
}

impl Speed {
    async fn wait(&self) {
        let most = self.sync_micros_max.load(Ordering::Relaxed);
        let micros = rand::random_range(0..=most);
        sleep(Duration::from_micros(micros)).await;
    }
}

impl Seat {
    /// Of one of the founders, who are named `m1`, `m2` and so on.
    pub(crate) fn founder(number: usize, plan: &Plan) -> Self {
        let others = (1..=plan.members).map(|number| Founder { name: name(number), peer_urls: peer_urls(number) });
        let founding = if plan.members == 1 { Founding::Alone } else { Founding::Among(others.collect()) };
        Self::new(number, founding, None, plan)
    }

    /// Of a member that was added to the cluster.
    pub(crate) fn joiner(number: usize, ids: (ClusterId, MemberId), plan: &Plan) -> Self {
        Self::new(number, Founding::Alone, Some(ids), plan)
    }

    fn new(number: usize, founding: Founding, joined: Option<(ClusterId, MemberId)>, plan: &Plan) -> Self {
        let speed = Arc::new(Speed { sync_micros_max: AtomicU64::new(SYNC_MICROS) });
        let pace = {
            let speed = Arc::clone(&speed);
            Pace::new(move || {
                let speed = Arc::clone(&speed);
                Box::pin(async move { speed.wait().await })
            })
        };
        let (disk, plan, wall_clock) = (SimulatedDisk::new(&pace), plan.clone(), WallClock::new(plan.seed, number));
        let name = name(number);
        let (leave, removed, changes_voters) = (Notify::new(), AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Inner { name, founding, joined, plan, disk, speed, wall_clock, leave, removed, changes_voters }))
    }

    /// Its host's name.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// What the host runs, each time it starts. It ends when it was asked to, and fails when the member had to stop.
    pub(crate) async fn run(self) -> Result<(), Box<dyn Error>> {
        self.0.wall_clock.show_here();
        match self.take_part().await {
            Err(ServerError::Raft(RaftError::Removed)) => {
                self.0.removed.store(true, Ordering::Relaxed);
                Ok(())
            }
            ended => ended.map_err(|error| format!("member {} stopped: {error}", self.name()).into()),
        }
    }

    async fn take_part(&self) -> Result<(), ServerError> {
        // That the one before was asked to leave is not meant for this one.
        let _stale = self.0.leave.notified().now_or_never();
        let config = self.config();
        let raft = raft::Config {
            heartbeat: config.heartbeat,
            election_timeout: config.election_timeout,
            ..raft::Config::new(ClusterId(0), MemberId(0))
        };
        let member = Member::simulated(config, &self.0.disk, self.0.joined, Arc::new(Dial(raft))).await?;
        let ports = [serving(PEER_PORT, member.simulated_peer_routes()), serving(CLIENT_PORT, member.routes())];
        let ended = tokio::select! {
            error = member.fatal() => {
                drop(member.shutdown().await);
                Err(error)
            }
            () = self.0.leave.notified() => member.shutdown().await,
            () = self.look_at_voters(&member) => Ok(()),
        };
        ports.iter().for_each(tokio::task::JoinHandle::abort);
        ended
    }

    /// Does not end.
    async fn look_at_voters(&self, member: &Member) {
        loop {
            self.0.changes_voters.store(member.is_changing_voters(), Ordering::Relaxed);
            sleep(LOOK).await;
        }
    }

    fn config(&self) -> Config {
        let Inner { name, founding, plan, .. } = &*self.0;
        let defaults = store::Limits::default();
        Config {
            name: name.clone(),
            advertise_client_urls: vec![format!("http://{name}:{CLIENT_PORT}")],
            advertise_peer_urls: vec![format!("https://{name}:{PEER_PORT}")],
            founding: founding.clone(),
            learners_max: 2,
            heartbeat: plan.heartbeat,
            election_timeout: plan.election_timeout,
            snapshot_count: plan.snapshot_count,
            catch_up_entries: plan.catch_up_entries,
            store: store::Limits {
                lease_ttl_min: Duration::from_secs(1),
                watch_queue: store::QueueLimits { revisions: plan.watch_queue, ..defaults.watch_queue },
                sweep_rows: plan.sweep_rows,
                lease_checkpoint_interval: Duration::from_secs(2),
                recent_bytes_max: 4 << 10,
                ..defaults
            },
            auth: AuthConfig { bcrypt_cost: 4, token_ttl: plan.token_ttl, ..AuthConfig::default() },
            watch_progress_interval: Duration::from_secs(1),
            ..Config::default()
        }
    }

    pub(crate) fn wall_clock(&self) -> &WallClock {
        &self.0.wall_clock
    }

    /// Asks the member to shut down in order.
    pub(crate) fn leave(&self) {
        self.0.leave.notify_one();
    }

    /// Whether the member has stopped because it was removed.
    pub(crate) fn was_removed(&self) -> bool {
        self.0.removed.load(Ordering::Relaxed)
    }

    /// Whether the member lately knew of a change of voters that was not complete.
    pub(crate) fn changes_voters(&self) -> bool {
        self.0.changes_voters.load(Ordering::Relaxed)
    }

    /// Takes what was not synced from the disk of a member that does not run, but for what `kept` chooses.
    pub(crate) fn lose_power(&self, kept: impl FnMut(usize) -> usize) {
        self.0.disk.lose_power(kept);
    }

    /// From now on a sync takes up to so long; `None`: as it usually does.
    pub(crate) fn slow_disk(&self, sync_max: Option<Duration>) {
        let micros = sync_max.map_or(SYNC_MICROS, |sync| u64::try_from(sync.as_micros()).unwrap_or(u64::MAX));
        self.0.speed.sync_micros_max.store(micros, Ordering::Relaxed);
    }
}

/// A port that is served for as long as the host runs.
fn serving(port: u16, routes: Routes) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        serve(port, routes).await.expect("a simulated port can be served");
    })
}

/// The name of a member's host.
pub(crate) fn name(number: usize) -> String {
    format!("m{number}")
}

/// Where other members reach it.
pub(crate) fn peer_urls(number: usize) -> Vec<String> {
    vec![format!("https://{}:{PEER_PORT}", name(number))]
}
