//! Debian's etcdctl gets from us, word for word, what it gets from etcd.
//!
//! Every expected text was taken from etcd 3.4; see `harness/server.rs` for running these tests against etcd itself.

mod auth;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use crate::harness::{Server, eventually};

/// What one call printed.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    out: String,
    error: String,
    code: i32,
}

struct Etcdctl {
    endpoint: String,
}

impl Etcdctl {
    fn new(server: &Server) -> Self {
        Self { endpoint: server.endpoint() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint]).args(arguments);
        command
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Printed {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl is installed: scripts/setup.sh test");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Printed { out: text(&output.stdout), error: text(&output.stderr), code: output.status.code().unwrap() }
    }

    /// What a successful call prints.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let printed = self.run_with_input(arguments, "");
        assert_eq!(printed.code, 0, "etcdctl {arguments:?}: {printed:?}");
        printed.out
    }

    /// Checks each call's output, in order.
    #[track_caller]
    fn transcript(&self, calls: &[(&[&str], &str)]) {
        for (arguments, expected) in calls {
            assert_eq!(self.ok(arguments), *expected, "etcdctl {arguments:?}");
        }
    }

    /// Checks the last line that a failing call prints.
    #[track_caller]
    fn refused(&self, arguments: &[&str], expected: &str) {
        let printed = self.run_with_input(arguments, "");
        assert_eq!(printed.code, 1, "etcdctl {arguments:?}: {printed:?}");
        assert_eq!(printed.error.lines().last(), Some(expected), "etcdctl {arguments:?}");
    }
}

#[tokio::test]
async fn puts_gets_and_deletes() {
    let server = Server::start().await;
    Etcdctl::new(&server).transcript(&[
        (&["put", "k1", "v1"], "OK\n"),
        (&["put", "k2", "v2"], "OK\n"),
        (&["put", "k1", "v3"], "OK\n"),
        (&["put", "--prev-kv", "k2", "v4"], "OK\nk2\nv2\n"),
        (&["get", "k1"], "k1\nv3\n"),
        (&["get", "--prefix", "k"], "k1\nv3\nk2\nv4\n"),
        (&["get", "--prefix", "--order", "DESCEND", "--sort-by", "KEY", "k"], "k2\nv4\nk1\nv3\n"),
        (&["get", "--rev", "2", "k1"], "k1\nv1\n"),
        (&["get", "--prefix", "--keys-only", "k"], "k1\n\nk2\n\n"),
        (&["get", "--prefix", "--limit", "1", "k"], "k1\nv3\n"),
        (&["get", "--print-value-only", "k1"], "v3\n"),
        (&["get", "--from-key", "k2"], "k2\nv4\n"),
        (&["get", "nothing"], ""),
        (&["put", "a", "1"], "OK\n"),
        (&["put", "b", "2"], "OK\n"),
        (&["del", "a", "c"], "2\n"),
        (&["del", "--prev-kv", "k1"], "1\nk1\nv3\n"),
        (&["del", "--prefix", "nothing"], "0\n"),
    ]);
}

#[tokio::test]
async fn json_shows_revisions_as_etcd_counts_them() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    etcdctl.transcript(&[
        (&["put", "k1", "v1"], "OK\n"),
        (&["put", "k2", "v2"], "OK\n"),
        (&["put", "k1", "v3"], "OK\n"),
    ]);
    let got: serde_json::Value = serde_json::from_str(&etcdctl.ok(&["get", "-w", "json", "k1"])).unwrap();
    assert_eq!(got["header"]["revision"], 4);
    let expected = serde_json::json!({
        "key": "azE=", "value": "djM=", "create_revision": 2, "mod_revision": 4, "version": 2,
    });
    assert_eq!((&got["kvs"][0], &got["count"]), (&expected, &1.into()));
}

#[tokio::test]
async fn transactions_print_the_branch_taken() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    etcdctl.transcript(&[(&["put", "k1", "v3"], "OK\n"), (&["put", "k2", "v4"], "OK\n")]);
    for (input, expected) in [
        ("value(\"k1\") = \"v3\"\n\nput k1 v5\nget k2\n\ndel k1\n\n", "SUCCESS\n\nOK\n\nk2\nv4\n"),
        ("mod(\"k1\") > \"100\"\n\nput k1 v6\n\nget --prefix k\ndel k2\n\n", "FAILURE\n\nk1\nv5\nk2\nv4\n\n1\n"),
        ("version(\"k1\") = \"2\"\ncreate(\"k2\") = \"0\"\n\nput k2 again\n\n\n", "SUCCESS\n\nOK\n"),
    ] {
        let printed = etcdctl.run_with_input(&["txn"], input);
        assert_eq!(printed, Printed { out: expected.to_owned(), error: String::new(), code: 0 }, "{input}");
    }
    let twice = etcdctl.run_with_input(&["txn"], "\nput z 1\nput z 2\n\n\n");
    assert_eq!(twice.error.lines().last(), Some("Error: etcdserver: duplicate key given in txn request"));
}

/// An etcdctl that watches; killed when dropped.
struct Watcher {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watcher {
    fn start(etcdctl: &Etcdctl, arguments: &[&str]) -> Self {
        let mut command = etcdctl.command(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Blocks until that many lines were printed.
    fn lines(&mut self, count: usize) -> Vec<String> {
        self.lines.by_ref().take(count).map(Result::unwrap).collect()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn watches_replay_history_and_then_follow() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    etcdctl.transcript(&[(&["put", "k1", "v1"], "OK\n"), (&["put", "k2", "v2"], "OK\n"), (&["del", "k1"], "1\n")]);
    let mut watcher = Watcher::start(&etcdctl, &["watch", "--rev", "1", "--prefix", "k"]);
    assert_eq!(watcher.lines(9), ["PUT", "k1", "v1", "PUT", "k2", "v2", "DELETE", "k1", ""]);
    etcdctl.transcript(&[(&["put", "other", "1"], "OK\n"), (&["put", "k3", "v3"], "OK\n")]);
    assert_eq!(watcher.lines(3), ["PUT", "k3", "v3"]);

    let mut watcher = Watcher::start(&etcdctl, &["watch", "--rev", "4", "--prev-kv", "k1"]);
    assert_eq!(watcher.lines(5), ["DELETE", "k1", "v1", "k1", ""]);
}

#[tokio::test]
async fn leases_live_and_end() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    let granted = etcdctl.ok(&["lease", "grant", "60"]);
    let id = granted.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(60s)\n"));
    assert_eq!(etcdctl.ok(&["put", "--lease", &id, "leased", "1"]), "OK\n");

    let left = etcdctl.ok(&["lease", "timetolive", &id, "--keys"]);
    let expected =
        |seconds| format!("lease {id} granted with TTL(60s), remaining({seconds}s), attached keys([leased])\n");
    assert!((55..=60).any(|seconds| left == expected(seconds)), "{left}");
    assert_eq!(etcdctl.ok(&["lease", "keep-alive", "--once", &id]), format!("lease {id} keepalived with TTL(60)\n"));
    assert_eq!(etcdctl.ok(&["lease", "list"]), format!("found 1 leases\n{id}\n"));

    assert_eq!(etcdctl.ok(&["lease", "revoke", &id]), format!("lease {id} revoked\n"));
    assert_eq!(etcdctl.ok(&["get", "leased"]), "");
    assert_eq!(etcdctl.ok(&["lease", "timetolive", &id]), format!("lease {id} already expired\n"));
    let gone = "Error: failed to revoke lease (etcdserver: requested lease not found)";
    etcdctl.refused(&["lease", "revoke", &id], gone);
    etcdctl.refused(&["put", "--lease", &id, "x", "y"], "Error: etcdserver: requested lease not found");
}

#[tokio::test]
async fn a_lease_that_nobody_keeps_takes_its_keys_along() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    let granted = etcdctl.ok(&["lease", "grant", "1"]);
    let id = granted.split(' ').nth(1).unwrap();
    assert_eq!(etcdctl.ok(&["put", "--lease", id, "leased", "1"]), "OK\n");
    eventually("the key's end", || async { etcdctl.ok(&["get", "leased"]).is_empty().then_some(()) }).await;
    assert_eq!(etcdctl.ok(&["lease", "list"]), "found 0 leases\n");
}

#[tokio::test]
async fn compacted_and_future_revisions_are_refused_in_etcds_words() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    for value in ["1", "2", "3", "4"] {
        assert_eq!(etcdctl.ok(&["put", "k", value]), "OK\n");
    }
    assert_eq!(etcdctl.ok(&["compact", "4"]), "compacted revision 4\n");
    assert_eq!(etcdctl.ok(&["get", "--rev", "4", "k"]), "k\n3\n");
    let compacted = "Error: etcdserver: mvcc: required revision has been compacted";
    etcdctl.refused(&["get", "--rev", "2", "k"], compacted);
    etcdctl.refused(&["compact", "4"], compacted);
    let future = "Error: etcdserver: mvcc: required revision is a future revision";
    etcdctl.refused(&["get", "--rev", "1000", "k"], future);
    etcdctl.refused(&["put", "", "x"], "Error: etcdserver: key is not provided");

    let watch = etcdctl.run_with_input(&["watch", "--rev", "2", "k"], "");
    assert!(
        watch.error.contains("watch was canceled (etcdserver: mvcc: required revision has been compacted)"),
        "{watch:?}"
    );
}

#[tokio::test]
async fn the_member_is_healthy_and_known() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    let health = etcdctl.run_with_input(&["endpoint", "health"], "");
    let expected = format!("{} is healthy: successfully committed proposal", server.endpoint());
    assert!(health.error.starts_with(&expected) || health.out.starts_with(&expected), "{health:?}");

    let status = etcdctl.ok(&["endpoint", "status", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let member = &status[0]["Status"]["header"]["member_id"];
    assert!(member.is_u64() && status[0]["Status"]["leader"] == *member, "{status}");

    let members = etcdctl.ok(&["member", "list"]);
    let fields: Vec<_> = members.trim_end().split(", ").collect();
    assert_eq!(fields[0], format!("{:x}", member.as_u64().unwrap()), "{members}");
    assert_eq!((fields[1], fields[4]), ("started", format!("http://{}", server.endpoint()).as_str()), "{members}");
}
