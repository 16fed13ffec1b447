//! Several members of one cluster, each a process with a data directory of its own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use client::{Client, Config};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use types::Release;

use super::{MESHSTORE, Process, eventually, free_port, listening};

/// How `cluster bootstrap` and `cluster join` have a member started.
const EXISTING: &str = "--initial-cluster-state=existing";

/// The members, in the order in which they came.
pub(crate) struct Cluster {
    members: Vec<Member>,
    folder: TempDir,
}

/// One member's process, and where it is.
pub(crate) struct Member {
    pub(crate) name: String,
    process: Option<Process>,
    /// How often it was started.
    starts: usize,
    pub(crate) data: PathBuf,
    pub(crate) etcd: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) mesh: SocketAddr,
    flags: Vec<String>,
    /// It is started as the release before this one.
    pub(crate) is_earlier: bool,
}

impl Member {
    /// On free ports, with a data directory that is not there yet.
    fn new(folder: &Path, name: &str, flags: &[String]) -> Self {
        let (etcd, peer, mesh) = (free_port(), free_port(), free_port());
        let data = folder.join(format!("data-{name}-{}", etcd.port()));
        Self {
            name: name.to_owned(),
            process: None,
            starts: 0,
            data,
            etcd,
            peer,
            mesh,
            flags: flags.to_vec(),
            is_earlier: false,
        }
    }

    /// The same, at another address.
    fn at(mut self, address: IpAddr) -> Self {
        for own in [&mut self.etcd, &mut self.peer, &mut self.mesh] {
            own.set_ip(address);
        }
        self
    }

    /// The program that it runs, and how that is told its release: another program is what it is.
    fn program(&self) -> (String, Option<String>) {
        if !self.is_earlier {
            return (MESHSTORE.to_owned(), None);
        }
        match std::env::var("MESHSTORE_EARLIER") {
            Ok(program) => (program, None),
            Err(_) => (MESHSTORE.to_owned(), Some(format!("--as-release={}", Release::THIS.before()))),
        }
    }

    /// Others go on connecting to [`peer`](Self::peer), where something else is to take their connections to `address`.
    pub(crate) fn listen_to_peers(&mut self, address: SocketAddr) {
        self.flags.push(format!("--listen-peer-urls=https://{address}"));
    }

    /// It is started with this name from now on.
    pub(crate) fn rename(&mut self, name: &str) {
        self.flags.retain(|flag| !flag.starts_with("--name="));
        self.flags.push(format!("--name={name}"));
    }

    /// Another flag, from its next start on.
    pub(crate) fn add_flag(&mut self, flag: &str) {
        self.flags.push(flag.to_owned());
    }

    /// Not any more, from its next start on.
    pub(crate) fn remove_flag(&mut self, flag: &str) {
        self.flags.retain(|one| one != flag);
    }

    /// Its process, if that was started and nobody has ended it.
    pub(crate) fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("https://{}", self.peer)
    }

    pub(crate) fn data_dir(&self) -> &str {
        self.data.to_str().unwrap()
    }
}

impl Cluster {
    /// One member, founded by `cluster bootstrap`, on which the others join.
    pub(crate) async fn bootstrap() -> Self {
        let mut cluster = Self { members: Vec::new(), folder: tempfile::tempdir().unwrap() };
        let member = Member::new(cluster.folder.path(), "a", &[EXISTING.to_owned()]);
        let credentials = cluster.path("credentials");
        let (url, mesh) = (member.peer_url(), member.mesh.to_string());
        let words = ["cluster", "bootstrap", "--data-dir", member.data_dir(), "--credentials-dir", &credentials];
        let more = ["--name", "a", "--initial-advertise-peer-urls", &url, "--invite", "b", "--join-endpoint", &mesh];
        let printed = cluster.run(&[&words[..], &more].concat()).await.unwrap();
        assert!(printed.lines().last().unwrap().starts_with("meshstore cluster join "), "{printed}");
        cluster.members.push(member);
        cluster.start(0).await;
        cluster
    }

    /// Three members, each of which has joined by an invitation and has a vote.
    pub(crate) async fn of_three() -> Self {
        Self::of(3).await
    }

    /// The same, of so many.
    pub(crate) async fn of(count: usize) -> Self {
        let mut cluster = Self::bootstrap().await;
        for name in ["b2", "c", "d", "e", "f", "g"].into_iter().take(count - 1) {
            let line = cluster.invite(&["add", name]).await.unwrap();
            cluster.join(&line, name).await.unwrap();
        }
        cluster.voters(count).await;
        cluster
    }

    /// Members that form their cluster by etcd's flags.
    pub(crate) async fn formed(names: &[&str], flags: &[String]) -> Self {
        let mut cluster = Self::planned(names, flags);
        for at in 0..names.len() {
            cluster.spawn(at);
        }
        for at in 0..names.len() {
            listening(cluster.members[at].etcd).await;
        }
        cluster
    }

    /// The same, before any of them is started.
    pub(crate) fn planned(names: &[&str], flags: &[String]) -> Self {
        let here = names.iter().map(|name| (*name, Ipv4Addr::LOCALHOST.into()));
        Self::planned_at(&here.collect::<Vec<_>>(), flags)
    }

    /// The same, each at an address of its own.
    pub(crate) fn planned_at(members: &[(&str, IpAddr)], flags: &[String]) -> Self {
        let mut cluster = Self { members: Vec::new(), folder: tempfile::tempdir().unwrap() };
        let members =
            members.iter().map(|(name, address)| Member::new(cluster.folder.path(), name, flags).at(*address));
        let members: Vec<_> = members.collect();
        let all: Vec<_> = members.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
        for mut member in members {
            member.flags.extend([
                format!("--initial-cluster={}", all.join(",")),
                format!("--name={}", member.name),
                format!("--initial-advertise-peer-urls={}", member.peer_url()),
            ]);
            cluster.members.push(member);
        }
        cluster
    }

    /// A member that is to join the ones that are there, as etcd's do; it does not run yet. Gives its place.
    pub(crate) fn add_formed(&mut self, name: &str, flags: &[String]) -> usize {
        let mut member = Member::new(self.folder.path(), name, flags);
        let all = self.members.iter().chain([&member]).map(|one| format!("{}={}", one.name, one.peer_url()));
        let all: Vec<_> = all.collect();
        member.flags.extend([
            format!("--initial-cluster={}", all.join(",")),
            "--initial-cluster-state=existing".to_owned(),
            format!("--name={name}"),
            format!("--initial-advertise-peer-urls={}", member.peer_url()),
        ]);
        self.members.push(member);
        self.members.len() - 1
    }

    /// The line by which a member joins, as `cluster add` or `cluster replace` prints it.
    pub(crate) async fn invite(&self, words: &[&str]) -> Result<String, String> {
        let (credentials, mesh) = (self.path("credentials"), self.reachable().mesh.to_string());
        let flags = ["--credentials", credentials.as_str(), "--mesh-endpoint", mesh.as_str()];
        let endpoints = self.endpoints();
        let replace: &[&str] = if words[0] == "replace" { &["--endpoints", &endpoints] } else { &[] };
        let asked = || async { self.run(&[&["cluster"], words, &flags, replace].concat()).await };
        // A mesh port opens a moment after the member's other ones.
        let mut outcome = asked().await;
        for _ in 0..50 {
            match &outcome {
                Err(error) if error.contains("is the server running there") => {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    outcome = asked().await;
                }
                _ => break,
            }
        }
        outcome.map(|line| line.trim().to_owned())
    }

    /// Joins by a printed line, and starts; gives the new member's place.
    pub(crate) async fn join(&mut self, line: &str, name: &str) -> Result<usize, String> {
        let member = Member::new(self.folder.path(), name, &[EXISTING.to_owned()]);
        self.join_as(line, &member).await?;
        self.members.push(member);
        let at = self.members.len() - 1;
        self.start(at).await;
        Ok(at)
    }

    /// A member that has done nothing yet.
    pub(crate) fn stranger(&self, name: &str) -> Member {
        Member::new(self.folder.path(), name, &[])
    }

    /// Runs a join line for this member.
    pub(crate) async fn join_as(&self, line: &str, member: &Member) -> Result<String, String> {
        let url = member.peer_url();
        let words: Vec<_> = line.strip_prefix("meshstore ").unwrap().split(' ').collect();
        let flags = ["--data-dir", member.data_dir(), "--initial-advertise-peer-urls", &url];
        self.run(&[&words[..], &flags].concat()).await
    }

    pub(crate) fn member(&self, at: usize) -> &Member {
        &self.members[at]
    }

    pub(crate) fn member_mut(&mut self, at: usize) -> &mut Member {
        &mut self.members[at]
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// A member whose process runs.
    fn reachable(&self) -> &Member {
        self.members.iter().find(|member| member.process.is_some()).unwrap()
    }

    /// Starts a member on what it has; returns when it takes connections.
    pub(crate) async fn start(&mut self, at: usize) {
        self.spawn(at);
        listening(self.members[at].etcd).await;
    }

    /// Starts a member's process.
    pub(crate) fn spawn(&mut self, at: usize) {
        self.spawn_under(at, &[]);
    }

    /// The same, as the last words of another command.
    pub(crate) fn spawn_under(&mut self, at: usize, command: &[&str]) {
        let member = &mut self.members[at];
        member.starts += 1;
        let url = format!("http://{}", member.etcd);
        let mesh = member.mesh.to_string();
        let (program, acting) = member.program();
        let common =
            [program.as_str(), "server", "--data-dir", member.data.to_str().unwrap(), "--listen-mesh-addr", &mesh];
        let clients = ["--listen-client-urls", &url, "--advertise-client-urls", &url];
        let words = command.iter().copied().chain(common).chain(clients);
        let words: Vec<_> = words.chain(member.flags.iter().chain(&acting).map(String::as_str)).collect();
        // The log of an earlier start is kept.
        let number = if member.starts == 1 { String::new() } else { format!("-{}", member.starts) };
        let log = format!("{}-{}{number}", member.name, member.etcd.port());
        member.process = Some(Process::start(&log, words[0], &words[1..], self.folder.path()));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, at: usize) {
        self.members[at].process.take().unwrap().kill();
    }

    /// SIGTERM; returns when it has ended, and how.
    pub(crate) async fn stop(&mut self, at: usize) -> Option<i32> {
        let process = self.members[at].process.take().unwrap();
        process.terminate();
        let process = std::sync::Mutex::new(process);
        eventually("the member ends", || async { process.lock().unwrap().ended() }).await.code()
    }

    /// How a member's process ended by itself, and what it said.
    pub(crate) async fn ended(&mut self, at: usize) -> (Option<i32>, String) {
        let process = std::sync::Mutex::new(self.members[at].process.take().unwrap());
        let status = eventually("the member ends", || async { process.lock().unwrap().ended() }).await;
        (status.code(), process.into_inner().unwrap().log())
    }

    /// The client addresses of all whose process runs.
    pub(crate) fn endpoints(&self) -> String {
        let running = self.members.iter().filter(|member| member.process.is_some());
        running.map(|member| member.etcd.to_string()).collect::<Vec<_>>().join(",")
    }

    /// A client of all whose process runs.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&Config::new(self.endpoints().split(','))).unwrap()
    }

    /// A client of one member.
    pub(crate) fn client_of(&self, at: usize) -> Client {
        Client::connect(&Config::new([self.members[at].etcd.to_string()])).unwrap()
    }

    /// What `meshstore cluster members` tells, if there is a quorum.
    pub(crate) async fn report(&self) -> Option<Value> {
        let endpoints = self.endpoints();
        let words = ["cluster", "members", "-o", "json", "--command-timeout", "3s", "--endpoints", &endpoints];
        self.run(&words).await.ok().map(|text| serde_json::from_str(&text).unwrap())
    }

    /// Waits until there are so many voters, all well, and one of them leads.
    pub(crate) async fn voters(&self, count: usize) -> Value {
        let well = |report: &Value| {
            let members = report["members"].as_array().unwrap();
            let roles: Vec<_> = members.iter().map(|member| member["role"].as_str().unwrap()).collect();
            roles.len() == count
                && roles.iter().filter(|role| **role == "leader").count() == 1
                && roles.iter().filter(|role| **role == "follower").count() == count - 1
                && members.iter().all(|member| member["health"] == "healthy")
        };
        eventually(&format!("{count} voters"), || async { self.report().await.filter(well) }).await
    }

    /// The place of the member that leads.
    pub(crate) async fn leader(&self) -> usize {
        let leading = || async {
            let report = self.report().await?;
            let members = report["members"].as_array()?.clone();
            let leader = members.into_iter().find(|member| member["role"] == "leader")?;
            let url = leader["clientURLs"][0].as_str()?.trim_start_matches("http://").to_owned();
            self.members.iter().position(|member| member.process.is_some() && member.etcd.to_string() == url)
        };
        eventually("a leader", leading).await
    }

    /// A file or folder of this cluster's.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// `meshstore …`; what it prints, or what it says when it fails.
    pub(crate) async fn run(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(MESHSTORE).args(words).current_dir(self.folder.path()).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}
