//! The room as its users see it, on a small machine that keeps a journal of what it applied.

mod cluster;
mod copies;
mod elections;
mod forced;
mod images;
pub(crate) mod journal;
mod membership;
mod net;
mod proposals;
mod refusals;
mod releases;
mod restarts;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Options, Read, Space};

use self::journal::{Collections, Journal};
use crate::{Alone, ClusterId, Config, MemberId, Raft, RaftError, SPACES};

/// What a member keeps.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) log: Engine,
    pub(crate) state: Engine,
    pub(crate) collections: Collections,
}

impl Disk {
    pub(crate) fn in_memory() -> Self {
        Self {
            log: Engine::in_memory(SPACES),
            state: Engine::in_memory(journal::SPACES),
            collections: Collections::default(),
        }
    }

    fn open(dir: &Path) -> Self {
        let options = Options::default();
        Self {
            log: Engine::open(&dir.join("log"), SPACES, &options).unwrap(),
            state: Engine::open(&dir.join("state"), journal::SPACES, &options).unwrap(),
            collections: Collections::default(),
        }
    }

    /// All that is on it now, on another disk.
    fn copy(&self) -> Self {
        Self {
            // What is applied is in the log; not the other way round, if somebody writes meanwhile.
            state: copy(&self.state, journal::SPACES),
            log: copy(&self.log, SPACES),
            collections: Collections::default(),
        }
    }

    pub(crate) async fn start(&self, config: Config) -> Result<Raft<Journal>, RaftError> {
        Raft::start(config, self.log.clone(), Journal::new(self.state.clone()), Arc::new(Alone)).await
    }
}

pub(crate) fn copy(from: &Engine, spaces: &'static [Space]) -> Engine {
    let (to, mut batch) = (Engine::in_memory(spaces), Batch::new());
    for space in spaces {
        from.rows(*space).unwrap().into_iter().for_each(|(key, value)| batch.put(*space, key, value));
    }
    to.write(batch, Durability::Synced).unwrap();
    to
}

/// An election timeout that no test lives to see: whatever works with it does not wait for one.
pub(crate) fn config() -> Config {
    let election_timeout = Duration::from_hours(1);
    Config { election_timeout, ..Config::new(ClusterId(0xc1), MemberId(0xa)) }
}

pub(crate) fn command(number: usize) -> Bytes {
    Bytes::from(format!("command {number}"))
}
