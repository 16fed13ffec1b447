//! A member that goes on alone when the quorum is lost for good.

use std::collections::BTreeSet;

use super::{
    Disk,
    cluster::{Cluster, in_time, node},
    command, config,
    membership::half_a_change,
};
use crate::{ChangeError, Config, MemberId, RaftError, Role};

/// Starts it as the only member, from what it has; it leads when this returns.
async fn force(cluster: &mut Cluster, member: u64) {
    cluster.config.force_new_cluster = true;
    cluster.start(member).await;
    cluster.config.force_new_cluster = false;
    let members = cluster.raft(member).members();
    let listed: Vec<_> = members.iter().map(|one| (one.id.0, one.role, one.node.name.clone())).collect();
    assert_eq!(listed, [(member, Role::Voter, node(member).name)]);
    assert_eq!(cluster.raft(member).voter_sets(), [BTreeSet::from([member])]);
}

async fn stop_all(cluster: &mut Cluster) {
    while let Some(member) = cluster.members.keys().next().copied() {
        drop(cluster.stop(member).await);
    }
}

async fn add_voter(cluster: &mut Cluster, by: u64, member: u64) {
    cluster.raft(by).add_learner(MemberId(member), node(member)).await.unwrap();
    cluster.start(member).await;
    let raft = cluster.raft(by);
    let promoted = async {
        while let Err(error) = raft.promote(MemberId(member)).await {
            assert!(matches!(error, ChangeError::NotReady { .. } | ChangeError::WouldLoseQuorum), "{error}");
            tokio::task::yield_now().await;
        }
    };
    in_time("vote", promoted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_that_is_left_has_everything_and_the_others_stay_out() {
    let mut cluster = Cluster::found(3).await;
    for number in 0..30 {
        cluster.raft(1).propose(command(number)).await.unwrap();
    }
    cluster.agreed(&[1, 2, 3], 30).await;
    let left = cluster.follower().await;
    stop_all(&mut cluster).await;
    force(&mut cluster, left).await;
    cluster.raft(left).propose(command(30)).await.unwrap();
    cluster.raft(left).read_barrier().await.unwrap();
    assert_eq!(cluster.journal(left), (0..31).map(command).collect::<Vec<_>>());

    // Together they are a quorum of the cluster that was, until they meet the one that is left.
    let others: Vec<u64> = (1..=3).filter(|member| *member != left).collect();
    cluster.net.isolate(left, 1..=3);
    for other in &others {
        cluster.start(*other).await;
    }
    cluster.leader_among(&others).await;
    cluster.net.heal();
    for other in others {
        let fatal = in_time("end", cluster.raft(other).fatal()).await;
        assert!(matches!(fatal, RaftError::Removed), "{fatal}");
        drop(cluster.stop(other).await);
    }
    assert!(cluster.raft(left).leadership().borrow().acting, "nothing has disturbed it");

    add_voter(&mut cluster, left, 4).await;
    let all = cluster.agreed(&[left, 4], 31).await;
    assert_eq!(all, (0..31).map(command).collect::<Vec<_>>());

    // The flag was left where it stood.
    cluster.stop(left).await.unwrap();
    cluster.config.force_new_cluster = true;
    let refused = cluster.try_start(left, cluster.founding()).await;
    assert!(matches!(refused, Err(RaftError::NotForced { .. })), "{refused:?}");
    cluster.config.force_new_cluster = false;
    cluster.start(left).await;
    in_time("answer", cluster.raft(4).propose(command(31))).await.unwrap();
    assert_eq!(cluster.raft(left).members().len(), 2);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_and_not_committed_is_kept_and_a_change_left_in_the_middle_is_over() {
    let mut cluster = Cluster::found(3).await;
    cluster.raft(1).propose(command(0)).await.unwrap();
    let leader = cluster.leader().await;
    cluster.net.isolate(leader, 1..=3);
    let proposing = {
        let raft = cluster.raft(leader);
        tokio::spawn(async move { raft.propose(command(1)).await })
    };
    let raft = cluster.raft(leader);
    cluster
        .until("an entry that is not committed", || {
            let status = raft.status();
            (status.log_index > status.commit_index).then_some(())
        })
        .await;
    let voters = BTreeSet::from([1, 2, 3]);
    let without = voters.iter().copied().filter(|voter| *voter != leader).collect();
    let is_joint = || (raft.voter_sets().len() == 2).then_some(());
    tokio::select! {
        () = half_a_change(&cluster, leader, [&voters, &without]) => panic!("nobody can have agreed"),
        () = cluster.until("an entry with two sets of voters", is_joint) => {}
    }
    drop(raft);
    stop_all(&mut cluster).await;
    drop(proposing.await);

    force(&mut cluster, leader).await;
    assert_eq!(cluster.journal(leader), [command(0), command(1)]);
    cluster.raft(leader).propose(command(2)).await.unwrap();
    cluster.stop(leader).await.unwrap();
    cluster.start(leader).await;
    assert_eq!(cluster.journal(leader), [0, 1, 2].map(command));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_left_gets_the_only_vote() {
    let mut cluster = Cluster::found(1).await;
    cluster.raft(1).propose(command(0)).await.unwrap();
    cluster.raft(1).add_learner(MemberId(2), node(2)).await.unwrap();
    cluster.start(2).await;
    cluster.agreed(&[1, 2], 1).await;
    stop_all(&mut cluster).await;
    force(&mut cluster, 2).await;
    cluster.raft(2).propose(command(1)).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_alone_already_goes_on_and_who_has_nothing_does_not_begin() {
    let forced = || Config { force_new_cluster: true, ..config() };
    let disk = Disk::in_memory();
    let refused = disk.start(forced()).await.map(drop);
    assert!(matches!(refused, Err(RaftError::NotForced { .. })), "{refused:?}");
    let raft = disk.start(config()).await.unwrap();
    raft.propose(command(0)).await.unwrap();
    raft.shutdown().await.unwrap();
    for number in 1..3 {
        let raft = disk.start(forced()).await.unwrap();
        raft.propose(command(number)).await.unwrap();
        raft.shutdown().await.unwrap();
    }
    assert_eq!(super::journal::read(&disk.state), [0, 1, 2].map(command));
}
