//! What is asked of a server, and what is measured of its answers.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::Context;
use client::{Client, Get, Put};
use tokio::task::JoinSet;

use super::server::Server;

/// Keys written and read.
const KEYS: usize = 10_000;
/// Bytes of each value.
const VALUE_BYTES: usize = 256;
/// Most connections of one workload.
const CONNECTIONS_MAX: usize = 8;
/// Load before the measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// Closed loops of one operation.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    operation: Operation,
    clients: usize,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Put,
    Get { serializable: bool },
}

impl FromStr for Workload {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (operation, clients) = text.split_once(':').context("write OPERATION:CLIENTS, for example put:64")?;
        let operation = match operation {
            "put" => Operation::Put,
            "get" => Operation::Get { serializable: false },
            "serializable" => Operation::Get { serializable: true },
            other => anyhow::bail!("{other:?} is not put, get or serializable"),
        };
        Ok(Self { operation, clients: clients.parse()? })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Put => "put",
            Operation::Get { serializable: false } => "get",
            Operation::Get { serializable: true } => "serializable",
        };
        write!(f, "{operation}:{}", self.clients)
    }
}

impl Workload {
    /// Runs it for `span`. Every answer must be right: a refusal, or a read that finds nothing, is an error.
    pub(crate) async fn run(&self, server: &Server, span: Duration) -> anyhow::Result<Measured> {
        let connections =
            (0..self.clients.min(CONNECTIONS_MAX)).map(|_| server.client()).collect::<Result<Vec<_>, _>>()?;
        if matches!(self.operation, Operation::Get { .. }) {
            fill(&connections).await?;
        }
        let begin = Instant::now() + WARM_UP;
        let end = begin + span;
        let mut loops = JoinSet::new();
        for number in 0..self.clients {
            loops.spawn(closed_loop(
                connections[number % connections.len()].clone(),
                self.operation,
                number,
                begin,
                end,
            ));
        }
        tokio::time::sleep_until(begin.into()).await;
        let cpu_before = server.cpu()?;
        tokio::time::sleep_until(end.into()).await;
        let cpu = server.cpu()?.saturating_sub(cpu_before);
        let mut latencies = Vec::new();
        while let Some(done) = loops.join_next().await {
            latencies.extend(done??);
        }
        Ok(Measured::of(latencies, span, cpu))
    }
}

async fn fill(connections: &[Client]) -> anyhow::Result<()> {
    let mut writers = JoinSet::new();
    for part in 0..64 {
        let client = connections[part % connections.len()].clone();
        writers.spawn(async move {
            for number in (part..KEYS).step_by(64) {
                client.put(Put::new(key(number), vec![b'v'; VALUE_BYTES])).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

fn key(number: usize) -> String {
    format!("key/{:08}", number % KEYS)
}

/// Asks, waits, asks again until `end`; the times of what was asked from `begin` on.
async fn closed_loop(
    client: Client,
    operation: Operation,
    number: usize,
    begin: Instant,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    // A stride without a common factor with KEYS visits every key.
    const STRIDE: usize = 7919;
    let mut latencies = Vec::new();
    let mut at = number * 31;
    while Instant::now() < end {
        at = (at + STRIDE) % KEYS;
        let asked = Instant::now();
        match operation {
            Operation::Put => {
                client.put(Put::new(key(at), vec![b'v'; VALUE_BYTES])).await?;
            }
            Operation::Get { serializable } => {
                let found = client.get(Get { serializable, ..Get::key(key(at)) }).await?;
                anyhow::ensure!(found.kvs.len() == 1, "{} was written and is not there", key(at));
            }
        }
        if asked >= begin {
            latencies.push(asked.elapsed());
        }
    }
    Ok(latencies)
}

/// What one round came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) ops_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) cpu_us_per_op: f64,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds are far below 2^52")]
    fn of(mut latencies: Vec<Duration>, span: Duration, cpu: Duration) -> Self {
        latencies.sort_unstable();
        let count = latencies.len().max(1);
        let at =
            |percent: usize| latencies.get(count * percent / 100).map_or(0.0, |latency| latency.as_secs_f64() * 1e3);
        Self {
            ops_per_second: latencies.len() as f64 / span.as_secs_f64(),
            p50_ms: at(50),
            p99_ms: at(99),
            cpu_us_per_op: cpu.as_secs_f64() * 1e6 / count as f64,
        }
    }

    /// The median of each figure by itself.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_unstable_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        Self {
            ops_per_second: median(|round| round.ops_per_second),
            p50_ms: median(|round| round.p50_ms),
            p99_ms: median(|round| round.p99_ms),
            cpu_us_per_op: median(|round| round.cpu_us_per_op),
        }
    }
}
