//! Members on older copies of their disks.

use super::{
    Disk,
    cluster::{Cluster, in_time},
    command,
};
use crate::{RaftError, types::log_id};

/// Why the member stopped, on the disk that it was given.
async fn refused(cluster: &mut Cluster, member: u64, disk: Disk) -> String {
    cluster.disks.insert(member, disk);
    let fatal = match cluster.try_start(member, cluster.founding()).await {
        Ok(()) => {
            let fatal = in_time("end", cluster.raft(member).fatal()).await;
            drop(cluster.stop(member).await);
            fatal
        }
        Err(error) => error,
    };
    match fatal {
        RaftError::Forgetful { reason } => reason,
        other => panic!("{other}"),
    }
}

/// Starts the member, and has the others meet it.
async fn start_and_meet(cluster: &mut Cluster, member: u64) {
    cluster.start(member).await;
    cluster.greeted().await;
    let starts = |raft: crate::Raft<super::Journal>| {
        let known = raft.known();
        known.iter().find(|(who, _)| *who == member).map(|(_, known)| known.disk.starts)
    };
    let all: Vec<u64> = cluster.members.keys().copied().collect();
    let met = || all.iter().all(|who| starts(cluster.raft(*who)) == starts(cluster.raft(member)));
    cluster.until("acquaintance", || met().then_some(())).await;
}

async fn restart(cluster: &mut Cluster, member: u64) {
    cluster.stop(member).await.unwrap();
    start_and_meet(cluster, member).await;
}

fn others(member: u64) -> [u64; 2] {
    [1, 2, 3].into_iter().filter(|other| *other != member).collect::<Vec<_>>().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_on_an_older_copy_of_its_disk_is_refused_and_stays_so() {
    let mut cluster = Cluster::found(3).await;
    let member = cluster.follower().await;
    let [left, _] = others(member);
    cluster.greeted().await;
    for (starts, expected) in [(1, "had another start"), (2, "this is start"), (3, "this is start")] {
        cluster.stop(member).await.unwrap();
        let copy = cluster.disks[&member].copy();
        start_and_meet(&mut cluster, member).await;
        for _ in 1..starts {
            restart(&mut cluster, member).await;
        }
        cluster.stop(member).await.unwrap();
        let right = cluster.disks[&member].clone();
        let first = refused(&mut cluster, member, copy.clone()).await;
        assert!(first.contains(expected), "{starts}: {first}");
        assert_eq!(refused(&mut cluster, member, copy).await, first, "it does not start again");
        in_time("answer", cluster.raft(left).propose(command(starts))).await.unwrap();

        cluster.disks.insert(member, right);
        start_and_meet(&mut cluster, member).await;
        in_time("read", cluster.raft(member).read_barrier()).await.unwrap();
    }
    cluster.end().await;
}

/// The copy was started where nobody heard of it: it has been started as often as the member itself by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_started_in_vain_is_refused() {
    let mut cluster = Cluster::found(3).await;
    let member = cluster.follower().await;
    cluster.greeted().await;
    cluster.stop(member).await.unwrap();
    let copy = cluster.disks[&member].copy();
    start_and_meet(&mut cluster, member).await;
    cluster.stop(member).await.unwrap();

    cluster.disks.insert(member, copy.clone());
    cluster.net.isolate(member, [1, 2, 3]);
    for _ in 0..3 {
        cluster.start(member).await;
        cluster.stop(member).await.unwrap();
    }
    cluster.net.heal();
    let reason = refused(&mut cluster, member, copy).await;
    assert!(reason.contains("had another start"), "{reason}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_while_the_member_ran_is_refused() {
    let mut cluster = Cluster::found(3).await;
    let (leader, member) = (cluster.leader().await, cluster.follower().await);
    cluster.greeted().await;
    let copy = cluster.disks[&member].copy();
    for number in 0..20 {
        cluster.raft(leader).propose(command(number)).await.unwrap();
    }
    cluster.agreed(&[1, 2, 3], 20).await;
    cluster.stop(member).await.unwrap();
    let right = cluster.disks[&member].clone();
    // The third one would take the copy for the member, and the member for a copy.
    cluster.net.isolate(member, [6 - leader - member]);
    let reason = refused(&mut cluster, member, copy).await;
    assert!(reason.contains("its log ended at"), "{reason}");
    in_time("answer", cluster.raft(leader).propose(command(20))).await.unwrap();
    cluster.net.heal();

    cluster.disks.insert(member, right);
    cluster.start(member).await;
    cluster.agreed(&[1, 2, 3], 21).await;
    cluster.end().await;
}

/// The leader that counted its acknowledgements is gone; another one heard of them, and was started again since.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_had_is_remembered_when_the_leader_is_gone() {
    let mut cluster = Cluster::found(3).await;
    let (leader, member) = (cluster.leader().await, cluster.follower().await);
    let other = 6 - leader - member;
    cluster.greeted().await;
    let copy = cluster.disks[&member].copy();
    for number in 0..20 {
        cluster.raft(leader).propose(command(number)).await.unwrap();
    }
    cluster.agreed(&[1, 2, 3], 20).await;
    // It greets the leader when it is started, and keeps what it hears.
    restart(&mut cluster, other).await;
    let known = |raft: crate::Raft<super::Journal>| raft.known().into_iter().find(|(who, _)| *who == member).unwrap().1;
    cluster.until("held entries", || known(cluster.raft(other)).held.map(drop)).await;
    cluster.stop(other).await.unwrap();
    cluster.stop(member).await.unwrap();
    cluster.stop(leader).await.unwrap();
    cluster.start(other).await;
    let reason = refused(&mut cluster, member, copy).await;
    assert!(reason.contains("its log ended at"), "{reason}");
    cluster.start(leader).await;
    cluster.agreed(&[leader, other], 20).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_to_an_older_copy() {
    let mut cluster = Cluster::found(3).await;
    cluster.greeted().await;
    let (leader, member) = (cluster.leader().await, cluster.follower().await);
    let away = 6 - leader - member;
    cluster.stop(member).await.unwrap();
    let copy = cluster.disks[&member].copy();
    start_and_meet(&mut cluster, member).await;
    cluster.stop(away).await.unwrap();
    let among = [leader, member];
    let leader = cluster.leader_among(&among).await;
    cluster.raft(leader).propose(command(1)).await.unwrap();
    cluster.agreed(&among, 1).await;

    // Now only one disk has it that is told of, and that one is gone.
    let one = among[0];
    cluster.stop(one).await.unwrap();
    cluster.stop(member).await.unwrap();
    cluster.start(away).await;
    refused(&mut cluster, member, copy).await;
    assert_eq!(cluster.raft(away).status().leader, None);
    cluster.start(one).await;
    cluster.leader().await;
    assert_eq!(cluster.agreed(&[one, away], 1).await, [command(1)]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_what_it_had_acknowledged_is_told_so() {
    let mut cluster = Cluster::found(3).await;
    cluster.greeted().await;
    let (leader, member) = (cluster.leader().await, cluster.follower().await);
    cluster.raft(leader).acquaintances().has_lost(member, &log_id(1, 1));
    let fatal = in_time("end", cluster.raft(member).fatal()).await;
    assert!(matches!(&fatal, RaftError::Forgetful { reason } if reason.contains("lost entries")), "{fatal}");
    drop(cluster.stop(member).await);
    cluster.raft(leader).propose(command(0)).await.unwrap();
    cluster.end().await;
}
