//! Question: for how long does a cluster take no writes when its leader is killed, beside etcd's in the same run?
//!
//! Load: three members on loopback, mTLS among them, timers at their defaults. The leader gets SIGKILL; from then on a put
//! is sent to each of the two others every five milliseconds, whatever became of those before, and the first that is
//! acknowledged ends the time. Only puts count that were sent after the kill. Then the member is started again, and the
//! cluster is left alone for a random part of a second, so that kills fall anywhere between two heartbeats. The two
//! programs take turns, kill by kill.
//! Unit: milliseconds from the kill to the acknowledgement.
//!
//! `ETCD=/path/to/etcd MESHSTORE=/path/to/meshstore cargo bench --bench failover -- --kills 50`. Without an etcd we are
//! measured alone; without MESHSTORE it is the build of this run.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

#[expect(dead_code, reason = "the store's benchmark uses the rest")]
#[path = "../store/client.rs"]
mod client;
#[path = "../cluster/mod.rs"]
#[expect(dead_code, reason = "the store's benchmark uses the rest")]
mod cluster;
#[path = "../store/grpc.rs"]
mod grpc;
#[allow(dead_code, unused_imports, reason = "the tests' own harness, of which this uses a part")]
#[expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a harness fails by panicking")]
#[path = "../../tests/harness/mod.rs"]
mod harness;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rand::RngExt;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use self::{
    client::Client,
    cluster::{Cluster, MEMBERS},
};

/// Between two puts to one member.
const ASKS_EVERY: Duration = Duration::from_millis(5);
/// A cluster that takes no write for so long has failed for good.
const FAILED: Duration = Duration::from_secs(30);
/// Longest rest before a kill.
const REST_MAX: Duration = Duration::from_secs(1);

/// Measures how long a cluster takes no writes when its leader is killed.
#[derive(Debug, Parser)]
struct Args {
    /// How often each program's leader is killed.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// The peer's program.
    #[arg(long, env = "ETCD", default_value = "etcd")]
    etcd: String,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut clusters = vec![Cluster::meshstore(None).await?];
    if std::process::Command::new(&args.etcd).arg("--version").output().is_ok() {
        clusters.push(Cluster::etcd(&args.etcd, None).await?);
    } else {
        println!("without etcd: there is no {}", args.etcd);
    }
    let mut measured = vec![Vec::new(); clusters.len()];
    for _ in 0..args.kills {
        for (cluster, measured) in clusters.iter_mut().zip(&mut measured) {
            measured.push(fail_over(cluster).await?);
        }
    }
    println!("{:10} {:>6} {:>8} {:>8} {:>8} {:>8}", "server", "kills", "min ms", "p50 ms", "p99 ms", "max ms");
    for (cluster, measured) in clusters.iter().zip(&mut measured) {
        measured.sort_unstable();
        let at = |percent: usize| measured[(measured.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        let (name, kills) = (cluster.name, measured.len());
        println!("{name:10} {kills:>6} {:>8.0} {:>8.0} {:>8.0} {:>8.0}", at(0), at(50), at(99), at(100));
    }
    Ok(())
}

/// One kill: how long no write was acknowledged.
async fn fail_over(cluster: &mut Cluster) -> anyhow::Result<Duration> {
    let leader = cluster.whole().await?;
    sleep(rand::rng().random_range(Duration::ZERO..REST_MAX)).await;
    let mut others = Vec::new();
    for at in (0..MEMBERS).filter(|at| *at != leader) {
        others.push(Client::connect(&cluster.endpoint(at)).await?);
    }
    cluster.kill(leader);
    let killed = Instant::now();
    let acknowledged = timeout(FAILED, first_acknowledged(others)).await;
    let took = killed.elapsed();
    acknowledged.with_context(|| format!("{} took no write within {FAILED:?}", cluster.name))??;
    cluster.start_member(leader);
    Ok(took)
}

/// Returns when one of very many puts is acknowledged; the others are given up.
async fn first_acknowledged(clients: Vec<Client>) -> anyhow::Result<()> {
    let mut puts = JoinSet::new();
    let mut ticks = interval(ASKS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => for (number, client) in clients.iter().enumerate() {
                let client = client.clone();
                puts.spawn(async move { client.put(number).await });
            },
            Some(put) = puts.join_next() => if put?.is_ok() {
                return Ok(());
            },
        }
    }
}
