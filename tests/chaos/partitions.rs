//! Networks that hold back, delay, reorder by reconnecting, and break.

use std::time::Duration;

use rand::{RngExt, rngs::Xoshiro256PlusPlus};

use crate::{
    namespaces::Namespaces,
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
    [Fault::Isolated, Fault::Mute, Fault::Deaf, Fault::Pair, Fault::Slow, Fault::Flapping, Fault::Cut];

#[tokio::test(flavor = "multi_thread")]
async fn partitions_lose_nothing() {
    lose_nothing(Run::start("partitions_lose_nothing").await, &FAULTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_by_the_kernel_lose_nothing() {
    let Some(namespaces) = Namespaces::build(3) else { return };
    // It breaks no connections.
    let (_cut, faults) = FAULTS.split_last().unwrap();
    lose_nothing(Run::start_in("partitions_by_the_kernel_lose_nothing", namespaces).await, faults).await;
}

async fn lose_nothing(mut run: Run, faults: &[Fault]) {
    for round in 0..times(3) {
        for &fault in faults {
            // In turn the leader and another.
            let leader = run.leader().await;
            let other = (leader + 1 + usize::from(run.dice.random::<bool>())) % 3;
            let subject = if round % 2 == 0 { leader } else { other };
            match &run.namespaces {
                Some(namespaces) => begin_in(namespaces, &mut run.dice, fault, subject).await,
                None => begin(&mut run, fault, subject).await,
            }
            run.serves(&format!("while {subject} is {fault:?}")).await;
            a_while(&mut run.dice, FAULT_MAX).await;
            run.heal();
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

/// The same, in namespaces.
async fn begin_in(namespaces: &Namespaces, dice: &mut Xoshiro256PlusPlus, fault: Fault, subject: usize) {
    let others = [(subject + 1) % 3, (subject + 2) % 3];
    match fault {
        Fault::Isolated => namespaces.unplug(subject),
        Fault::Mute => others.iter().for_each(|other| namespaces.silence(subject, *other)),
        Fault::Deaf => others.iter().for_each(|other| namespaces.silence(*other, subject)),
        Fault::Pair => {
            namespaces.silence(subject, others[0]);
            namespaces.silence(others[0], subject);
        }
        Fault::Slow => (0..3).for_each(|at| namespaces.narrow(at)),
        Fault::Flapping => {
            for _ in 0..5 {
                namespaces.unplug(subject);
                a_while(dice, FAULT_MAX / 5).await;
                namespaces.heal();
                a_while(dice, FAULT_MAX / 5).await;
            }
        }
        Fault::Cut => unreachable!("the kernel breaks no connections"),
    }
}
