//! Members in one process, each on a disk of its own.

use std::{collections::BTreeMap, future::Future, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{Disk, journal, journal::Journal, net::Net};
use crate::{ClusterId, Config, Formation, Leadership, MemberId, Node, Raft, RaftError};

/// Whatever takes longer than this will never come.
const NEVER: Duration = Duration::from_mins(2);

pub(super) struct Cluster {
    pub(super) net: Net,
    pub(super) members: BTreeMap<u64, Running>,
    pub(super) disks: BTreeMap<u64, Disk>,
    /// How members are started, but for who they are.
    pub(super) config: Config,
    pub(super) founders: Vec<u64>,
}

pub(super) struct Running {
    pub(super) raft: Raft<Journal>,
    server: JoinHandle<()>,
}

pub(super) fn node(member: u64) -> Node {
    Node { name: format!("m{member}"), peer_urls: vec![format!("http://m{member}:2380")], ..Node::default() }
}

impl Cluster {
    /// Founds a cluster of members 1 to `founders`.
    pub(super) async fn found(founders: u64) -> Self {
        Self::found_with(founders, |config| config).await
    }

    pub(super) async fn found_with(founders: u64, change: impl FnOnce(Config) -> Config) -> Self {
        let config = Config {
            heartbeat: Duration::from_millis(40),
            election_timeout: Duration::from_millis(600),
            patience: NEVER,
            ..Config::new(ClusterId(0xc1), MemberId(1))
        };
        let founders: Vec<u64> = (1..=founders).collect();
        let (members, disks) = (BTreeMap::new(), BTreeMap::new());
        let mut cluster = Self { net: Net::new(), members, disks, config: change(config), founders: founders.clone() };
        for member in founders {
            cluster.start(member).await;
        }
        cluster
    }

    /// What the founders of this cluster start with.
    pub(super) fn founding(&self) -> Formation {
        Formation::Found(self.founders.iter().map(|founder| (MemberId(*founder), node(*founder))).collect())
    }

    pub(super) async fn try_start(&mut self, member: u64, formation: Formation) -> Result<(), RaftError> {
        let disk = self.disks.entry(member).or_insert_with(Disk::in_memory).clone();
        let config = Config { member: MemberId(member), formation, ..self.config.clone() };
        let dialer = self.net.dialer(&config);
        let machine = Journal::new(disk.state.clone()).collecting_in(disk.collections.clone());
        let raft = Raft::start(config, disk.log.clone(), machine, dialer).await?;
        let server = self.net.serve(member, &raft);
        self.members.insert(member, Running { raft, server });
        Ok(())
    }

    pub(super) async fn start(&mut self, member: u64) {
        let formation = if self.founders.contains(&member) { self.founding() } else { Formation::Join };
        self.try_start(member, formation).await.unwrap();
    }

    /// Stops a member in order.
    pub(super) async fn stop(&mut self, member: u64) -> Result<(), RaftError> {
        let Running { raft, server } = self.members.remove(&member).unwrap();
        let stopped = raft.shutdown().await;
        self.net.close(member);
        server.abort();
        stopped
    }

    pub(super) async fn end(mut self) {
        self.net.heal();
        while let Some(member) = self.members.keys().next().copied() {
            drop(self.stop(member).await);
        }
    }

    pub(super) fn raft(&self, member: u64) -> Raft<Journal> {
        self.members[&member].raft.clone()
    }

    pub(super) fn journal(&self, member: u64) -> Vec<Bytes> {
        journal::read(&self.disks[&member].state)
    }

    /// The leader that all of `among` know, once it acts as one.
    pub(super) async fn leader_among(&self, among: &[u64]) -> u64 {
        self.until("a leader that all know", || {
            let known: Vec<Leadership> =
                among.iter().map(|member| *self.members[member].raft.leadership().borrow()).collect();
            let leader = known[0].leader?.0;
            let agreed = known.iter().all(|now| now.leader == known[0].leader && now.term == known[0].term);
            let acting = among.contains(&leader) && self.members[&leader].raft.leadership().borrow().acting;
            (agreed && acting).then_some(leader)
        })
        .await
    }

    pub(super) async fn leader(&self) -> u64 {
        let all: Vec<u64> = self.members.keys().copied().collect();
        self.leader_among(&all).await
    }

    pub(super) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.members.keys().find(|member| **member != leader).unwrap()
    }

    /// All members have been in touch with all others.
    pub(super) async fn greeted(&self) {
        let others = self.members.len() - 1;
        let all = || self.members.values().all(|running| running.raft.greeted() == others);
        self.until("greetings", || all().then_some(())).await;
    }

    /// All of `among` have applied the same commands, `count` of them.
    pub(super) async fn agreed(&self, among: &[u64], count: usize) -> Vec<Bytes> {
        self.until("the same commands everywhere", || {
            let first = self.journal(among[0]);
            let equal = first.len() == count && among.iter().all(|member| self.journal(*member) == first);
            equal.then_some(first)
        })
        .await
    }

    /// Looks until there is something.
    pub(super) async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(seen) = look() {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        in_time(what, looking).await
    }
}

/// What comes before it is certain that it never will.
pub(super) async fn in_time<T>(what: &str, coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, coming).await.unwrap_or_else(|_| panic!("no {what} after {NEVER:?}"))
}
