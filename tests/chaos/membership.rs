//! Members come and go while others are killed and cut off.

use std::time::Duration;

use rand::RngExt;

use crate::{
    harness::eventually,
    net::block,
    run::{Run, a_while, times},
};

/// A founder that is never removed, by whom clients that know nobody else find the cluster.
const STAYS: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn members_change_under_faults_and_nothing_is_lost() {
    let mut run = Run::start("members_change_under_faults_and_nothing_is_lost").await;
    for round in 0..times(3) {
        let new = add(&mut run, &format!("n{round}")).await;
        // In turn the oldest and the one that leads.
        let leader = run.leader().await;
        let oldest = *run.members().iter().find(|at| **at != STAYS).unwrap();
        let leaving = if round % 2 == 1 && leader != STAYS { leader } else { oldest };
        remove(&mut run, leaving).await;
        run.serves("after a change of members").await;
        assert!(run.members().contains(&new) || leaving == new);
    }
    run.finish().await;
}

/// Adds a learner and gives it a vote, while one of the others is killed and one cut off for a while.
async fn add(run: &mut Run, name: &str) -> usize {
    let client = run.client();
    let at = run.join(name).await;
    let url = run.cluster.member(at).peer_url();
    let added = || async {
        let listed = client.member_list().await.ok()?;
        let known = listed.members.into_iter().find(|member| member.peer_urls == [url.clone()]);
        if known.is_none() {
            // Whatever comes of it, the list tells.
            let _ = client.member_add(vec![url.clone()], true).await;
        }
        known.map(|member| member.id)
    };
    let id = eventually("a learner is added", added).await;
    run.spawn(at);
    disturb(run, at).await;
    let promoted = || async {
        let listed = client.member_list().await.ok()?;
        if listed.members.iter().any(|member| member.id == id && !member.is_learner) {
            return Some(());
        }
        let _ = client.member_promote(id).await;
        None
    };
    eventually("the learner has a vote", promoted).await;
    run.joined(at);
    run.serves("with the new member").await;
    at
}

/// One of the others is killed and started again, and another is cut off meanwhile.
async fn disturb(run: &mut Run, but: usize) {
    let others: Vec<_> = run.members().into_iter().filter(|at| *at != but).collect();
    let first = run.dice.random_range(0..others.len());
    let (killed, lonely) = (others[first], others[(first + 1) % others.len()]);
    run.net.around(lonely, &run.members(), block);
    run.kill(killed);
    a_while(&mut run.dice, Duration::from_millis(500)).await;
    run.net.heal();
    run.spawn(killed);
}

/// Removes a member, whose process ends by itself.
async fn remove(run: &mut Run, at: usize) {
    let client = run.client();
    let url = run.cluster.member(at).peer_url();
    let removed = || async {
        let listed = client.member_list().await.ok()?;
        match listed.members.into_iter().find(|member| member.peer_urls == [url.clone()]) {
            None => Some(()),
            Some(member) => {
                let _ = client.member_remove(member.id).await;
                None
            }
        }
    };
    eventually("a member is removed", removed).await;
    let (code, log) = run.ended(at).await;
    assert!(code != Some(0) && log.contains("removed"), "{code:?} {log}");
    run.removed(at);
}
