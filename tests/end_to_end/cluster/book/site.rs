//! The hosts of the book.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{MESHSTORE, Process, eventually, free_port, listening, peer_certificates, tools};

pub(super) const CLIENTS: u16 = 2379;
pub(super) const PEERS: u16 = 2380;
pub(super) const MESH: u16 = 15012;
/// The ports that the book speaks of.
const PORTS: [u16; 3] = [CLIENTS, PEERS, MESH];
/// The book has none above.
const HOSTS: usize = 4;
/// Longest wait for a command to succeed.
const PATIENCE: Duration = Duration::from_secs(50);

/// Hosts with the addresses 10.0.0.1 and so on, a folder and an environment each. One that is not named is the first.
pub(super) struct Site {
    folder: TempDir,
    ports: RefCell<HashMap<(usize, u16), u16>>,
    /// Variables of all hosts, which the book does not set.
    variables: RefCell<BTreeMap<String, String>>,
    /// What each host's shells begin with.
    exports: RefCell<HashMap<usize, String>>,
    logs: Cell<usize>,
}

impl Site {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        peer_certificates(folder.path());
        let path = [Path::new(MESHSTORE).parent().unwrap().to_owned(), tools()].into_iter();
        let path = env::join_paths(path.chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
        let variables = [("PATH", path.to_str().unwrap()), ("ETCDCTL_API", "3")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            folder,
            ports: RefCell::default(),
            variables: RefCell::new(variables.into()),
            exports: RefCell::default(),
            logs: Cell::default(),
        }
    }

    /// Where what listens at a port of a host really does.
    pub(super) fn address(&self, host: usize, port: u16) -> String {
        let port = *self.ports.borrow_mut().entry((host, port)).or_insert_with(|| free_port().port());
        format!("127.0.0.1:{port}")
    }

    /// Sets a variable on all hosts.
    pub(super) fn set(&self, name: &str, value: impl Into<String>) {
        self.variables.borrow_mut().insert(name.to_owned(), value.into());
    }

    pub(super) fn unset(&self, name: &str) {
        self.variables.borrow_mut().remove(name);
    }

    /// From now on a host's shells begin with this command.
    pub(super) fn export(&self, host: usize, command: &str) {
        assert!(command.starts_with("export "), "{command}");
        self.exports.borrow_mut().entry(host).or_default().extend([command, "\n"]);
    }

    /// The host's folder, with the files that its operator brings along.
    pub(super) fn folder(&self, host: usize) -> PathBuf {
        let folder = self.folder.path().join(format!("host-{host}"));
        if !folder.exists() {
            std::fs::create_dir(&folder).unwrap();
            for (from, to) in [("peer.crt", "host.crt"), ("peer.key", "host.key"), ("peers.crt", "ca.crt")] {
                std::fs::copy(self.folder.path().join(from), folder.join(to)).unwrap();
            }
        }
        folder
    }

    /// The host has nothing any more but what its operator brings along.
    pub(super) fn wipe(&self, host: usize) {
        std::fs::remove_dir_all(self.folder(host)).unwrap();
    }

    /// Text of the book with the addresses that its hosts really have.
    pub(super) fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for port in PORTS {
            // A line for others names the port that is the first host's by default.
            text = readdressed(&text, &format!("127.0.0.1:{port}"), &self.address(1, port));
        }
        for (host, port) in (1..=HOSTS).flat_map(|host| PORTS.map(|port| (host, port))) {
            text = readdressed(&text, &format!("10.0.0.{host}:{port}"), &self.address(host, port));
        }
        text
    }

    /// What a host's shell is told, for one command of the book.
    fn script(&self, host: usize, command: &str) -> String {
        let exports = self.exports.borrow().get(&host).cloned().unwrap_or_default();
        // Where a member tells others to connect by default: at its own address, and a port that all hosts share here.
        let peers = format!("ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.{host}:{PEERS}");
        let peers = if exports.is_empty() { String::new() } else { format!("export {peers}\n") };
        self.here(&format!("cd '{}'\n{peers}{exports}{command}", self.folder(host).display()))
    }

    /// Runs a command of the book on a host, by the shell; what it prints.
    pub(super) async fn run(&self, host: usize, command: &str) -> Result<String, String> {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &self.script(host, command)]).envs(self.variables.borrow().iter()).kill_on_drop(true);
        let output = shell.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The same, of a command that is to succeed at once.
    pub(super) async fn done(&self, host: usize, command: &str) -> String {
        self.run(host, command).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// The same, again until it succeeds: a member that was just started takes a moment.
    pub(super) async fn until(&self, host: usize, command: &str) -> String {
        self.told(host, command, "").await
    }

    /// The same, again until it prints something with these words.
    pub(super) async fn told(&self, host: usize, command: &str, words: &str) -> String {
        let last = RefCell::new(String::new());
        let asked = || async {
            let outcome = self.run(host, command).await;
            last.replace(format!("{outcome:?}"));
            outcome.ok().filter(|printed| printed.contains(words))
        };
        let waited = tokio::time::timeout(PATIENCE, eventually(command, asked)).await;
        waited.unwrap_or_else(|_| panic!("{command}, until {words:?}: {}", last.borrow()))
    }

    /// Starts a server by a command of the book; returns when it takes connections.
    pub(super) async fn serve(&self, host: usize, command: &str) -> Process {
        let variables = self.variables.borrow().clone();
        let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
        // The shell becomes the server, so that a signal is the server's.
        let script = self.script(host, &format!("exec env {command}"));
        let words = variables.chain(["sh", "-e", "-c", &script].map(str::to_owned));
        let log = format!("host-{host}-{}", self.logs.replace(self.logs.get() + 1));
        let process = Process::start(&log, "env", words, self.folder.path());
        listening(self.address(host, CLIENTS).parse().unwrap()).await;
        process
    }
}

/// Text with one address for another.
fn readdressed(text: &str, from: &str, to: &str) -> String {
    let mut pieces = text.split(from);
    let mut readdressed = pieces.next().unwrap().to_owned();
    for piece in pieces {
        // Another port may begin like this one.
        let is_whole = !piece.starts_with(|next: char| next.is_ascii_digit());
        readdressed += if is_whole { to } else { from };
        readdressed += piece;
    }
    readdressed
}

/// How a server ends by itself.
pub(super) async fn ended(mut process: Process) -> Option<i32> {
    let cell = RefCell::new(&mut process);
    eventually("a server ends", || async { cell.borrow_mut().ended() }).await.code()
}

/// SIGTERM; it ends in good order.
pub(super) async fn stop(process: Process) {
    process.terminate();
    assert_eq!(ended(process).await, Some(0));
}

#[test]
fn an_address_is_replaced_and_none_that_begins_like_it() {
    let text = "at 10.0.0.1:2379,10.0.0.1:23790 10.0.0.1:2379";
    assert_eq!(readdressed(text, "10.0.0.1:2379", "X"), "at X,10.0.0.1:23790 X");
}
