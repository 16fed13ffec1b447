//! Leaders come and go; what was acknowledged stays.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use tokio::{task::JoinSet, time::Instant};

use super::{
    cluster::{Cluster, in_time},
    command,
};
use crate::{Config, MemberId, ProposeError, ReadError, read::index_sure_of};

#[tokio::test(flavor = "multi_thread")]
async fn all_members_take_proposals_and_apply_the_same() {
    let cluster = Cluster::found(3).await;
    let mut callers = JoinSet::new();
    for member in 1..=3_u64 {
        let raft = cluster.raft(member);
        for number in 0..100 {
            let (raft, command) = (raft.clone(), command(usize::try_from(member).unwrap() * 1_000 + number));
            callers.spawn(async move { (raft.propose(command.clone()).await.unwrap(), command) });
        }
    }
    let answers = in_time("answers", callers.join_all()).await;
    let journal = cluster.agreed(&[1, 2, 3], 300).await;
    for ((place, answered), command) in answers {
        assert_eq!(answered, command);
        assert_eq!(journal[usize::try_from(place).unwrap()], command);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_on_any_member_follows_every_write_acknowledged_before_it() {
    let cluster = Cluster::found(3).await;
    for number in 0..30 {
        let (writer, reader) = (number % 3 + 1, (number / 3) % 3 + 1);
        let place = usize::try_from(number).unwrap();
        cluster.raft(writer).propose(command(place)).await.unwrap();
        in_time("read", cluster.raft(reader).read_barrier()).await.unwrap();
        assert!(cluster.journal(reader).contains(&command(place)), "member {reader} read before it had {place}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_is_followed_by_another_and_no_caller_notices() {
    let mut cluster = Cluster::found(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let proposing = {
        let raft = cluster.raft(follower);
        tokio::spawn(async move {
            for number in 0..200 {
                assert_eq!(raft.propose(command(number)).await.map(|(_, answered)| answered), Ok(command(number)));
            }
        })
    };
    cluster.stop(leader).await.unwrap();
    in_time("answers", proposing).await.unwrap();
    let others: Vec<u64> = cluster.members.keys().copied().collect();
    assert_ne!(cluster.leader_among(&others).await, leader);
    cluster.start(leader).await;
    let journal = cluster.agreed(&[1, 2, 3], 200).await;
    assert_eq!(journal, (0..200).map(command).collect::<Vec<_>>());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_answers_nothing_and_loses_nothing_that_was_acknowledged() {
    let cluster = Cluster::found_with(3, |config| Config { patience: Duration::from_secs(3), ..config }).await;
    let old = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|member| *member != old).collect();
    cluster.raft(old).propose(command(0)).await.unwrap();
    cluster.net.isolate(old, 1..=3);
    let lost = {
        let raft = cluster.raft(old);
        tokio::spawn(async move { raft.propose(command(1)).await })
    };

    cluster.leader_among(&others).await;
    cluster.raft(others[0]).propose(command(2)).await.unwrap();
    // It may still believe that it leads, and has not seen what was acknowledged since.
    let read = in_time("refusal", cluster.raft(old).read_barrier()).await;
    assert!(matches!(read, Err(ReadError::NoLeader | ReadError::NoQuorum)), "{read:?}");
    assert_eq!(cluster.journal(old), [command(0)]);
    let lost = in_time("refusal", lost).await.unwrap();
    assert!(matches!(lost, Err(ProposeError::Unknown | ProposeError::NoLeader)), "{lost:?}");

    cluster.net.heal();
    cluster.leader().await;
    in_time("read", cluster.raft(old).read_barrier()).await.unwrap();
    assert!(cluster.journal(old).contains(&command(2)));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_and_who_asks_it_are_a_quorum_of_three_and_not_of_five() {
    for (members, is_quorum) in [(3, true), (5, false)] {
        let cluster =
            Cluster::found_with(members, |config| Config { patience: Duration::from_secs(3), ..config }).await;
        let (leader, asker) = (cluster.leader().await, cluster.follower().await);
        cluster.raft(leader).propose(command(0)).await.unwrap();
        let others: Vec<u64> = (1..=members).filter(|member| ![leader, asker].contains(member)).collect();
        for other in &others {
            cluster.net.isolate(*other, [leader, asker]);
        }
        if !is_quorum {
            cluster.leader_among(&others).await;
            cluster.raft(others[0]).propose(command(1)).await.unwrap();
        }
        let read = in_time("answer", cluster.raft(asker).read_barrier()).await;
        if is_quorum {
            assert_eq!(read, Ok(()));
            assert_eq!(cluster.journal(asker), [command(0)]);
        } else {
            // Both may still believe that one of them leads, and have not seen what was acknowledged since.
            assert!(matches!(read, Err(ReadError::NoLeader | ReadError::NoQuorum)), "{read:?}");
        }
        cluster.net.heal();
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_given_its_vote_to_another_makes_no_leader_sure() {
    let cluster = Cluster::found(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    cluster.raft(leader).propose(command(0)).await.unwrap();
    let term = cluster.raft(leader).term();
    let sure = async |of: u64, voter, term| {
        index_sure_of(cluster.raft(of).openraft(), MemberId(of), (voter, term)).await.is_some()
    };
    assert!(sure(leader, follower, term).await);
    assert!(!sure(leader, follower, 0).await, "it has turned to none");
    assert!(!sure(leader, follower, term - 1).await, "it has not heard of this leader yet");
    assert!(!sure(leader, follower, term + 1).await, "it has turned to another");
    assert!(!sure(leader, 4, term).await, "it is no voter");
    assert!(!sure(follower, leader, term).await, "it does not lead");
    cluster.end().await;
}

/// On one thread, so that what is proposed together is in one entry.
#[tokio::test]
async fn a_new_leader_is_not_given_what_nobody_waits_for_any_more() {
    let cluster = Cluster::found(3).await;
    let old = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|member| *member != old).collect();
    let follower = cluster.raft(others[0]);
    follower.propose(command(0)).await.unwrap();
    cluster.net.isolate(old, 1..=3);
    let until = Instant::now() + Duration::from_millis(50);
    let both = async { tokio::join!(follower.propose_until(command(1), Some(until)), follower.propose(command(2))) };
    let (late, patient) = in_time("answers", both).await;
    assert_eq!((late, patient.map(|(_, answered)| answered)), (Err(ProposeError::Late), Ok(command(2))));
    cluster.net.heal();
    assert_eq!(cluster.agreed(&[1, 2, 3], 2).await, [command(0), command(2)]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_does_not_append_what_comes_to_it_too_late() {
    let cluster = Cluster::found_with(3, |config| Config { election_timeout: Duration::from_secs(2), ..config }).await;
    let (leader, member) = (cluster.leader().await, cluster.follower().await);
    let follower = cluster.raft(member);
    follower.propose(command(0)).await.unwrap();
    // It is sent, and held up on its way, longer than its caller waits and shorter than a leader lasts.
    cluster.net.cut(member, leader);
    let until = Instant::now() + Duration::from_millis(200);
    let late = tokio::spawn({
        let follower = follower.clone();
        async move { follower.propose_until(command(1), Some(until)).await }
    });
    tokio::time::sleep_until(until + Duration::from_millis(50)).await;
    let term = follower.status().term;
    cluster.net.heal();
    assert_eq!(in_time("answer", late).await.unwrap(), Err(ProposeError::Late));
    in_time("answer", follower.propose(command(2))).await.unwrap();
    assert_eq!(follower.status().term, term, "the leader is the one that it was sent to");
    assert_eq!(cluster.agreed(&[1, 2, 3], 2).await, [command(0), command(2)]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nobody_is_named_as_leader() {
    let cluster = Cluster::found(3).await;
    let named = || [1, 2, 3].map(|member| cluster.raft(member).status().leader);
    // Which one it is may change until all have said it.
    let one = || named()[0].filter(|first| named() == [Some(*first); 3]);
    cluster.until("leader that all name", one).await;
    for member in 1..=3 {
        cluster.net.isolate(member, 1..=3);
    }
    cluster.until("silence", || (named() == [None; 3]).then_some(())).await;
    cluster.net.heal();
    cluster.until("leader that all name", one).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_is_applied_twice_however_the_leaders_change() {
    let cluster = Cluster::found(3).await;
    let mut callers = JoinSet::new();
    for member in 1..=3_u64 {
        for task in 0..8 {
            let raft = cluster.raft(member);
            callers.spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0..25 {
                    let command = command(usize::try_from(member).unwrap() * 10_000 + task * 100 + number);
                    if raft.propose(command.clone()).await.is_ok() {
                        acknowledged.push(command);
                    }
                }
                acknowledged
            });
        }
    }
    for _ in 0..3 {
        let leader = cluster.leader().await;
        cluster.net.isolate(leader, 1..=3);
        let others: Vec<u64> = (1..=3).filter(|member| *member != leader).collect();
        cluster.leader_among(&others).await;
        cluster.net.heal();
    }
    let acknowledged: Vec<_> = in_time("answers", callers.join_all()).await.into_iter().flatten().collect();
    cluster.leader().await;
    join_all((1..=3).map(|member| {
        let raft = cluster.raft(member);
        async move { in_time("read", raft.read_barrier()).await.unwrap() }
    }))
    .await;
    let journal = cluster.agreed(&[1, 2, 3], cluster.journal(1).len()).await;
    let applied: BTreeSet<_> = journal.iter().collect();
    assert_eq!(applied.len(), journal.len(), "something was applied twice");
    assert!(acknowledged.iter().all(|command| applied.contains(command)), "something acknowledged is missing");
    assert_eq!(acknowledged.len(), 600, "a change of leaders was noticed");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_nobody_disturbs_nobody() {
    let cluster = Cluster::found(3).await;
    let leader = cluster.leader().await;
    let (deaf, term) = (cluster.follower().await, cluster.raft(leader).term());
    // It can speak, and so it could be elected in ever higher terms, if the others did not ask first.
    cluster.net.cut(leader, deaf);
    let others: Vec<u64> = (1..=3).filter(|member| *member != deaf).collect();
    for number in 0..20 {
        cluster.raft(leader).propose(command(number)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((cluster.leader_among(&others).await, cluster.raft(leader).term()), (leader, term));
    cluster.net.heal();
    cluster.agreed(&[1, 2, 3], 20).await;
    cluster.end().await;
}

/// A leader asks who is down a few times each heartbeat, and not as fast as it can.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_down_is_left_in_peace_between_heartbeats() {
    let mut cluster = Cluster::found(3).await;
    let follower = cluster.follower().await;
    cluster.stop(follower).await.unwrap();
    let leader = cluster.leader().await;
    let (heartbeats, before) = (20, cluster.net.refused());
    for number in 0..heartbeats {
        cluster.raft(leader).propose(command(number)).await.unwrap();
        tokio::time::sleep(cluster.config.heartbeat).await;
    }
    let refused = cluster.net.refused() - before;
    assert!(refused < heartbeats * 20, "{refused} connections were tried in {heartbeats} heartbeats");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_members_go_on_without_two() {
    let mut cluster = Cluster::found(5).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    cluster.stop(leader).await.unwrap();
    cluster.stop(follower).await.unwrap();
    let left: Vec<u64> = cluster.members.keys().copied().collect();
    for number in 0..10 {
        in_time("answer", cluster.raft(left[number % 3]).propose(command(number))).await.unwrap();
    }
    cluster.agreed(&left, 10).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_answered_and_everything_once_it_is_back() {
    let mut cluster = Cluster::found_with(3, |config| Config { patience: Duration::from_secs(2), ..config }).await;
    cluster.leader().await;
    cluster.stop(1).await.unwrap();
    cluster.stop(2).await.unwrap();
    // Which it is tells how far it had come when the leader went: nowhere, to the leader, or back to be sent to the next.
    let refused = in_time("refusal", cluster.raft(3).propose(command(0))).await;
    assert!(matches!(refused, Err(ProposeError::NoLeader | ProposeError::Unknown | ProposeError::Late)), "{refused:?}");
    let refused = in_time("refusal", cluster.raft(3).read_barrier()).await;
    assert!(matches!(refused, Err(ReadError::NoLeader | ReadError::NoQuorum)), "{refused:?}");
    cluster.start(2).await;
    cluster.leader_among(&[2, 3]).await;
    in_time("answer", cluster.raft(3).propose(command(1))).await.unwrap();
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_goes_to_whom_it_is_given() {
    let cluster = Cluster::found(3).await;
    for to in [2, 3, 1, 2] {
        let asked = cluster.follower().await;
        in_time("transfer", cluster.raft(asked).transfer(MemberId(to))).await.unwrap();
        assert_eq!(cluster.leader().await, to);
    }
    cluster.end().await;
}
