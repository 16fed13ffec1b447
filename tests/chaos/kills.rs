//! SIGKILL, at any instant and at the instant of a sync.
//!
//! Asked for are 100 cycles of a kill and a start; CI makes them all. In a cycle one member is killed, or more at once.

use std::time::Duration;

use rand::RngExt;

use crate::{
    harness::eventually,
    run::{Run, a_while, times},
    tracing::{self, has_strace},
};

const CYCLES: u64 = 100;
/// Longest between a start and a kill, and between a kill and a start.
const UP_MAX: Duration = Duration::from_millis(400);
const DOWN_MAX: Duration = Duration::from_millis(150);
/// Among the first so many syncs after a start is the one at which a member is killed.
const SYNCS_MAX: u32 = 60;
/// After so many cycles everybody is up, and must serve.
const REST_EVERY: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing() {
    let mut run = Run::start("kills_lose_nothing").await;
    let strace = has_strace();
    let (mut kills, mut at_a_sync) = (0, 0);
    for cycle in 1..=times(CYCLES) {
        a_while(&mut run.dice, UP_MAX).await;
        let victims = victims(&mut run).await;
        for &at in &victims {
            run.kill(at);
            kills += 1;
        }
        a_while(&mut run.dice, DOWN_MAX).await;
        for &at in &victims {
            // Alone it would find nothing to sync.
            if strace && victims.len() == 1 && run.dice.random_range(0..4) == 0 {
                start_to_die_at_a_sync(&mut run, at).await;
                kills += 1;
                at_a_sync += 1;
            }
            run.spawn(at);
        }
        if cycle % REST_EVERY == 0 {
            run.serves("between kills").await;
        }
        run.everybody_lives();
    }
    eprintln!("{} cycles: {kills} kills, {at_a_sync} of them at a sync", times(CYCLES));
    run.finish().await;
}

/// Mostly one member, the leader more often than others; now and then two, or everybody at once.
async fn victims(run: &mut Run) -> Vec<usize> {
    let members = run.members();
    let any = run.dice.random_range(0..members.len());
    match run.dice.random_range(0..10) {
        0 => members,
        1 => vec![members[any], members[(any + 1) % members.len()]],
        2..6 => vec![run.leader().await],
        _ => vec![members[any]],
    }
}

/// Starts a member that is killed when it syncs for the `n`th time, and waits until it is. The others keep it busy.
async fn start_to_die_at_a_sync(run: &mut Run, at: usize) {
    let sync = run.dice.random_range(1..SYNCS_MAX);
    let command = tracing::killed_at_sync(sync);
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    run.spawn_under(at, &words);
    let cell = tokio::sync::Mutex::new(run);
    let ended = || async { cell.lock().await.has_ended(at).then_some(()) };
    eventually(&format!("a member is killed at its sync {sync}"), ended).await;
    // Its status has been taken; the process is gone.
    cell.into_inner().kill(at);
}
