//! The second part of docs/operations.md, as it is written: every command, in the book's order.
//!
//! All hosts are this one. So an address of the book becomes one of loopback, and the ports on which a server listens by
//! default are set by its variables; nothing else of a command is changed.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::{Path, PathBuf},
    vec,
};

use client::{Client, Config, Get, Put};
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::{MESHSTORE, Process, eventually, free_port, listening, peer_certificates};

const BOOK: &str = include_str!("../../../docs/operations.md");
/// The ports that the book speaks of.
const PORTS: [u16; 3] = [CLIENTS, PEERS, MESH];
const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;
const MESH: u16 = 15012;

/// The commands that are still to be run.
struct Commands(vec::IntoIter<String>);

impl Commands {
    /// Those of the second part: the lines of its `sh` blocks, put together where they go on.
    fn of_the_book() -> Self {
        let (_, part) = BOOK.split_once("\n# Part two").unwrap();
        let blocks = part.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
        let text = blocks.collect::<String>().replace("\\\n", " ");
        Self(text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter())
    }

    /// The next one, which begins like this.
    fn next(&mut self, begins: &str) -> String {
        let next = self.0.next().unwrap_or_else(|| panic!("after the last command: {begins}"));
        assert!(next.starts_with(begins), "the book has {next:?} where {begins:?} was expected");
        next
    }
}

/// Hosts with the addresses 10.0.0.1 and so on, in one folder each.
struct Site {
    folder: TempDir,
    ports: RefCell<HashMap<(usize, u16), u16>>,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), ports: RefCell::default() }
    }

    fn port(&self, host: usize, port: u16) -> u16 {
        *self.ports.borrow_mut().entry((host, port)).or_insert_with(|| free_port().port())
    }

    fn client(&self, host: usize) -> Client {
        Client::connect(&Config::new([format!("127.0.0.1:{}", self.port(host, CLIENTS))])).unwrap()
    }

    /// Text of the book with the addresses that its hosts really have.
    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for host in 1..=4 {
            for port in PORTS {
                text = text.replace(&format!("10.0.0.{host}:{port}"), &format!("127.0.0.1:{}", self.port(host, port)));
            }
        }
        // A line for others names the port that is the first host's by default.
        text.replace(&format!("127.0.0.1:{MESH}"), &format!("127.0.0.1:{}", self.port(1, MESH)))
    }

    fn folder(&self, host: usize) -> PathBuf {
        let folder = self.folder.path().join(format!("host-{host}"));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// What makes a server of this host listen where the book's listens by default.
    fn variables(&self, host: usize) -> [(String, String); 4] {
        let url = |scheme: &str, port| format!("{scheme}://127.0.0.1:{}", self.port(host, port));
        let of = |name: &str, value: String| (format!("ETCD_{name}"), value);
        [
            of("LISTEN_CLIENT_URLS", url("http", CLIENTS)),
            of("ADVERTISE_CLIENT_URLS", url("http", CLIENTS)),
            of("INITIAL_ADVERTISE_PEER_URLS", url("https", PEERS)),
            of("LISTEN_MESH_ADDR", format!("127.0.0.1:{}", self.port(host, MESH))),
        ]
    }

    /// Runs a command of the book on a host, by the shell; what it prints.
    async fn run(&self, host: usize, command: &str) -> Result<String, String> {
        let path = format!("{}:{}", Path::new(MESHSTORE).parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &self.here(command)]).env("PATH", path).envs(self.variables(host));
        let output = shell.current_dir(self.folder(host)).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The same, again until it succeeds: a member that was just started takes a moment.
    async fn until(&self, host: usize, command: &str) -> String {
        let last = RefCell::new(String::new());
        let asked = || async { self.run(host, command).await.map_err(|error| last.replace(error)).ok() };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(50), eventually(command, asked)).await;
        waited.unwrap_or_else(|_| panic!("{command}: {}", last.borrow()))
    }

    /// Starts a server by a command of the book; returns when it takes connections.
    async fn serve(&self, host: usize, command: &str) -> Process {
        let folder = self.folder(host);
        let variables = self.variables(host).map(|(name, value)| format!("{name}={value}"));
        let here = self.here(command);
        let mut words: Vec<_> = here.split_whitespace().collect();
        assert_eq!(words.remove(0), "meshstore");
        let chdir = format!("--chdir={}", folder.display());
        let env = [chdir.as_str()].into_iter().chain(variables.iter().map(String::as_str)).chain([MESHSTORE]);
        let name = format!("host-{host}-{}", free_port().port());
        let process = Process::start(&name, "env", env.chain(words), self.folder.path());
        listening(([127, 0, 0, 1], self.port(host, CLIENTS)).into()).await;
        process
    }

    /// A member joins by a printed line, and serves.
    async fn join(&self, host: usize, printed: &str) -> Process {
        let line = printed.lines().last().unwrap();
        assert!(line.starts_with("meshstore cluster join "), "{printed}");
        self.run(host, line).await.unwrap();
        let serve = format!("meshstore server --data-dir default.meshstore --listen-mesh-addr 10.0.0.{host}:{MESH}");
        self.serve(host, &serve).await
    }

    /// Waits until the first host's members all answer, which are so many voters.
    async fn voters(&self, count: usize) {
        let well = || async {
            let report = self.run(1, "meshstore cluster members --endpoints 10.0.0.1:2379").await.ok()?;
            let whole = report.contains(&format!("{count} of {count} voters answer"));
            (whole && report.matches("healthy").count() == count).then_some(())
        };
        eventually(&format!("{count} voters"), well).await;
    }
}

/// Whether a line that was printed is the book's, but for what is secret.
fn is_like(printed: &str, book: &str) -> bool {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (printed, book) = (words(printed), words(book));
    printed.len() == book.len()
        && printed.iter().zip(&book).all(|(printed, book)| match book.strip_suffix('…') {
            Some(begins) => begins == "5f" || printed.starts_with(begins),
            None => printed == book,
        })
}

async fn stop(mut process: Process) {
    process.terminate();
    let cell = RefCell::new(&mut process);
    let ended = || async { cell.borrow_mut().ended() };
    assert_eq!(eventually("a server ends", ended).await.code(), Some(0));
}

#[tokio::test]
async fn every_command_of_the_book_does_what_it_says() {
    let (mut book, site) = (Commands::of_the_book(), Site::new());

    let printed = site.run(1, &book.next("meshstore cluster bootstrap")).await.unwrap();
    let serve_first = book.next("meshstore server");
    let first = site.serve(1, &serve_first).await;
    let join = site.here(&book.next("meshstore cluster join"));
    let line = site.here(printed.lines().last().unwrap());
    assert!(is_like(&line, &join), "{line} is not like {join}");
    site.until(2, &line).await;
    let second = site.serve(2, &book.next("meshstore server")).await;
    site.voters(2).await;
    site.client(2).put(Put::new("k", "1")).await.unwrap();

    let third = site.join(3, &site.until(1, &book.next("meshstore cluster add c")).await).await;
    site.voters(3).await;
    let mut fourth = site.join(4, &site.until(1, &book.next("meshstore cluster add d --learner")).await).await;
    site.until(1, &book.next("meshstore cluster promote d")).await;
    site.voters(4).await;
    let report = site.run(1, &book.next("meshstore cluster members")).await.unwrap();
    assert!(report.contains("member-2") && report.contains("of 4 voters answer"), "{report}");

    site.until(1, &book.next("meshstore cluster transfer c")).await;
    let leads = || async {
        let report = site.run(1, "meshstore cluster members --endpoints 10.0.0.1:2379").await.ok()?;
        report.lines().any(|line| line.starts_with("c ") && line.contains("leader")).then_some(())
    };
    eventually("c leads", leads).await;

    drop(second);
    std::fs::remove_dir_all(site.folder(2)).unwrap();
    let printed = site.until(1, &book.next("meshstore cluster replace member-2")).await;
    let second = site.join(2, &printed).await;
    site.voters(4).await;
    assert_eq!(site.client(2).get(Get::key("k")).await.unwrap().kvs.len(), 1);

    site.until(1, &book.next("meshstore cluster remove d")).await;
    let cell = RefCell::new(&mut fourth);
    let ended = || async { cell.borrow_mut().ended() };
    assert_ne!(eventually("the removed server ends", ended).await.code(), Some(0));
    site.voters(3).await;

    stop(first).await;
    let first = site.serve(1, &book.next("meshstore server")).await;
    let members = book.next("meshstore cluster members");
    assert!(site.until(1, &members).await.contains("3 of 3 voters answer"));
    let probed = site.until(1, &book.next("meshstore cluster probe")).await;
    assert!(probed.starts_with(&format!("the cluster at {} agreed", types::Release::THIS)), "{probed}");
    site.voters(3).await;

    site.until(1, &book.next("meshstore snapshot save backup.db")).await;
    let status = site.run(1, &book.next("meshstore snapshot status backup.db")).await.unwrap();
    assert!(!status.is_empty());

    let before = site.client(1).put(Put::new("late", "1")).await.unwrap().revision.get();
    drop((second, third));
    site.run(1, &book.next("meshstore snapshot save rescue.db")).await.unwrap();
    drop(first);
    for command in ["meshstore snapshot restore rescue.db", "cp -R"] {
        site.run(1, &book.next(command)).await.unwrap();
    }
    let printed = site.run(1, &book.next("meshstore cluster bootstrap")).await.unwrap();
    let _first = site.serve(1, &book.next("meshstore server")).await;
    std::fs::remove_dir_all(site.folder(2)).unwrap();
    let line = site.here(printed.lines().last().unwrap());
    site.until(2, &line).await;
    let _second = site.serve(2, "meshstore server").await;
    site.voters(2).await;
    for host in [1, 2] {
        let got = site.client(host).get(Get::prefix("")).await.unwrap();
        assert_eq!(got.kvs.len(), 2, "k and late are there");
        assert!(got.revision.get() >= before + 1_000_000_000, "nothing that clients saw comes again");
    }

    etcds_way(&mut book).await;
    assert_eq!(book.0.next(), None, "the book has more commands");
}

/// Another cluster, by the flags.
async fn etcds_way(book: &mut Commands) {
    let site = Site::new();
    let command = book.next("meshstore server --name a");
    let mut servers = Vec::new();
    for (host, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let folder = site.folder(host);
        // Every host has its own copy of the operator's files.
        if host == 1 {
            peer_certificates(&folder);
        } else {
            for file in ["peer.crt", "peer.key", "peers.crt"] {
                std::fs::copy(site.folder(1).join(file), folder.join(file)).unwrap();
            }
        }
        let own = command.replacen("--name a", &format!("--name {name}"), 1);
        let own = own.replacen("https://10.0.0.1", &format!("https://10.0.0.{host}"), 1);
        servers.push(site.serve(host, &own).await);
    }
    site.voters(3).await;
    let printed = site.until(1, &book.next("meshstore member add d")).await;
    assert!(printed.contains("ETCD_INITIAL_CLUSTER") && printed.contains("existing"), "{printed}");
}
