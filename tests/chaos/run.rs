//! One run: a cluster whose network is ours, under load and watched, and the judgement at its end.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use client::{Client, StatusResponse};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    harness::{Cluster, certificates::peer_certificates_for, eventually, free_port, listening},
    history::{self, History, Outcome, Recorder, Report, Request},
    namespaces::Namespaces,
    net::Net,
    relay::Relay,
    translate,
    watchers::Watchers,
    workload::{self, Workload},
};

/// Clients of each member.
const CLIENTS: usize = 4;
/// Elections in a fifth of the time that they take by default: a run has many. And so short a log that who was away may need
/// an image.
const FLAGS: [&str; 4] =
    ["--heartbeat-interval=40", "--election-timeout=200", "--snapshot-count=200", "--snapshot-catchup-entries=50"];

/// A cluster under load. Dropped while a test fails, it keeps the history and says where it is.
pub(crate) struct Run {
    name: &'static str,
    seed: u64,
    pub(crate) dice: Xoshiro256PlusPlus,
    pub(crate) cluster: Cluster,
    pub(crate) net: Arc<Net>,
    relays: Vec<Relay>,
    /// In the place of relays.
    pub(crate) namespaces: Option<Namespaces>,
    recorder: Arc<Recorder>,
    pub(crate) load: Workload,
    watchers: Watchers,
    flags: Vec<String>,
    /// The places of members that were removed.
    removed: Vec<usize>,
    /// Puts beside the load.
    puts: AtomicU64,
    _certificates: TempDir,
}

impl Run {
    /// Three members with their data in a temporary folder.
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::start_on(name, &[]).await
    }

    /// Three members, each in a network namespace.
    pub(crate) async fn start_in(name: &'static str, namespaces: Namespaces) -> Self {
        Self::start_with(name, &[], Some(namespaces)).await
    }

    /// Three members, each with its data in the folder at its place, if there is one.
    pub(crate) async fn start_on(name: &'static str, folders: &[PathBuf]) -> Self {
        Self::start_with(name, folders, None).await
    }

    async fn start_with(name: &'static str, folders: &[PathBuf], namespaces: Option<Namespaces>) -> Self {
        let seed = knob("SEED").unwrap_or(1);
        let certificates = tempfile::tempdir().unwrap();
        let here = || Ipv4Addr::LOCALHOST.into();
        let address = |at| namespaces.as_ref().map_or_else(here, |namespaces| namespaces.address(at));
        let members = [("a", address(0)), ("b", address(1)), ("c", address(2))];
        let mut flags = peer_certificates_for(&members.map(|(_, address)| address), certificates.path());
        flags.extend(FLAGS.map(str::to_owned));
        flags.extend(namespaces.iter().map(|_| "--insecure-plaintext".to_owned()));
        let begun = Instant::now();
        let clock = move || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let recorder = Arc::new(Recorder::new(clock));
        let cluster = Cluster::planned_at(&members, &flags);
        let (load, watchers) = (Workload::new(Arc::clone(&recorder)), Watchers::new(Arc::clone(&recorder)));
        let dice = Xoshiro256PlusPlus::seed_from_u64(seed);
        let net = Net::new();
        let relays = Vec::new();
        let removed = Vec::new();
        let mut run = Self {
            name,
            seed,
            dice,
            cluster,
            net,
            relays,
            namespaces,
            recorder,
            load,
            watchers,
            flags,
            removed,
            puts: AtomicU64::new(0),
            _certificates: certificates,
        };
        for at in 0..run.cluster.len() {
            if run.namespaces.is_none() {
                run.relay_to(at).await;
            }
            if let Some(folder) = folders.get(at) {
                run.cluster.member_mut(at).data = folder.join("data");
            }
            run.spawn(at);
        }
        let addresses: Vec<_> = (0..run.cluster.len()).map(|at| run.cluster.member(at).etcd).collect();
        run.watchers.anywhere(&addresses);
        for (at, address) in addresses.into_iter().enumerate() {
            listening(address).await;
            run.attend(at);
        }
        run.load.progress(50, "at the beginning").await;
        run
    }

    /// Others reach a member through a relay of its own.
    async fn relay_to(&mut self, at: usize) {
        let (outside, inside) = (self.cluster.member(at).peer, free_port());
        self.cluster.member_mut(at).listen_to_peers(inside);
        self.relays.push(Relay::start(Arc::clone(&self.net), at, outside, inside).await.unwrap());
    }

    /// Clients and watchers of a member.
    fn attend(&mut self, at: usize) {
        let (name, address) = self.named(at);
        self.load.add(&name, address, CLIENTS, self.seed);
        self.watchers.of(&name, address);
    }

    fn named(&self, at: usize) -> (String, SocketAddr) {
        let member = self.cluster.member(at);
        (member.name.clone(), member.etcd)
    }

    /// The places of all members that were not removed.
    pub(crate) fn members(&self) -> Vec<usize> {
        (0..self.cluster.len()).filter(|at| !self.removed.contains(at)).collect()
    }

    /// Starts a member on what it has; returns before it does anything.
    pub(crate) fn spawn(&mut self, at: usize) {
        self.spawn_under(at, &[]);
    }

    /// The same, as the last words of a command that becomes it.
    pub(crate) fn spawn_under(&mut self, at: usize, command: &[&str]) {
        let within = self.namespaces.as_ref().map(|namespaces| namespaces.within(at));
        let within = within.iter().flatten().map(String::as_str);
        self.cluster.spawn_under(at, &within.chain(command.iter().copied()).collect::<Vec<_>>());
        let process = self.process(at);
        self.net.runs(at, Some(process));
    }

    /// The process of a member that runs.
    pub(crate) fn process(&mut self, at: usize) -> u32 {
        self.cluster.member_mut(at).process().unwrap().id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) {
        self.cluster.kill(at);
        self.net.runs(at, None);
    }

    /// SIGSTOP: it does nothing, and does not know it.
    pub(crate) fn pause(&mut self, at: usize) {
        self.cluster.member_mut(at).process().unwrap().signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, at: usize) {
        self.cluster.member_mut(at).process().unwrap().signal(Signal::CONT);
    }

    /// Waits until a member has ended by itself; its exit code and what it said.
    pub(crate) async fn ended(&mut self, at: usize) -> (Option<i32>, String) {
        let ended = self.cluster.ended(at).await;
        self.net.runs(at, None);
        ended
    }

    /// Whether a member's process has ended by itself.
    pub(crate) fn has_ended(&mut self, at: usize) -> bool {
        self.cluster.member_mut(at).process().is_none_or(|process| process.ended().is_some())
    }

    /// No member has ended that nobody has ended.
    pub(crate) fn everybody_lives(&mut self) {
        for at in 0..self.cluster.len() {
            let name = self.cluster.member(at).name.clone();
            if let Some(process) = self.cluster.member_mut(at).process() {
                let ended = process.ended();
                assert!(ended.is_none(), "member {name} has ended by itself: {ended:?}");
            }
        }
    }

    /// A member that is to join; it is added by whoever calls, and runs already.
    pub(crate) async fn join(&mut self, name: &str) -> usize {
        let at = self.cluster.add_formed(name, &self.flags.clone());
        self.relay_to(at).await;
        at
    }

    /// The load goes through a member that has joined, too.
    pub(crate) fn joined(&mut self, at: usize) {
        self.attend(at);
    }

    /// A member was removed, and its process has ended.
    pub(crate) fn removed(&mut self, at: usize) {
        self.removed.push(at);
    }

    /// A client of one member that does not wait for long.
    pub(crate) fn client_of(&self, at: usize) -> Client {
        Client::connect(&workload::config(self.cluster.member(at).etcd)).unwrap()
    }

    /// A client of all members that were not removed.
    pub(crate) fn client(&self) -> Client {
        let endpoints = self.members().into_iter().map(|at| self.cluster.member(at).etcd.to_string());
        Client::connect(&client::Config::new(endpoints)).unwrap()
    }

    /// Puts something through a member, beside the load.
    pub(crate) async fn put(&self, at: usize) -> Outcome {
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        let request = Request::put("beside", format!("beside-{number}"));
        let call = self.recorder.call(u32::MAX, &self.named(at).0, request.clone());
        let outcome = translate::ask(&self.client_of(at), &request).await;
        self.recorder.returned(call, outcome.clone());
        outcome
    }

    /// The place of the member that leads, as any of them says of itself.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_but(&[]).await
    }

    /// The same, of those who are not `excluded`.
    pub(crate) async fn leader_but(&self, excluded: &[usize]) -> usize {
        let asked: Vec<_> = self.members().into_iter().filter(|at| !excluded.contains(at)).collect();
        let leads = |status: &StatusResponse| status.leader != 0 && status.leader == status.header.member_id;
        let leading = || async {
            let mut newest = None;
            for at in &asked {
                if let Ok(status) = self.client_of(*at).status().await
                    && leads(&status)
                {
                    newest = newest.max(Some((status.raft_term, *at)));
                }
            }
            newest.map(|(_, at)| at)
        };
        eventually("a leader", leading).await
    }

    /// Everything passes between members.
    pub(crate) fn heal(&self) {
        self.net.heal();
        if let Some(namespaces) = &self.namespaces {
            namespaces.heal();
        }
    }

    /// Whether writes are acknowledged again, with everybody who is not down.
    pub(crate) async fn serves(&self, what: &str) {
        self.load.progress(20, what).await;
    }

    /// Ends the faults, then the load, and judges. Everybody must come back and have the same.
    pub(crate) async fn finish(mut self) {
        self.heal();
        for at in self.members() {
            if self.cluster.member_mut(at).process().is_none() {
                self.spawn(at);
            }
        }
        self.serves("after all faults").await;
        self.load.stop().await;
        let revision = self.read_everywhere().await;
        self.same_everywhere(revision).await;
        self.everybody_lives();
        let gone: Vec<_> = self.removed.iter().map(|at| self.cluster.member(*at).name.clone()).collect();
        self.watchers.caught_up(revision, &gone).await;
        let history = self.recorder.history();
        let report = judge(&history);
        assert_eq!(report.revision, revision, "the last revision");
        eprintln!("{}: seed {}: {report}", self.name, self.seed);
    }

    /// Every member answers a linearizable read, and a serializable one; the last revision.
    async fn read_everywhere(&self) -> i64 {
        let mut last = 0;
        for at in self.members() {
            let ((name, _), client) = (self.named(at), self.client_of(at));
            for serializable in [false, true] {
                let read = || workload::read_all(&self.recorder, &name, &client, serializable);
                last = last.max(eventually(&format!("a read through {name}"), read).await);
            }
        }
        last
    }

    /// The members' keys and histories hash alike.
    async fn same_everywhere(&self, revision: i64) {
        let mut hashes = Vec::new();
        for at in self.members() {
            let client = self.client_of(at);
            let hash = || async { client.hash_kv(types::Revision::new(revision)).await.ok() };
            hashes.push((self.named(at).0, eventually("a hash", hash).await.hash));
        }
        assert!(hashes.iter().all(|(_, hash)| *hash == hashes[0].1), "members differ: {hashes:?}");
    }

    /// Keeps the history and the members' logs until this test fails again; gives the folder.
    fn keep(&self) -> io::Result<PathBuf> {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos").join(self.name);
        if kept.exists() {
            fs::remove_dir_all(&kept)?;
        }
        fs::create_dir_all(&kept)?;
        self.recorder.history().save(&kept.join("history.jsonl"))?;
        for file in fs::read_dir(self.cluster.path(""))? {
            let log = file?.path();
            if let (Some("log"), Some(name)) = (log.extension().and_then(OsStr::to_str), log.file_name()) {
                fs::copy(&log, kept.join(name))?;
            }
        }
        Ok(kept)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("net: {:?}", self.net);
            match self.keep() {
                Ok(kept) => eprintln!("history and logs: {}", kept.display()),
                Err(error) => eprintln!("cannot keep the history: {error}"),
            }
            let Self { name, seed, .. } = self;
            eprintln!("again: MESHSTORE_CHAOS_SEED={seed} cargo test --test chaos {name}");
        }
    }
}

/// A history's report, or all that is wrong with it.
fn judge(history: &History) -> Report {
    history::check(history).unwrap_or_else(|violations| {
        let all: Vec<_> = violations.iter().map(ToString::to_string).collect();
        panic!("{} violations:\n{}", all.len(), all.iter().take(20).cloned().collect::<Vec<_>>().join("\n"))
    })
}

/// A number from the environment.
fn knob(name: &str) -> Option<u64> {
    let value = env::var(format!("MESHSTORE_CHAOS_{name}")).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("MESHSTORE_CHAOS_{name}={value} is no number")))
}

/// So often as CI does something, multiplied by `MESHSTORE_CHAOS_TIMES`.
pub(crate) fn times(count: u64) -> u64 {
    count * knob("TIMES").unwrap_or(1)
}

/// A while that is not always the same.
pub(crate) async fn a_while(dice: &mut Xoshiro256PlusPlus, longest: Duration) {
    use rand::RngExt;
    tokio::time::sleep(dice.random_range(Duration::ZERO..longest)).await;
}

#[test]
#[ignore = "checks the file that MESHSTORE_CHAOS_HISTORY names"]
fn saved_history() {
    let file = env::var("MESHSTORE_CHAOS_HISTORY").expect("MESHSTORE_CHAOS_HISTORY names a file");
    eprintln!("{}", judge(&History::load(Path::new(&file)).unwrap()));
}
