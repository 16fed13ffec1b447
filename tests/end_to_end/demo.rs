//! The demo, as a user runs it: the tour shows what it should, and nothing outlives the demo.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{MESHSTORE, Process, eventually};

/// Longest the tour may take; it takes a minute or two on two cores.
const TOUR_DEADLINE: Duration = Duration::from_mins(10);
/// One server, six apps with their sidecars, one gateway.
const CHILDREN: usize = 14;

#[tokio::test]
async fn every_step_of_the_tour_shows_what_it_should() {
    let mut command = tokio::process::Command::new(MESHSTORE);
    command.args(["demo", "--tour", "--no-open", "--port", "0"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TOUR_DEADLINE, command.output()).await.expect("the tour ends in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[tokio::test]
async fn a_demo_told_to_stop_ends_all_it_started() {
    let mut demo = Demo::start().await;
    let id = Pid::from_raw(i32::try_from(demo.process.id()).unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert!(demo.process.wait().success());
    demo.nothing_is_left().await;
}

#[tokio::test]
async fn a_killed_demo_takes_all_it_started_along() {
    let mut demo = Demo::start().await;
    demo.process.kill();
    demo.nothing_is_left().await;
}

struct Demo {
    process: Process,
    children: Vec<u32>,
    _folder: tempfile::TempDir,
}

impl Demo {
    /// Starts one; returns when its page is up.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        let arguments = ["demo", "--no-open", "--port", "0", "--dir", files.to_str().unwrap()];
        let process = Process::start("demo", MESHSTORE, arguments, folder.path());
        eventually("the page", || async { process.log().contains("/productpage\n").then_some(()) }).await;
        let children = children_of(process.id());
        assert_eq!(children.len(), CHILDREN, "{}", process.log());
        Self { process, children, _folder: folder }
    }

    async fn nothing_is_left(&self) {
        let gone = || async { self.children.iter().all(|id| !runs(*id)).then_some(()) };
        eventually("the end of every child", gone).await;
    }
}

/// Process ids, from /proc.
fn children_of(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, its_parent)| its_parent == parent)).collect()
}

/// Whether it is there, and not only waiting to be reaped.
fn runs(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state != "Z")
}

/// A process's state and parent.
fn stat(id: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// The smallest child: what ties it to its parent, without a mesh.
#[test]
fn a_child_stops_when_its_lifeline_is_cut() {
    let listen = crate::harness::free_port().to_string();
    let mut child = Command::new(MESHSTORE)
        .args(["demo", "app", "ratings", "--pod", "ratings-v1", "--outbound", "127.0.0.1:1", "--listen", &listen])
        .env("MESHSTORE_LIFELINE", "stdin")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    assert!(child.wait().is_ok());
}
