//! Members come and go.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Disk,
    cluster::{Cluster, in_time, node},
    command,
};
use crate::{ChangeError, Formation, MemberId, ProposeError, RaftError, Role};

fn roles(cluster: &Cluster, member: u64) -> Vec<(u64, Role)> {
    cluster.raft(member).members().into_iter().map(|member| (member.id.0, member.role)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_from_one_member_to_three() {
    let mut cluster = Cluster::found(1).await;
    cluster.raft(1).propose(command(0)).await.unwrap();
    for member in [2, 3] {
        cluster.raft(1).add_learner(MemberId(member), node(member)).await.unwrap();
        cluster.start(member).await;
        let raft = cluster.raft(member);
        // A learner takes proposals, too. The change is asked of the member it is about.
        in_time("answer", raft.propose(command(usize::try_from(member).unwrap()))).await.unwrap();
        let promoted = async {
            while let Err(error) = raft.promote(MemberId(member)).await {
                assert!(matches!(error, ChangeError::NotReady { .. } | ChangeError::WouldLoseQuorum), "{error}");
                tokio::task::yield_now().await;
            }
        };
        in_time("vote", promoted).await;
        assert_eq!(raft.members().last().map(|member| member.node.clone()), Some(node(member)));
    }
    let journal = cluster.agreed(&[1, 2, 3], 3).await;
    assert_eq!(journal, [command(0), command(2), command(3)]);
    assert_eq!(roles(&cluster, 3), [(1, Role::Voter), (2, Role::Voter), (3, Role::Voter)]);

    // The first one is needed no more.
    cluster.stop(1).await.unwrap();
    in_time("answer", cluster.raft(2).propose(command(4))).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_not_there_gets_no_vote() {
    let cluster = Cluster::found(3).await;
    for number in 0..20 {
        cluster.raft(1).propose(command(number)).await.unwrap();
    }
    let raft = cluster.raft(cluster.follower().await);
    raft.add_learner(MemberId(4), node(4)).await.unwrap();
    let refused = raft.promote(MemberId(4)).await;
    assert!(matches!(refused, Err(ChangeError::NotReady { member: MemberId(4), matched: 0, .. })), "{refused:?}");
    assert_eq!(raft.promote(MemberId(5)).await, Err(ChangeError::NotFound(MemberId(5))));
    assert_eq!(raft.promote(MemberId(1)).await, Err(ChangeError::NotLearner(MemberId(1))));
    assert_eq!(raft.transfer(MemberId(4)).await, Err(ChangeError::NotVoter(MemberId(4))));
    assert_eq!(raft.add_learner(MemberId(4), node(4)).await, Err(ChangeError::Exists(MemberId(4))));
    raft.remove(MemberId(4)).await.unwrap();
    assert_eq!(raft.add_learner(MemberId(4), node(4)).await, Err(ChangeError::Removed(MemberId(4))));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_member_can_change() {
    let cluster = Cluster::found(3).await;
    let known = crate::Node { client_urls: vec!["http://clients".to_owned()], ..node(2) };
    cluster.raft(3).update(MemberId(2), known.clone()).await.unwrap();
    assert_eq!(cluster.raft(3).members()[1].node, known);
    let endless = crate::Node { name: "n".repeat(5_000), ..node(2) };
    assert!(matches!(cluster.raft(3).update(MemberId(2), endless).await, Err(ChangeError::Invalid(_))));
    cluster.raft(1).propose(command(0)).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_members_have_one_name() {
    let cluster = Cluster::found(3).await;
    let taken = |name: &str, by| Err(ChangeError::NameTaken { name: name.to_owned(), by: MemberId(by) });
    for asked in 1..=3 {
        let raft = cluster.raft(asked);
        assert_eq!(raft.add_learner(MemberId(4), node(3)).await, taken("m3", 3));
        assert_eq!(raft.update(MemberId(2), node(1)).await, taken("m1", 1));
    }
    let raft = cluster.raft(1);
    // Who has told no name yet has none that another could have.
    for member in [4, 5] {
        raft.add_learner(MemberId(member), crate::Node::default()).await.unwrap();
    }
    raft.remove(MemberId(4)).await.unwrap();
    raft.update(MemberId(5), node(4)).await.unwrap();
    assert_eq!(raft.members().last().map(|member| member.node.clone()), Some(node(4)));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_stops_and_stays_out() {
    let mut cluster = Cluster::found(3).await;
    let follower = cluster.follower().await;
    let left: Vec<u64> = (1..=3).filter(|member| *member != follower).collect();
    cluster.raft(left[0]).remove(MemberId(follower)).await.unwrap();
    let fatal = in_time("end", cluster.raft(follower).fatal()).await;
    assert!(matches!(fatal, RaftError::Removed), "{fatal}");
    assert!(matches!(cluster.stop(follower).await, Err(RaftError::Removed)));
    cluster.raft(left[1]).propose(command(0)).await.unwrap();
    assert_eq!(roles(&cluster, left[0]).len(), 2);

    // Nor does it come back on its old disk.
    let fatal = match cluster.try_start(follower, cluster.founding()).await {
        Ok(()) => in_time("end", cluster.raft(follower).fatal()).await,
        Err(error) => error,
    };
    assert!(matches!(fatal, RaftError::Removed), "{fatal}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_removed_after_it_has_handed_over() {
    let cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    in_time("removal", cluster.raft(leader).remove(MemberId(leader))).await.unwrap();
    assert!(matches!(in_time("end", cluster.raft(leader).fatal()).await, RaftError::Removed));
    let left: Vec<u64> = (1..=3).filter(|member| *member != leader).collect();
    assert!(left.contains(&cluster.leader_among(&left).await));
    cluster.raft(left[0]).propose(command(0)).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_removed_who_is_needed_for_a_quorum() {
    let mut cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    let followers: Vec<u64> = (1..=3).filter(|member| *member != leader).collect();
    cluster.stop(followers[0]).await.unwrap();
    let raft = cluster.raft(leader);
    let refused = async {
        // Until the leader has noticed, it takes the removal for harmless; so it is the dead one that goes first.
        while raft.progress().iter().any(|other| {
            other.member == MemberId(followers[0])
                && other.last_contact.is_some_and(|ago| ago < cluster.config.election_timeout * 2)
        }) {
            tokio::task::yield_now().await;
        }
        raft.remove(MemberId(followers[1])).await
    };
    assert_eq!(in_time("refusal", refused).await, Err(ChangeError::WouldLoseQuorum));
    raft.remove(MemberId(followers[0])).await.unwrap();
    raft.propose(command(0)).await.unwrap();
    cluster.end().await;
}

/// Appends a change of voters as its leader does, and leaves it there; the other half never comes.
pub(super) async fn half_a_change(cluster: &Cluster, leader: u64, sets: [&BTreeSet<u64>; 2]) {
    let members: BTreeSet<u64> = sets[0].union(sets[1]).copied().collect();
    let nodes: BTreeMap<u64, crate::Node> = members.iter().map(|member| (*member, node(*member))).collect();
    let joint = crate::types::Membership::new(sets.map(Clone::clone).to_vec(), nodes).unwrap();
    cluster.raft(leader).openraft().append_membership(joint, openraft::EntryPayload::Blank, []).await.unwrap();
}

async fn one_set_of_voters(cluster: &Cluster, among: &BTreeSet<u64>, voters: &BTreeSet<u64>) {
    let one = || among.iter().all(|member| cluster.raft(*member).voter_sets() == [voters.clone()]);
    cluster.until("one set of voters", || one().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_voters_left_in_the_middle_is_completed() {
    let mut cluster = Cluster::found(3).await;
    cluster.raft(1).add_learner(MemberId(4), node(4)).await.unwrap();
    cluster.start(4).await;
    let leader = cluster.leader().await;
    let (before, after) = (BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 3, 4]));
    half_a_change(&cluster, leader, [&before, &after]).await;
    one_set_of_voters(&cluster, &after, &after).await;
    cluster.raft(4).propose(command(0)).await.unwrap();
    cluster.end().await;
}

/// A leader looks after a change of voters that it finds a quarter of an election timeout later: not before it crashes.
async fn patient(founders: u64) -> Cluster {
    let election_timeout = std::time::Duration::from_secs(2);
    Cluster::found_with(founders, |config| crate::Config { election_timeout, ..config }).await
}

/// Its leader begins a change of voters and is cut off as soon as the joint set is committed; then it crashes.
async fn crash_in_the_middle(cluster: &mut Cluster, before: &BTreeSet<u64>, after: impl Fn(u64) -> BTreeSet<u64>) {
    let leader = cluster.leader().await;
    let (after, all) = (after(leader), cluster.members.keys().copied().collect::<BTreeSet<u64>>());
    let left: BTreeSet<u64> = after.iter().copied().filter(|member| *member != leader).collect();
    half_a_change(cluster, leader, [before, &after]).await;
    cluster.net.isolate(leader, all);
    assert!(left.iter().any(|member| cluster.raft(*member).is_changing_voters()), "a quorum has the joint set");
    drop(cluster.stop(leader).await);

    one_set_of_voters(cluster, &left, &after).await;
    let next = cluster.leader_among(&left.iter().copied().collect::<Vec<_>>()).await;
    in_time("answer", cluster.raft(next).propose(command(0))).await.unwrap();
    cluster.net.heal();
    cluster.start(leader).await;
    one_set_of_voters(cluster, &after, &after).await;
    let listed = || after.iter().all(|member| roles(cluster, *member) == roles(cluster, leader));
    cluster.until("the same members everywhere", || listed().then_some(())).await;
    in_time("read", cluster.raft(leader).read_barrier()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_completes_an_addition_in_whose_middle_the_last_one_crashed() {
    let mut cluster = patient(3).await;
    cluster.raft(1).add_learner(MemberId(4), node(4)).await.unwrap();
    cluster.start(4).await;
    let (before, after) = (BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 2, 3, 4]));
    cluster.agreed(&[1, 2, 3, 4], 0).await;
    crash_in_the_middle(&mut cluster, &before, |_| after.clone()).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_completes_a_removal_in_whose_middle_the_last_one_crashed() {
    let mut cluster = patient(4).await;
    let before = BTreeSet::from([1, 2, 3, 4]);
    let removed = cluster.follower().await;
    let after = |leader| {
        assert_ne!(leader, removed, "the lead has not changed");
        BTreeSet::from([1, 2, 3, 4].map(|member| if member == removed { leader } else { member }))
    };
    crash_in_the_middle(&mut cluster, &before, after).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_disk_is_refused() {
    let mut cluster = Cluster::found(3).await;
    cluster.raft(1).propose(command(0)).await.unwrap();
    cluster.greeted().await;
    for formation in [cluster.founding(), Formation::Join] {
        let forgetful = cluster.follower().await;
        let left: Vec<u64> = (1..=3).filter(|member| *member != forgetful).collect();
        cluster.stop(forgetful).await.unwrap();
        let kept = cluster.disks.insert(forgetful, Disk::in_memory()).unwrap();
        let fatal = match cluster.try_start(forgetful, formation).await {
            Ok(()) => {
                let fatal = in_time("end", cluster.raft(forgetful).fatal()).await;
                assert!(matches!(
                    cluster.raft(forgetful).propose(command(9)).await,
                    Err(ProposeError::Stopped | ProposeError::Unknown)
                ));
                cluster.stop(forgetful).await.unwrap_err();
                fatal
            }
            // It was told before it had started.
            Err(error) => error,
        };
        assert!(matches!(fatal, RaftError::Forgetful { .. }), "{fatal}");
        cluster.leader_among(&left).await;
        in_time("answer", cluster.raft(left[0]).propose(command(1))).await.unwrap();

        // On the disk it had, it is welcome.
        cluster.disks.insert(forgetful, kept);
        cluster.start(forgetful).await;
        in_time("read", cluster.raft(forgetful).read_barrier()).await.unwrap();
    }
    cluster.end().await;
}
