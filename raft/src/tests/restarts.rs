//! What a restart finds: everything acknowledged, once.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use engine::Engine;

use super::{Disk, Journal, command, config, journal};
use crate::{Alone, Config, ProposeError, Raft, RaftError};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replays_nothing_that_is_applied_and_all_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for start in 0..3 {
        let disk = Disk::open(dir.path());
        let raft = disk.start(config()).await.unwrap();
        assert_eq!(journal::read(&disk.state), expected);
        for number in start * 100..start * 100 + 100 {
            raft.propose(command(number)).await.unwrap();
            expected.push(command(number));
        }
        raft.shutdown().await.unwrap();
    }
    // A machine that lost its state gets all of it back from the log, in order.
    let lost = Disk { state: Engine::in_memory(journal::SPACES), ..Disk::open(dir.path()) };
    let raft = lost.start(config()).await.unwrap();
    assert_eq!(journal::read(&lost.state), expected);
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_and_not_applied_is_applied_after_a_restart() {
    let disk = Disk::in_memory();
    let config = Config { entry_commands_max: 1, ..config() };
    let machine = Journal::new(disk.state.clone()).failing_at(command(5));
    let raft = Raft::start(config.clone(), disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();
    for number in 0..5 {
        raft.propose(command(number)).await.unwrap();
    }
    assert_eq!(raft.propose(command(5)).await, Err(ProposeError::Unknown));
    let fatal = raft.fatal().await;
    assert!(matches!(fatal, RaftError::Machine(_)), "{fatal}");
    assert!(matches!(raft.propose(command(6)).await, Err(ProposeError::Stopped | ProposeError::Unknown)));
    assert!(raft.read_barrier().await.is_err());
    assert!(matches!(raft.shutdown().await, Err(RaftError::Machine(_))));

    let raft = disk.start(config).await.unwrap();
    let journal = journal::read(&disk.state);
    assert_eq!(journal[..6], (0..6).map(command).collect::<Vec<_>>());
    assert!(journal.len() <= 7, "{journal:?}");
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_panics_stops_the_member() {
    struct Panics;
    impl crate::Machine for Panics {
        type Answer = ();
        fn record(&self) -> Result<Option<Bytes>, crate::MachineError> {
            Ok(None)
        }
        fn apply(&mut self, entries: Vec<crate::Committed>, _: Bytes) -> Result<Vec<Vec<()>>, crate::MachineError> {
            assert!(entries.iter().all(|entry| entry.commands.is_empty()), "a bug");
            Ok(entries.iter().map(|_| Vec::new()).collect())
        }
        fn sync(&mut self) -> Result<(), crate::MachineError> {
            Ok(())
        }
    }
    let raft = Raft::start(config(), Engine::in_memory(crate::SPACES), Panics, Arc::new(Alone)).await.unwrap();
    assert_eq!(raft.propose(command(0)).await, Err(ProposeError::Unknown));
    assert!(matches!(raft.fatal().await, RaftError::Stopped { .. }));
    assert!(raft.shutdown().await.is_err());
}

const DIR: &str = "MESHSTORE_RAFT_TEST_DIR";
const ROUND: &str = "MESHSTORE_RAFT_TEST_ROUND";
const ACKNOWLEDGED: &str = "acknowledged ";

#[test]
fn a_killed_member_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        acknowledged.extend(run_and_kill(dir.path(), round));
    }
    let disk = Disk::open(dir.path());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let raft = disk.start(config()).await.unwrap();
        raft.shutdown().await.unwrap();
    });
    let journal = journal::read(&disk.state);
    let applied: BTreeSet<_> = journal.iter().map(|command| String::from_utf8(command.to_vec()).unwrap()).collect();
    assert_eq!(applied.len(), journal.len(), "something was applied twice");
    let lost: Vec<_> = acknowledged.difference(&applied).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
}

/// Runs a member in a process of its own, kills that in the middle of proposals, and gives what it had acknowledged.
fn run_and_kill(dir: &Path, round: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::restarts::member_to_be_killed", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some((_, command)) = line.unwrap().split_once(ACKNOWLEDGED) {
            acknowledged.push(command.to_owned());
        }
        if acknowledged.len() == 500 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 500, "the member ended by itself after {}", acknowledged.len());
    acknowledged
}

/// Proposes from many tasks, and prints each answer, until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a process of its own by a_killed_member_loses_nothing_it_acknowledged"]
async fn member_to_be_killed() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    let raft = Disk::open(&PathBuf::from(dir)).start(config()).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let (raft, round) = (raft.clone(), round.clone());
        tasks.spawn(async move {
            for number in 0.. {
                let command = format!("{round}.{task}.{number}");
                raft.propose(Bytes::from(command.clone())).await.unwrap();
                println!("{ACKNOWLEDGED}{command}");
            }
        });
    }
    tasks.join_all().await;
}
