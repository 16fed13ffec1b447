//! `check datascale`: what many keys cost the first endpoint in memory.

use super::{
    Common, Load, clean_up, clients,
    load::{self, Pace, Shape},
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
use tokio::time::interval;

/// How often writes are let go.
const TICK: Duration = Duration::from_millis(1);
/// The server's metric that is compared.
const MEMORY: &str = "process_resident_memory_bytes";

fn keys(load: Load) -> usize {
    match load {
        Load::Small => 10_000,
        Load::Medium => 100_000,
        Load::Large => 1_000_000,
        Load::ExtraLarge => 3_000_000,
    }
}

pub(super) async fn run(session: &Session, common: &Common, prefix: &str) -> Result<(), Failure> {
    let clients = clients(session, common.load)?;
    must_be_empty(&clients[0], prefix).await?;
    let before = memory(session).await?;
    let shape = Shape { prefix: prefix.to_owned(), key_bytes: 512, value_bytes: 512 };
    let (count, pace) = (keys(common.load), Pace::new(clients.len()));
    let size = shape.key_bytes + shape.value_bytes;
    writeln!(
        io::stdout(),
        "Start data scale check for work load [{count} key-value pairs, {size} bytes per key-value, {} concurrent clients].",
        clients.len()
    )?;
    let outcome = load::run(&clients, &shape, &pace, all(count, &pace)).await;
    let after = memory(session).await?;
    clean_up(session, &clients[0], common, prefix).await?;
    if outcome.errors.is_empty() {
        let used = (after - before) / f64::from(1 << 20);
        return Ok(writeln!(io::stdout(), "PASS: Approximate system memory used : {used:.2} MB.")?);
    }
    writeln!(io::stdout(), "FAIL: too many errors")?;
    for (error, times) in &outcome.errors {
        writeln!(io::stdout(), "FAIL: ERROR({error}) -> {times}")?;
    }
    Err(Failure::told(Exit::Error))
}

/// Wants this many writes, as fast as they are made, until they are or somebody interrupts.
async fn all(count: usize, pace: &Pace) {
    let mut progress = Progress::new(count as u64);
    let writing = async {
        let (mut ticks, mut left) = (interval(TICK), count);
        while pace.done() < count as u64 {
            ticks.tick().await;
            left -= pace.want(left);
            // A terminal that is gone does not end the test.
            let _ = progress.show(pace.done());
        }
        let _ = progress.end();
    };
    tokio::select! {
        () = writing => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Resident memory of the first endpoint's process, bytes.
async fn memory(session: &Session) -> Result<f64, Failure> {
    let metrics = session.client()?.metrics().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(MEMORY)?.trim().parse::<f64>().ok());
    value.ok_or_else(|| {
        let failure = Failure::new(Exit::Error, format!("the endpoint's /metrics have no {MEMORY}"));
        failure.next("name a server's client address first in --endpoints")
    })
}
