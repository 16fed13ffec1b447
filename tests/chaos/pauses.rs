//! Members that stand still and do not know it.

use crate::run::{Run, times};

/// A leader that was paused for longer than an election must not answer a linearizable read from what it knew: clients have
/// reads waiting at it, and a new leader has acknowledged writes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_answers_nothing_old() {
    let mut run = Run::start("a_paused_leader_answers_nothing_old").await;
    for _ in 0..times(4) {
        let paused = run.leader().await;
        run.pause(paused);
        let next = run.leader_but(&[paused]).await;
        assert_ne!(next, paused);
        run.serves("under the next leader").await;
        run.resume(paused);
        run.serves("when the old leader is back").await;
    }
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_members_take_turns() {
    let mut run = Run::start("paused_members_take_turns").await;
    for _ in 0..times(2) {
        for at in run.members() {
            run.pause(at);
            run.serves("while one member is paused").await;
            run.resume(at);
        }
    }
    run.finish().await;
}
