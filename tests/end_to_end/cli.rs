//! Our command line beside etcd's: the same words, said to two servers in lockstep, print the same and end alike.
//!
//! `MESHSTORE_TEST_ETCDCTL` names another etcdctl than the one on the path. With `MESHSTORE_TEST_ETCD` both servers are
//! etcd's.

use std::{
    env,
    ffi::OsStr,
    fmt::Debug,
    io::{BufRead, BufReader, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::harness::{MESHSTORE, Server};

const ETCDCTL: &str = "MESHSTORE_TEST_ETCDCTL";
/// Lines that a command prints and no test has read yet.
const LINES_MAX: usize = 1024;
/// A command that prints nothing for so long is stuck.
const PRINTED_WITHIN: Duration = Duration::from_mins(1);

/// What one call printed. Of its errors only the line that says what was wrong.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    out: String,
    error: Option<String>,
    code: i32,
}

/// How much of two outcomes must be the same.
#[derive(Clone, Copy, PartialEq)]
enum Alike {
    /// Everything.
    All,
    /// The exit code: mistakes in the command line are worded differently.
    Code,
}

/// The two command lines, each with a server of its own.
struct Pair {
    etcd: Server,
    ours: Server,
    etcdctl: String,
}

impl Pair {
    async fn start() -> Self {
        let etcdctl = env::var(ETCDCTL).unwrap_or_else(|_| "etcdctl".to_owned());
        Self { etcd: Server::start().await, ours: Server::start().await, etcdctl }
    }

    /// Whether this etcdctl is of version 3.5 or newer.
    fn is_recent(&self) -> bool {
        !run(Command::new(&self.etcdctl).env("ETCDCTL_API", "3").arg("version"), "").out.contains("version: 3.4")
    }

    fn theirs(&self) -> Command {
        let mut command = Command::new(&self.etcdctl);
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", self.etcd.endpoint());
        command
    }

    fn own(&self) -> Command {
        let mut command = Command::new(MESHSTORE);
        command.env("ETCDCTL_ENDPOINTS", self.ours.endpoint());
        command
    }

    #[track_caller]
    fn compare(&self, alike: Alike, arguments: &[impl AsRef<OsStr> + Debug], input: &str) {
        let (mut theirs, mut ours) =
            (run(self.theirs().args(arguments), input), run(self.own().args(arguments), input));
        theirs.out = theirs.out.replace(&self.etcd.endpoint(), &self.ours.endpoint());
        if alike == Alike::Code {
            (theirs.error, ours.error) = (None, None);
            (theirs.out, ours.out) = (String::new(), String::new());
        }
        assert_eq!(theirs, ours, "etcdctl (left) and meshstore (right): {arguments:?} {input:?}");
    }

    #[track_caller]
    fn same(&self, lines: &[&str]) {
        for line in lines {
            self.compare(Alike::All, &words(line), "");
        }
    }

    #[track_caller]
    fn same_code(&self, lines: &[&str]) {
        for line in lines {
            self.compare(Alike::Code, &words(line), "");
        }
    }

    #[track_caller]
    fn same_with_input(&self, cases: &[(&str, &str)]) {
        for (line, input) in cases {
            self.compare(Alike::All, &words(line), input);
        }
    }
}

/// The words of a line; `''` is the empty one.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().map(|word| if word == "''" { "" } else { word }).collect()
}

fn run(command: &mut Command, input: &str) -> Printed {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let error = error.lines().rfind(|line| line.starts_with("Error: ")).map(str::to_owned);
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    Printed { out, error, code: output.status.code().unwrap_or(-1) }
}

#[tokio::test]
async fn keys_and_values_need_not_be_text() {
    let pair = Pair::start().await;
    let lines: [&[&[u8]]; 6] = [
        &[b"put", b"a\xff", b"\x01\xff\xfe"],
        &[b"get", b"a\xff", b"-w", b"json"],
        &[b"get", b"a\xfe", b"b\xff", b"--hex"],
        &[b"get", b"--prefix", b"a\xff", b"-w", b"fields"],
        &[b"del", b"a\xff", b"--prev-kv", b"--hex"],
        &[b"get", b"a\xff"],
    ];
    for line in lines {
        let arguments: Vec<_> = line.iter().map(|word| OsStr::from_bytes(word)).collect();
        pair.compare(Alike::All, &arguments, "");
    }
}

#[tokio::test]
async fn keys_are_written_read_and_deleted_alike() {
    let pair = Pair::start().await;
    pair.same(&[
        "put a 1",
        "put b 2 --prev-kv",
        "put b 3 --prev-kv",
        "put b 4 --prev-kv -w json",
        "put b 5 --prev-kv -w fields",
        "put c -- -1",
        "put d 4 --lease 0",
        "put d 5 --lease 123",
        "put nothing --ignore-value",
        "put a --ignore-value",
        "get a",
        "get a -w json",
        "get a -w fields",
        "get a --hex",
        "get a --hex -w fields",
        "get --prefix ''",
        "get --prefix=true ''",
        "get --prefix=false a",
        "get a c",
        "get a c -w json",
        "get --from-key b",
        "get --from-key ''",
        "get --prefix --limit 2 '' -w json",
        "get --prefix --keys-only ''",
        "get --prefix --print-value-only ''",
        "get --prefix --sort-by MODIFY --order DESCEND ''",
        "get --prefix --sort-by version --order ascend ''",
        "get --rev 3 a b",
        "get --rev 1000 a",
        "get --consistency s a",
        "get ''",
        "get nothing",
        "get nothing -w json",
        "del nothing",
        "del a --prev-kv",
        "del b --prev-kv -w json",
        "del --prefix c",
        "del --from-key ''",
        "compaction 3",
        "compaction 3",
        "compaction 1000",
        "compact 1000",
        "compaction --physical 5",
        "get --rev 2 a",
        "--write-out=json get b",
    ]);
    pair.same_with_input(&[("put piped", "from standard input"), ("get piped", "")]);
    if pair.is_recent() {
        pair.same(&[
            "get --prefix --count-only '' -w fields",
            "get --prefix --print-value-only '' -w json",
            "get --prefix --print-value-only '' -w fields",
        ]);
    }
}

#[tokio::test]
async fn transactions_are_read_and_printed_alike() {
    let pair = Pair::start().await;
    let writes = "\nput a b\nput c d\nget a\ndel q\n\n\n";
    pair.same_with_input(&[
        ("txn", ""),
        ("txn", "mod(\"a\") > \"0\"\n\nput a b\n\n"),
        ("txn", "\n\n\n"),
        ("txn -w json", "\n\n\n"),
        ("txn", "foo\n\n\n"),
        ("txn", "xx(\"a\") > \"0\"\n\n\n"),
        ("txn", "mod(\"a\") > \"x\"\n\n\n"),
        ("txn", "\nfoo a\n\n"),
        ("txn", writes),
        ("txn -w fields", writes),
        ("txn --interactive", writes),
        ("txn --hex", "\nput a b --prev-kv\nget a --keys-only\n\n\n"),
        ("txn", "\nput z 1\nput z 2\n\n\n"),
        ("txn", "value(\"a\") = \"b\"\nversion(\"a\") != \"0\"\n\nget a\n\nget c\n\n"),
        ("txn", "create(\"a\") = \"0\"\n\nput a \"x y\"\n\nput a \"\\x41\\n\"\nget a\n\n"),
    ]);
    if pair.is_recent() {
        pair.same_with_input(&[("txn -w json", writes)]);
    }
}

#[tokio::test]
async fn leases_are_answered_alike() {
    let pair = Pair::start().await;
    pair.same(&[
        "lease list",
        "lease list -w json",
        "lease timetolive 1234",
        "lease timetolive 1234 -w json",
        "lease timetolive 1234 -w fields",
        "lease revoke 1234",
        "lease keep-alive 1234",
        "lease keep-alive --once 1234",
    ]);
    pair.same_code(&["lease grant", "lease grant x", "lease revoke zz", "lease timetolive"]);
}

#[tokio::test]
async fn members_and_endpoints_are_told_alike() {
    let pair = Pair::start().await;
    pair.same(&[
        "put a 1",
        "member remove 12",
        "member promote 12",
        "alarm list",
        "alarm list -w json",
        "alarm list -w fields",
        "alarm disarm",
        "defrag",
        "endpoint hashkv",
        "move-leader 12",
    ]);
    pair.same_code(&["member remove zz", "member update 12", "member add n", "move-leader zz", "move-leader"]);
    let own = pair.ours.endpoint();
    let members = run(pair.own().args(["member", "list"]), "").out;
    assert!(
        members.ends_with(&format!(", started, default, http://localhost:2380, http://{own}, false\n")),
        "{members}"
    );
}

#[tokio::test]
async fn users_and_roles_are_kept_and_told_alike() {
    let pair = Pair::start().await;
    pair.same(&[
        "user add root:secret",
        "user add ann:first",
        "user add ann:first",
        "user add :x",
        "user add client.example --no-password",
        "user list",
        "user list -w json",
        "user get nobody",
        "role add r",
        "role add r",
        "role add other",
        "role list",
        "role list -w fields",
        "role get nothing",
        "role grant-permission r readwrite foo",
        "role grant-permission r READ a b",
        "role grant-permission r write --prefix pp",
        "role grant-permission r read --from-key zz",
        "role grant-permission nothing read k",
        "role get r",
        "role get r -w json",
        "role get r -w fields",
        "user grant-role ann r",
        "user grant-role ann nothing",
        "user grant-role ann other",
        "user get ann",
        "user get ann -w json",
        "user get ann --detail",
        "role revoke-permission r --prefix pp",
        "role revoke-permission r --from-key zz",
        "role revoke-permission r a b",
        "role revoke-permission r a b",
        "user revoke-role ann other",
        "user revoke-role ann other",
        "role delete other",
        "role delete other",
    ]);
    pair.same_with_input(&[
        ("user passwd ann --interactive=false", "second\n"),
        ("user add bob --interactive=false", "third\n"),
    ]);
    pair.same(&[
        "auth enable",
        "get foo",
        "--user ann:first get foo",
        "--user ann:second get foo",
        "--user ann:second put foo 1",
        "--user ann --password second get foo",
        "--user ann:second get other",
        "--user ann:second user list",
        "--user bob:third get foo",
        "--user root:secret put other 1",
        "--user root:secret user delete bob",
        "--user root:secret auth disable",
        "get foo",
    ]);
}

#[tokio::test]
async fn mistakes_end_alike() {
    let pair = Pair::start().await;
    pair.same_code(&[
        "unknown",
        "get",
        "get a --unknown",
        "get a --order x",
        "get a --sort-by x",
        "get a --consistency x",
        "get a --prefix --from-key",
        "get a b --prefix",
        "get a -w unknown",
        "get a -w table",
        "put",
        "put a x --lease zz",
        "put a b --ignore-value",
        "del",
        "compaction",
        "watch",
        "watch a b --prefix",
        "lock",
        "elect",
        "elect a",
        "elect -l a b",
        "make-mirror",
        "check perf --load q",
        "snapshot save",
        "snapshot save /nonexistent/file",
        "user add",
        "user get",
        "role grant-permission r read",
    ]);
}

/// A command that goes on; killed when dropped.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        thread::spawn(move || printed.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Blocks until that many lines were printed.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match self.lines.recv_timeout(PRINTED_WITHIN) {
                Ok(line) => lines.push(line),
                Err(error) => panic!("{error}: {count} lines were to come, and there are {lines:?}"),
            }
        }
        lines
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// SIGINT, as Ctrl-C sends it; the exit code.
    fn interrupt(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn watches_print_and_run_commands_alike() {
    let pair = Pair::start().await;
    pair.same(&["put k1 v1", "put k2 v2", "del k1", "put k3 quo\"te"]);
    // Where the format shows batches, one event: how many of the past come at once is the server's choice.
    let cases: [(&str, usize); 6] = [
        ("watch --rev 2 --prefix k", 12),
        ("watch --rev 4 k1 k3 -w json", 1),
        ("watch --rev 4 --prefix --prev-kv k1 -w json", 1),
        ("watch --rev 4 --prev-kv k1 -w fields", 17),
        ("watch --rev 4 --prev-kv k1", 5),
        ("watch --rev 2 --prefix k --hex", 12),
    ];
    for (line, count) in cases {
        let mut theirs = Running::start(pair.theirs().args(words(line)));
        let mut ours = Running::start(pair.own().args(words(line)));
        assert_eq!(theirs.lines(count), ours.lines(count), "{line}");
    }
    let variables = |command: &mut Command| {
        let line = ["watch", "--rev", "5", "k3", "--", "sh", "-c", "env | grep ETCD_WATCH | sort"];
        let mut running = Running::start(command.args(line));
        running.lines(3 + 4)
    };
    assert_eq!(variables(&mut pair.theirs()), variables(&mut pair.own()));
    pair.same(&["compaction 4", "watch --rev 2 k1"]);
    pair.same_code(&["watch --rev 5 --prefix k -- sh -c false"]);
}

#[tokio::test]
async fn watches_are_opened_by_lines_of_input() {
    let pair = Pair::start().await;
    let mut watcher = Running::start(pair.own().args(["watch", "-i"]));
    watcher.say("nonsense");
    watcher.say("watch --rev 1 a");
    pair.same(&["put a 1"]);
    assert_eq!(watcher.lines(3), ["PUT", "a", "1"]);
    watcher.say("watch --prefix --rev 1 b -- echo ran");
    pair.same(&["put b1 2"]);
    assert_eq!(watcher.lines(4), ["PUT", "b1", "2", "ran"]);
    watcher.say("progress");
    let reports = watcher.lines(2);
    assert!(reports.iter().all(|line| line == "progress notify: 3"), "{reports:?}");
    pair.compare(Alike::Code, &["watch", "-i"], "");
    pair.compare(Alike::Code, &["watch", "-i"], "watch a --rev 2 -- echo hi\n");
}

#[tokio::test]
async fn a_lock_is_held_by_one_at_a_time_whichever_command_line_takes_it() {
    let server = Server::start().await;
    let own = || {
        let mut command = Command::new(MESHSTORE);
        command.env("ETCDCTL_ENDPOINTS", server.endpoint());
        command
    };
    let etcdctl = || {
        let mut command = Command::new(env::var(ETCDCTL).unwrap_or_else(|_| "etcdctl".to_owned()));
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", server.endpoint());
        command
    };
    let mut first = Running::start(own().args(["lock", "l"]));
    let key = first.lines(2)[0].clone();
    assert!(key.starts_with("l/"), "{key}");
    let mut second = Running::start(etcdctl().args(["lock", "l"]));
    let mut third = Running::start(own().args(["lock", "l", "--", "sh", "-c", "echo $ETCD_LOCK_KEY; exit 7"]));
    assert_eq!(run(own().args(["get", &key, "--keys-only"]), "").out, format!("{key}\n\n"));
    assert_eq!(first.interrupt(), Some(0));
    let key = second.lines(2)[0].clone();
    assert_eq!(second.interrupt(), Some(0));
    let last = third.lines(1)[0].clone();
    assert!(last.starts_with("l/") && last != key, "{last}");
    assert_eq!(third.child.wait().unwrap().code(), Some(7));
    assert_eq!(run(own().args(["get", "--prefix", "l/"]), "").out, "");
}

#[tokio::test]
async fn a_leader_is_seen_by_whoever_listens() {
    let server = Server::start().await;
    let own = || {
        let mut command = Command::new(MESHSTORE);
        command.env("ETCDCTL_ENDPOINTS", server.endpoint());
        command
    };
    let mut observer = Running::start(own().args(["elect", "-l", "e"]));
    let mut first = Running::start(own().args(["elect", "e", "one"]));
    let won = first.lines(2);
    assert_eq!((won[0].starts_with("e/"), won[1].as_str()), (true, "one"));
    assert_eq!(observer.lines(2), won);
    let mut second = Running::start(own().args(["elect", "e", "two"]));
    assert_eq!(first.interrupt(), Some(0));
    let next = second.lines(2);
    assert_eq!(next[1], "two");
    assert_eq!(observer.lines(2), next);
    assert_eq!((second.interrupt(), observer.interrupt()), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_mirror_copies_follows_and_goes_on() {
    let pair = Pair::start().await;
    let source = |words: &[&str]| run(pair.own().args(words), "").out;
    let copy = || run(pair.theirs().args(["get", "--prefix", ""]), "").out;
    for key in ["m/1", "m/2", "other"] {
        source(&["put", key, "v"]);
    }
    let destination = pair.etcd.endpoint();
    let follow = |rev: &str, last: &str| {
        let words = ["make-mirror", "--prefix", "m/", "--dest-prefix", "c/", "--rev", rev, &destination];
        let mut mirror = Running::start(pair.own().args(words));
        while !copy().contains(last) {
            thread::yield_now();
        }
        assert_eq!(mirror.interrupt(), Some(0));
    };
    follow("0", "c/2\nv\n");
    assert_eq!(copy(), "c/1\nv\nc/2\nv\n");
    source(&["del", "m/1"]);
    source(&["put", "m/3", "new"]);
    follow("5", "c/3\nnew\n");
    assert_eq!(copy(), "c/2\nv\nc/3\nnew\n");
}
