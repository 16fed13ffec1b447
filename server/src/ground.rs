//! What a member stands on: its disk, who that says it is, and the way to the others.
//!
//! - In a simulation both are somebody else's: the disk outlives the member, and loses what a crash takes.

use std::{path::PathBuf, sync::Arc};

use engine::{Engine, Home, Pace};
use raft::{ClusterId, Dialer, Formation, MemberId};

use crate::{
    Config, ServerError,
    identity::Identity,
    log_place, machine,
    member::{STATE, open_log, open_state, raft_config, state_spaces},
    peers::{PeerDialer, PeerSecurity, Traffic},
    start::{self, Beginning},
};

/// All that a member needs before anything of it runs.
pub(crate) struct Ground {
    pub(crate) identity: Identity,
    /// What it does if its log is empty.
    pub(crate) formation: Formation,
    pub(crate) state: Home,
    pub(crate) log: Engine,
    /// Where the disks are that others fill too.
    pub(crate) folders: Vec<PathBuf>,
    /// How it proves itself to others.
    pub(crate) security: Option<PeerSecurity>,
    /// The way to them; `None`: there is none.
    pub(crate) dialer: Option<Arc<dyn Dialer>>,
    /// What passes on it, and on theirs to this one.
    pub(crate) traffic: Arc<Traffic>,
}

impl Ground {
    /// The data directory, which is there.
    pub(crate) async fn of_data_dir(config: &Config) -> Result<Self, ServerError> {
        let Beginning { identity, formation, security } = start::begin(config).await?;
        let state_folder = config.data_dir.join(STATE);
        let state = open_state(state_folder.clone())?;
        let is_new = machine::is_new(&state.engine());
        let is_new = is_new.map_err(|source| ServerError::Engine { path: state_folder, source })?;
        let log_folder = log_place::find(&config.data_dir, config.wal_dir.as_deref(), is_new)?;
        let log = open_log(log_folder.clone())?;
        let traffic = Arc::<Traffic>::default();
        let dialer = security.clone().map(|security| -> Arc<dyn Dialer> {
            let raft_config = raft_config(config, identity.cluster(), identity.member(), formation.clone());
            Arc::new(PeerDialer::new(security, raft_config, Arc::clone(&traffic)))
        });
        let folders = vec![config.data_dir.clone(), log_folder];
        Ok(Self { identity, formation, state, log, folders, security, dialer, traffic })
    }

    /// A simulation's.
    pub(crate) fn simulated(
        config: &Config,
        disk: &SimulatedDisk,
        joined: Option<(ClusterId, MemberId)>,
        dialer: Arc<dyn Dialer>,
    ) -> Self {
        let (identity, formation) = start::of_simulation(config, joined);
        let (state, log) = (disk.state.clone(), disk.log.clone());
        let traffic = Arc::default();
        Self { identity, formation, state, log, folders: vec![], security: None, dialer: Some(dialer), traffic }
    }
}

/// A member's disk in a simulation. It outlives the member, as disks do; clones share it.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Home,
    log: Engine,
}

impl SimulatedDisk {
    /// An empty disk, as fast as `pace` allows.
    pub fn new(pace: &Pace) -> Self {
        let state = Home::simulated(&state_spaces(), pace.clone());
        Self { state, log: Engine::simulated(raft::SPACES, pace.clone()) }
    }

    /// Takes the power from the disk while no member runs on it: what was not synced is lost, but for a first part that
    /// `kept` chooses of so many batches.
    pub fn lose_power(&self, mut kept: impl FnMut(usize) -> usize) {
        for engine in [self.log.clone(), self.state.engine()] {
            engine.crash(kept(engine.unsynced_batches()));
        }
    }
}
