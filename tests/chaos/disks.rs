//! Disks whose syncs fail or stall.

use std::time::Duration;

use crate::{
    run::{Run, times},
    tracing::Syncs,
};

/// Much longer than an election takes.
const STALL: Duration = Duration::from_secs(3);

/// After a sync has failed nobody knows what is on the disk: the member stops, and comes back on what there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_its_member_alone() {
    let mut run = Run::start("a_failed_sync_stops_its_member_alone").await;
    for _ in 0..times(1) {
        let leader = run.leader().await;
        let errors = [("EIO", "Input/output error"), ("ENOSPC", "No space left on device")];
        for (at, (error, told)) in [leader, (leader + 1) % 3].into_iter().zip(errors) {
            let process = run.process(at);
            let Some(failing) = Syncs::fail(process, error).await else { return };
            let (code, log) = run.ended(at).await;
            assert!(code.is_some_and(|code| code != 0), "it says that it failed: {code:?}");
            assert!(log.contains(told), "{log}");
            drop(failing);
            run.serves("without the member whose sync has failed").await;
            run.spawn(at);
            run.serves("with that member back").await;
        }
    }
    run.finish().await;
}

/// A leader that cannot write gives way to one that can.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_stalls_steps_down() {
    let mut run = Run::start("a_leader_whose_disk_stalls_steps_down").await;
    for _ in 0..times(2) {
        let leader = run.leader().await;
        let process = run.process(leader);
        let Some(stalling) = Syncs::stall(process, STALL).await else { return };
        let next = run.leader_but(&[leader]).await;
        assert_ne!(next, leader);
        run.serves("under a leader whose disk is well").await;
        drop(stalling);
        run.serves("when the disk is well again").await;
        run.everybody_lives();
    }
    run.finish().await;
}

/// The disk of one who does not lead holds up nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_stalls_holds_up_nobody() {
    let mut run = Run::start("a_follower_whose_disk_stalls_holds_up_nobody").await;
    let leader = run.leader().await;
    let process = run.process((leader + 1) % 3);
    let Some(stalling) = Syncs::stall(process, STALL).await else { return };
    for _ in 0..times(5) {
        run.serves("beside a follower whose disk stalls").await;
    }
    drop(stalling);
    run.finish().await;
}
