//! `check perf`: a minute of writes at a given rate.

use super::{
    Common, Load, clean_up, clients,
    load::{self, Outcome, Pace, Shape},
    must_be_empty,
    progress::Progress,
};
use crate::cli::{
    Session,
    failure::{Exit, Failure},
};
use std::{
    io::{self, Write},
    time::Duration,
};
use tokio::time::{Instant, interval};

/// How long it writes.
const TEST: Duration = Duration::from_mins(1);
/// How often writes are let go.
const TICK: Duration = Duration::from_millis(1);
/// The share of the rate that must be reached.
const RATE_SHARE_MIN: f64 = 0.9;
/// The longest that a write may take, seconds.
const SLOWEST_MAX: f64 = 0.5;
/// The most that writes may differ, seconds.
const DEVIATION_MAX: f64 = 0.1;

fn rate(load: Load) -> u32 {
    match load {
        Load::Small => 150,
        Load::Medium => 1000,
        Load::Large => 8000,
        Load::ExtraLarge => 15_000,
    }
}

pub(super) async fn run(session: &Session, common: &Common, prefix: &str) -> Result<(), Failure> {
    let clients = clients(session, common.load)?;
    let first = &clients[0];
    must_be_empty(first, prefix).await?;
    let shape = Shape { prefix: prefix.to_owned(), key_bytes: 256, value_bytes: 1024 };
    let pace = Pace::new(clients.len());
    let wanted = rate(common.load);
    let (outcome, interrupted) = {
        let mut interrupted = false;
        let pacing = async {
            tokio::select! {
                () = keep(wanted, &pace) => {}
                _ = tokio::signal::ctrl_c() => interrupted = true,
            }
        };
        (load::run(&clients, &shape, &pace, pacing).await, interrupted)
    };
    clean_up(session, first, common, prefix).await?;
    if interrupted {
        return Err(Failure::new(Exit::Error, "interrupted; its keys are deleted"));
    }
    report(&outcome, wanted)
}

/// Wants writes at this rate, a second, until the time is up.
async fn keep(rate: u32, pace: &Pace) {
    let mut progress = Progress::new(TEST.as_secs());
    let (started, mut ticks, mut wanted) = (Instant::now(), interval(TICK), 0_u64);
    while started.elapsed() < TEST {
        ticks.tick().await;
        let elapsed = started.elapsed();
        let due = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(rate.into()) / 1000;
        pace.want(usize::try_from(due - wanted).unwrap_or(usize::MAX));
        wanted = due;
        // A terminal that is gone does not end the test.
        let _ = progress.show(elapsed.as_secs());
    }
    let _ = progress.show(TEST.as_secs());
    let _ = progress.end();
}

/// Tells what was found, as etcdctl does; fails if something was too slow.
fn report(outcome: &Outcome, wanted: u32) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let mut passed = outcome.errors.is_empty();
    if !passed {
        writeln!(stdout, "FAIL: too many errors")?;
        for (error, times) in &outcome.errors {
            writeln!(stdout, "FAIL: ERROR({error}) -> {times}")?;
        }
    }
    let mut tell = |good: bool, verdict: String, failed: String| {
        passed &= good;
        if good { writeln!(stdout, "PASS: {verdict}") } else { writeln!(stdout, "{failed}") }
    };
    let (rate, slowest, deviation) = (outcome.rate(), outcome.slowest(), outcome.standard_deviation());
    let good = rate > RATE_SHARE_MIN * f64::from(wanted);
    let whole = rate.floor() + 1.0;
    tell(good, format!("Throughput is {whole} writes/s"), format!("FAIL: Throughput too low: {whole} writes/s"))?;
    let failed = format!("Slowest request took too long: {slowest:.6}s");
    tell(slowest <= SLOWEST_MAX, format!("Slowest request took {slowest:.6}s"), failed)?;
    let failed = format!("Stddev too high: {deviation:.6}s");
    tell(deviation <= DEVIATION_MAX, format!("Stddev is {deviation:.6}s"), failed)?;
    writeln!(stdout, "{}", if passed { "PASS" } else { "FAIL" })?;
    if passed { Ok(()) } else { Err(Failure::told(Exit::Error)) }
}
