//! Members come and go while others are killed, paused, cut off, and lose their power.

use std::time::Duration;

use rand::RngExt;

use crate::{
    harness::eventually,
    net::block,
    run::{Run, a_while, times},
    volume::Volume,
};

/// A founder that is never removed, by whom clients that know nobody else find the cluster.
const STAYS: usize = 2;
/// Longest that a step waits once its fault has begun: it finds the others in any stage of noticing it.
const HEAD_START_MAX: Duration = Duration::from_millis(400);

/// What befalls one member during a step. The others are a quorum, and must come through the step without it.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Paused,
    CutOff,
    /// Its disk loses the power, and what was not synced.
    Dark,
}

#[tokio::test(flavor = "multi_thread")]
async fn members_change_under_faults_and_nothing_is_lost() {
    let volumes: Vec<_> = (0..3).map_while(|_| Volume::ext4()).collect();
    let folders: Vec<_> = volumes.iter().map(Volume::path).collect();
    let mut run = Run::start_on("members_change_under_faults_and_nothing_is_lost", &folders).await;
    for round in 0..times(4) {
        let new = add(&mut run, &volumes, &format!("n{round}")).await;
        // In turn the oldest and the one that leads.
        let leader = run.leader().await;
        let oldest = *run.members().iter().find(|at| **at != STAYS).unwrap();
        let leaving = if round % 2 == 1 && leader != STAYS { leader } else { oldest };
        remove(&mut run, &volumes, leaving).await;
        run.serves("after a change of members").await;
        assert!(run.members().contains(&new) || leaving == new);
    }
    run.finish().await;
}

/// Adds a learner and gives it a vote, each while something befalls one of the others.
async fn add(run: &mut Run, volumes: &[Volume], name: &str) -> usize {
    let client = run.client();
    let at = run.join(name).await;
    let url = run.cluster.member(at).peer_url();
    let (struck, fault) = strike(run, volumes, at).await;
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
    recover(run, volumes, struck, fault);
    let (struck, fault) = strike(run, volumes, at).await;
    let promoted = || async {
        let listed = client.member_list().await.ok()?;
        if listed.members.iter().any(|member| member.id == id && !member.is_learner) {
            return Some(());
        }
        let _ = client.member_promote(id).await;
        None
    };
    eventually("the learner has a vote", promoted).await;
    recover(run, volumes, struck, fault);
    run.joined(at);
    run.serves("with the new member").await;
    at
}

/// Removes a member, whose process ends by itself, while something befalls another.
async fn remove(run: &mut Run, volumes: &[Volume], at: usize) {
    let client = run.client();
    let url = run.cluster.member(at).peer_url();
    let (struck, fault) = strike(run, volumes, at).await;
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
    recover(run, volumes, struck, fault);
    let (code, log) = run.ended(at).await;
    assert!(code != Some(0) && log.contains("removed"), "{code:?} {log}");
    run.removed(at);
}

/// Something befalls a member other than `but`, which may be the leader.
async fn strike(run: &mut Run, volumes: &[Volume], but: usize) -> (usize, Fault) {
    let others: Vec<_> = run.members().into_iter().filter(|at| *at != but).collect();
    let struck = others[run.dice.random_range(0..others.len())];
    let fault = match run.dice.random_range(0..4) {
        0 => Fault::Killed,
        1 => Fault::Paused,
        2 => Fault::CutOff,
        _ if struck < volumes.len() => Fault::Dark,
        _ => Fault::Killed,
    };
    match fault {
        Fault::Killed => run.kill(struck),
        Fault::Paused => run.pause(struck),
        Fault::CutOff => run.net.around(struck, &run.members(), block),
        Fault::Dark => {
            volumes[struck].cut_power();
            run.kill(struck);
        }
    }
    a_while(&mut run.dice, HEAD_START_MAX).await;
    (struck, fault)
}

fn recover(run: &mut Run, volumes: &[Volume], struck: usize, fault: Fault) {
    match fault {
        Fault::Killed => run.spawn(struck),
        Fault::Paused => run.resume(struck),
        Fault::CutOff => run.net.heal(),
        Fault::Dark => {
            volumes[struck].power_on();
            run.spawn(struck);
        }
    }
}
