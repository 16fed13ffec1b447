//! What is asked of a server, and what is measured of its answers.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use super::{
    client::{Client, KEYS},
    cluster,
    server::Server,
    watchers,
};

/// Most connections of one workload.
const CONNECTIONS_MAX: usize = 8;
/// Load before the measurement.
const WARM_UP: Duration = Duration::from_millis(500);
/// Tasks that write while watchers listen.
const WRITERS: usize = 8;

/// Closed loops of one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    operation: Operation,
    /// Tasks that ask; for `watch`, watchers that listen.
    clients: usize,
}

/// What one task does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Get,
    Serializable,
    Range,
    Txn,
    KeepAlive,
    Watch,
}

const OPERATIONS: [(&str, Operation); 7] = [
    ("put", Operation::Put),
    ("get", Operation::Get),
    ("serializable", Operation::Serializable),
    ("range", Operation::Range),
    ("txn", Operation::Txn),
    ("lease", Operation::KeepAlive),
    ("watch", Operation::Watch),
];

impl FromStr for Workload {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, clients) = text.split_once(':').context("write OPERATION:CLIENTS, for example put:64")?;
        let operation = OPERATIONS.iter().find(|(known, _)| *known == name).map(|&(_, operation)| operation);
        let known = || format!("{name:?} is none of {:?}", OPERATIONS.map(|(name, _)| name));
        Ok(Self { operation: operation.with_context(known)?, clients: clients.parse()? })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OPERATIONS.iter().find(|(_, operation)| *operation == self.operation).map_or("", |(name, _)| name);
        write!(f, "{name}:{}", self.clients)
    }
}

impl Workload {
    /// Whether a server that only echoes can say what its limit is.
    pub(crate) fn has_echo(&self) -> bool {
        matches!(self.operation, Operation::Put | Operation::Get | Operation::Serializable)
    }

    /// Runs it for `span`. Every answer must be right: a refusal, or a read that finds nothing, is an error.
    pub(crate) async fn run(&self, server: &Server, span: Duration) -> anyhow::Result<Measured> {
        let count = self.clients.min(CONNECTIONS_MAX);
        let is_reading = matches!(self.operation, Operation::Get | Operation::Serializable | Operation::Range);
        let endpoints = server.endpoints(is_reading).await?;
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            connections.push(Client::connect(&endpoints[number % endpoints.len()]).await?);
        }
        if is_reading {
            fill(&connections).await?;
        }
        let begin = Instant::now() + WARM_UP;
        let end = begin + span;
        let mut loops = JoinSet::new();
        let mut watching = JoinSet::new();
        if self.operation == Operation::Watch {
            for (number, connection) in connections.iter().enumerate() {
                let watchers = self.clients / count + usize::from(number < self.clients % count);
                watching.spawn(watchers::count(connection.clone(), watchers, begin, end));
            }
        }
        let askers = if self.operation == Operation::Watch { WRITERS } else { self.clients };
        for number in 0..askers {
            let client = connections[number % connections.len()].clone();
            loops.spawn(closed_loop(client, self.operation, number, begin, end));
        }
        tokio::time::sleep_until(begin.into()).await;
        let cpu = || anyhow::Ok((server.cpu()?, cluster::cpu(std::process::id())?));
        let (server_before, client_before) = cpu()?;
        tokio::time::sleep_until(end.into()).await;
        let (server_after, client_after) = cpu()?;
        let mut latencies = Vec::new();
        while let Some(done) = loops.join_next().await {
            latencies.extend(done??);
        }
        let mut events = 0;
        while let Some(seen) = watching.join_next().await {
            events += seen??;
        }
        let operations = if self.operation == Operation::Watch { events } else { latencies.len() };
        let cpu = (server_after.saturating_sub(server_before), client_after.saturating_sub(client_before));
        Ok(Measured::of(operations, latencies, span, cpu))
    }
}

async fn fill(connections: &[Client]) -> anyhow::Result<()> {
    let mut writers = JoinSet::new();
    for part in 0..64 {
        let client = connections[part % connections.len()].clone();
        writers.spawn(async move {
            for number in (part..KEYS).step_by(64) {
                client.put(number).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
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
    let mut lease = if operation == Operation::KeepAlive { Some(client.lease().await?) } else { None };
    let mut counter = if operation == Operation::Txn { client.counter(number).await? } else { 0 };
    while Instant::now() < end {
        at = (at + STRIDE) % KEYS;
        let asked = Instant::now();
        match operation {
            Operation::Put => client.put(at).await?,
            Operation::Watch => client.put(watchers::KEY).await?,
            Operation::Get => client.get(at, false).await?,
            Operation::Serializable => client.get(at, true).await?,
            Operation::Range => client.range(at).await?,
            Operation::Txn => counter = client.increment(number, counter).await?,
            Operation::KeepAlive => lease.as_mut().context("granted above")?.renew().await?,
        }
        if asked >= begin {
            latencies.push(asked.elapsed());
        }
    }
    ensure!(!latencies.is_empty(), "not one {operation:?} came back in time");
    Ok(latencies)
}

/// What one round came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Answers, or events delivered to watchers.
    pub(crate) ops_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) server_us_per_op: f64,
    pub(crate) client_us_per_op: f64,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds are far below 2^52")]
    fn of(
        operations: usize,
        mut latencies: Vec<Duration>,
        span: Duration,
        (server, client): (Duration, Duration),
    ) -> Self {
        latencies.sort_unstable();
        let count = latencies.len();
        let at =
            |percent: usize| latencies.get(count * percent / 100).map_or(0.0, |latency| latency.as_secs_f64() * 1e3);
        let of_one = |cpu: Duration| cpu.as_secs_f64() * 1e6 / operations.max(1) as f64;
        Self {
            ops_per_second: operations as f64 / span.as_secs_f64(),
            p50_ms: at(50),
            p99_ms: at(99),
            server_us_per_op: of_one(server),
            client_us_per_op: of_one(client),
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
            server_us_per_op: median(|round| round.server_us_per_op),
            client_us_per_op: median(|round| round.client_us_per_op),
        }
    }
}
