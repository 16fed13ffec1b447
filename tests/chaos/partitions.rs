//! Networks that hold back, delay, reorder by reconnecting, and break.

use std::time::Duration;

use rand::RngExt;

use crate::{
    net::{block, break_off},
    run::{Run, a_while, times},
};

/// Longest that one fault lasts after the others have gone on.
const FAULT_MAX: Duration = Duration::from_millis(500);

/// One that leaves a majority in touch with one another.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing to or from one member.
    Isolated,
    /// One member is not heard.
    Mute,
    /// One member does not hear.
    Deaf,
    /// Two members do not reach one another; both reach the third.
    Pair,
    /// Everything takes long, and not always equally long.
    Slow,
    /// Connections break after some bytes, again and again.
    Cut,
    /// All connections break at once, several times.
    Flapping,
}

const FAULTS: [Fault; 7] =
    [Fault::Isolated, Fault::Mute, Fault::Deaf, Fault::Pair, Fault::Slow, Fault::Cut, Fault::Flapping];

#[tokio::test(flavor = "multi_thread")]
async fn partitions_lose_nothing() {
    let mut run = Run::start("partitions_lose_nothing").await;
    for round in 0..times(3) {
        for fault in FAULTS {
            // In turn the leader and another.
            let leader = run.leader().await;
            let other = (leader + 1 + usize::from(run.dice.random::<bool>())) % 3;
            let subject = if round % 2 == 0 { leader } else { other };
            begin(&mut run, fault, subject).await;
            run.serves(&format!("while {subject} is {fault:?}")).await;
            a_while(&mut run.dice, FAULT_MAX).await;
            run.net.heal();
            run.everybody_lives();
        }
    }
    run.finish().await;
}

async fn begin(run: &mut Run, fault: Fault, subject: usize) {
    let everybody = run.members();
    let net = &run.net;
    match fault {
        Fault::Isolated => net.around(subject, &everybody, block),
        Fault::Mute => net.from(subject, &everybody, block),
        Fault::Deaf => net.to(subject, &everybody, block),
        Fault::Pair => net.around(subject, &[(subject + 1) % 3], block),
        Fault::Slow => {
            for at in &everybody {
                net.from(*at, &everybody, |way| {
                    (way.delay, way.jitter) = (Duration::from_millis(10), Duration::from_millis(15));
                });
            }
        }
        Fault::Cut => {
            let bytes = run.dice.random_range(5_000..50_000);
            run.net.around(subject, &everybody, |way| way.cut_after_bytes = Some(bytes));
        }
        Fault::Flapping => {
            for _ in 0..5 {
                run.net.around(subject, &everybody, break_off);
                a_while(&mut run.dice, FAULT_MAX / 5).await;
            }
        }
    }
}
