//! Proposals and reads of a member that lives.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use engine::Read;
use futures_util::{future::join_all, poll};
use tokio::{task::JoinSet, time::Instant};

use super::{Disk, Journal, command, config, journal};
use crate::{Alone, Config, Leadership, MemberId, ProposeError, Raft, ReadError, SPACES};

#[tokio::test(flavor = "multi_thread")]
async fn each_of_thousands_of_callers_gets_its_own_answer() {
    const CALLERS: usize = 5_000;
    let disk = Disk::in_memory();
    let raft = disk.start(config()).await.unwrap();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let raft = raft.clone();
        callers.spawn(async move { (number, raft.propose(command(number)).await.unwrap()) });
    }
    let answers = callers.join_all().await;
    let journal = journal::read(&disk.state);
    assert_eq!(journal.len(), CALLERS);
    for (number, (place, answered)) in answers {
        assert_eq!(answered, command(number));
        assert_eq!(journal[usize::try_from(place).unwrap()], command(number));
    }
    let entries = raft.status().log_index;
    assert!(entries < CALLERS as u64 / 2, "{CALLERS} commands took {entries} entries");
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_alone_leads_without_waiting_for_a_timeout() {
    let disk = Disk::in_memory();
    let member = MemberId(0xa);
    let mut last_term = 0;
    for _ in 1..4 {
        let raft = disk.start(config()).await.unwrap();
        let Leadership { term, leader, acting } = *raft.leadership().borrow();
        assert!(acting && leader == Some(member) && term > last_term);
        last_term = term;
        let status = raft.status();
        assert_eq!((status.member, status.leader, status.term), (member, Some(member), term));
        assert_eq!((status.commit_index, status.applied_index), (status.log_index, status.log_index));
        let leadership = raft.leadership();
        raft.shutdown().await.unwrap();
        assert_eq!(*leadership.borrow(), Leadership { term, leader: None, acting: false });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_the_rest_is_answered() {
    let disk = Disk::in_memory();
    let config = Config { queue_commands_max: 2, entries_in_flight_max: 1, ..config() };
    let (machine, mut keeper) = Journal::new(disk.state.clone()).held();
    let raft = Raft::start(config, disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();

    let mut proposals: Vec<_> = (0..4).map(|number| Box::pin(raft.propose(command(number)))).collect();
    assert!(poll!(&mut proposals[0]).is_pending());
    keeper.entered.recv().await.unwrap();
    for waiting in &mut proposals[1..3] {
        assert!(poll!(waiting).is_pending());
    }
    assert_eq!(proposals.pop().unwrap().await, Err(ProposeError::Busy));

    drop(keeper.passes);
    for (number, answer) in join_all(proposals).await.into_iter().enumerate() {
        assert_eq!(answer, Ok((number as u64, command(number))));
    }
    assert_eq!(journal::read(&disk.state), [command(0), command(1), command(2)]);
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded_in_bytes_too() {
    let disk = Disk::in_memory();
    let limits = Config { entries_in_flight_max: 1, command_bytes_max: 60, queue_bytes_max: 100, ..config() };
    let (machine, mut keeper) = Journal::new(disk.state.clone()).held();
    let raft = Raft::start(limits, disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();
    let long = Bytes::from_static(&[1; 60]);

    let mut in_flight = Box::pin(raft.propose(long.clone()));
    assert!(poll!(&mut in_flight).is_pending());
    keeper.entered.recv().await.unwrap();
    let mut queued = Box::pin(raft.propose(long.clone()));
    assert!(poll!(&mut queued).is_pending());
    assert_eq!(raft.propose(long.clone()).await, Err(ProposeError::Busy));
    drop(keeper.passes);
    assert_eq!(in_flight.await, Ok((0, long.clone())));
    assert_eq!(queued.await, Ok((1, long.clone())));
    assert_eq!(raft.propose(long.clone()).await, Ok((2, long)));
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_leave_no_place_taken() {
    let disk = Disk::in_memory();
    let config = Config { queue_commands_max: 2, entries_in_flight_max: 1, ..config() };
    let (machine, mut keeper) = Journal::new(disk.state.clone()).held();
    let raft = Raft::start(config, disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();

    let mut packed = Box::pin(raft.propose(command(0)));
    assert!(poll!(&mut packed).is_pending());
    keeper.entered.recv().await.unwrap();
    let mut queued = Box::pin(raft.propose(command(1)));
    assert!(poll!(&mut queued).is_pending());
    drop((packed, queued));
    drop(keeper.passes);

    // What was packed is applied all the same; what was not is forgotten.
    assert_eq!(raft.propose(command(2)).await, Ok((1, command(2))));
    assert_eq!(journal::read(&disk.state), [command(0), command(2)]);
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_longer_than_its_caller_is_not_packed() {
    let disk = Disk::in_memory();
    let config = Config { entries_in_flight_max: 1, ..config() };
    let (machine, mut keeper) = Journal::new(disk.state.clone()).held();
    let raft = Raft::start(config, disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();

    let mut packed = Box::pin(raft.propose(command(0)));
    assert!(poll!(&mut packed).is_pending());
    keeper.entered.recv().await.unwrap();
    let until = Instant::now() + Duration::from_millis(20);
    let mut late = Box::pin(raft.propose_until(command(1), Some(until)));
    assert!(poll!(&mut late).is_pending());
    let mut patient = Box::pin(raft.propose(command(2)));
    assert!(poll!(&mut patient).is_pending());
    tokio::time::sleep_until(until).await;
    drop(keeper.passes);

    assert_eq!(late.await, Err(ProposeError::Late));
    assert_eq!((packed.await, patient.await), (Ok((0, command(0))), Ok((1, command(2)))));
    assert_eq!(journal::read(&disk.state), [command(0), command(2)]);
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_as_long_as_allowed_and_no_longer() {
    let raft = Disk::in_memory().start(Config { command_bytes_max: 10, ..config() }).await.unwrap();
    assert!(raft.propose(Bytes::from_static(&[0; 10])).await.is_ok());
    let too_large = ProposeError::TooLarge { bytes: 11, bytes_max: 10 };
    assert_eq!(raft.propose(Bytes::from_static(&[0; 11])).await, Err(too_large));
    assert!(raft.propose(Bytes::new()).await.is_ok());
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_follows_every_write_acknowledged_before_it() {
    let raft = Disk::in_memory().start(config()).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..20 {
        let raft = raft.clone();
        tasks.spawn(async move {
            for number in 0..50 {
                raft.propose(command(task * 50 + number)).await.unwrap();
                let acknowledged = raft.status().applied_index;
                raft.read_barrier().await.unwrap();
                assert!(raft.status().applied_index >= acknowledged);
            }
        });
    }
    tasks.join_all().await;
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_confirmed_by_others_waits_for_what_is_committed_and_not_yet_applied() {
    let disk = Disk::in_memory();
    let (machine, mut keeper) = Journal::new(disk.state.clone()).held();
    let raft = Raft::start(config(), disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();
    let proposal = tokio::spawn({
        let raft = raft.clone();
        async move { raft.propose(command(0)).await }
    });
    keeper.entered.recv().await.unwrap();

    // Nobody else can have acknowledged what is in flight, so that alone it need not wait; among others it does.
    raft.read_barrier().await.unwrap();
    let barrier = raft.confirmed_by_quorum();
    tokio::pin!(barrier);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut barrier).await.is_err());
    assert!(journal::read(&disk.state).is_empty());
    keeper.passes.send(()).unwrap();
    barrier.await.unwrap();
    assert_eq!(journal::read(&disk.state), [command(0)]);
    assert_eq!(proposal.await.unwrap(), Ok((0, command(0))));
    raft.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_what_is_in_flight_and_refuses_the_rest() {
    let disk = Disk::in_memory();
    let config = Config { entries_in_flight_max: 1, ..config() };
    let (machine, mut keeper) = Journal::new(disk.state.clone()).held();
    let raft = Raft::start(config, disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();
    let mut in_flight = Box::pin(raft.propose(command(0)));
    assert!(poll!(&mut in_flight).is_pending());
    keeper.entered.recv().await.unwrap();
    let mut queued = Box::pin(raft.propose(command(1)));
    assert!(poll!(&mut queued).is_pending());

    let mut shutdown = Box::pin(raft.shutdown());
    assert!(poll!(&mut shutdown).is_pending());
    assert_eq!(queued.await, Err(ProposeError::Stopped));
    drop(keeper.passes);
    assert_eq!(in_flight.await, Ok((0, command(0))));
    shutdown.await.unwrap();

    assert_eq!(raft.propose(command(2)).await, Err(ProposeError::Stopped));
    assert_eq!(raft.read_barrier().await, Err(ReadError::Stopped));
    raft.shutdown().await.unwrap();
    assert_eq!(journal::read(&disk.state), [command(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_purged_behind_what_is_durable() {
    let disk = Disk::in_memory();
    let config = Config { snapshot_every_entries: 50, catch_up_entries: 20, entry_commands_max: 1, ..config() };
    let machine = Journal::new(disk.state.clone());
    let syncs = machine.syncs.clone();
    let raft = Raft::start(config.clone(), disk.log.clone(), machine, Arc::new(Alone)).await.unwrap();
    for number in 0..300 {
        raft.propose(command(number)).await.unwrap();
    }
    while entries_on_disk(&disk) > 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(entries_on_disk(&disk) >= 20);
    assert!(syncs.load(Ordering::Relaxed) >= 1);
    raft.shutdown().await.unwrap();

    let raft = disk.start(config).await.unwrap();
    assert_eq!(raft.propose(command(300)).await, Ok((300, command(300))));
    raft.shutdown().await.unwrap();
}

fn entries_on_disk(disk: &Disk) -> usize {
    disk.log.rows(SPACES[0]).unwrap().len()
}
