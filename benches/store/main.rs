//! Question: how fast does the store write, read and tell watchers, and at what cost, beside etcd in the same run?
//!
//! Load: closed loops of CLIENTS tasks on at most eight connections, over loopback, with values of 256 bytes under 10,000
//! keys; fsync is on in both servers. `range` reads 1,000 keys; `txn` compares and swaps; `lease` keeps a lease alive on a
//! stream; `watch` is CLIENTS watchers of one key that eight tasks write without pause. The servers take turns, round by
//! round, so that noise hits them alike.
//! With `--cluster` there are three members of each, which take writes all alike and are read through those that do not
//! lead; the ratio of `get` is then that of followers.
//! With `--slow-follower MS` there are two clusters of each, and in both a follower is traced and left alone by clients: in
//! the second each of its syncs takes so many milliseconds longer. The ratio is to the first of the same program.
//! `echo` is the limit: the gRPC stack alone, which keeps nothing and answers at once.
//! Unit: operations a second, for `watch` events delivered; milliseconds of one request, for `watch` of one put;
//! microseconds of processor time an operation, the server's and the clients' own. Medians of the rounds.
//!
//! `cargo bench --bench store -- --help`. Without an `etcd` on the PATH, or named by ETCD, we are measured alone.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod client;
#[path = "../cluster/mod.rs"]
#[expect(dead_code, reason = "the benchmark of failover uses the rest")]
mod cluster;
mod echo;
mod grpc;
#[allow(dead_code, unused_imports, reason = "the tests' own harness, of which this uses a part")]
#[expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a harness fails by panicking")]
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod server;
mod watchers;
mod workload;

use std::{net::SocketAddr, time::Duration};

use clap::Parser;

use self::{
    cluster::Cluster,
    server::Server,
    workload::{Measured, Workload},
};

/// Measures the store beside etcd.
#[derive(Debug, Parser)]
struct Args {
    /// What to run: put, get, serializable, range, txn, lease or watch, and how many clients.
    #[arg(default_values = [
        "put:1", "put:64", "put:256", "put:1024", "get:1", "get:64", "get:256", "serializable:64", "range:8", "txn:64",
        "lease:64", "watch:1000",
    ])]
    workloads: Vec<Workload>,
    /// Rounds of each workload.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that each server is measured for, each round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The peer's program.
    #[arg(long, env = "ETCD", default_value = "etcd")]
    etcd: String,
    /// Measures three members of each program instead of one.
    #[arg(long)]
    cluster: bool,
    /// Measures what a follower costs the others whose every sync takes so many milliseconds longer; needs strace.
    #[arg(long, value_name = "MS")]
    slow_follower: Option<u64>,
    /// Serves an echo at this address, for a run of this benchmark to measure.
    #[arg(long, hide = true)]
    echo: Option<SocketAddr>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.echo {
        Some(address) => echo::serve(address),
        None => tokio::runtime::Runtime::new()?.block_on(compare(args)),
    }
}

async fn compare(args: Args) -> anyhow::Result<()> {
    let groups = match args.slow_follower {
        Some(ms) => slowed(&args.etcd, Duration::from_millis(ms)).await?,
        None if args.cluster => vec![clusters(&args.etcd).await?],
        None => vec![singles(&args.etcd).await?],
    };
    println!(
        "{:18} {:10} {:>9} {:>6} {:>8} {:>8} {:>9} {:>9}",
        "workload", "server", "ops/s", "ratio", "p50 ms", "p99 ms", "server us", "client us"
    );
    for workload in &args.workloads {
        for servers in &groups {
            measure(workload, servers, args.rounds, Duration::from_secs_f64(args.seconds)).await?;
        }
    }
    Ok(())
}

/// Those that there are, etcd first: the ratios are to it.
async fn singles(etcd: &str) -> anyhow::Result<Vec<Server>> {
    let mut servers = vec![Server::meshstore().await?, Server::echo().await?];
    match Server::etcd(etcd).await {
        Ok(etcd) => servers.insert(0, etcd),
        Err(error) => println!("without etcd: {error}"),
    }
    Ok(servers)
}

async fn clusters(etcd: &str) -> anyhow::Result<Vec<Server>> {
    let mut servers = vec![Server::of(Cluster::meshstore(None).await?)];
    if is_there(etcd) {
        servers.insert(0, Server::of(Cluster::etcd(etcd, None).await?));
    }
    Ok(servers)
}

/// The steady cluster of each program, and the one with a slow disk.
async fn slowed(etcd: &str, slowness: Duration) -> anyhow::Result<Vec<Vec<Server>>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for slowness in [Duration::from_micros(1), slowness] {
        ours.push(Server::of(Cluster::meshstore(Some(slowness)).await?));
        if is_there(etcd) {
            theirs.push(Server::of(Cluster::etcd(etcd, Some(slowness)).await?));
        }
    }
    Ok([theirs, ours].into_iter().filter(|servers| !servers.is_empty()).collect())
}

fn is_there(etcd: &str) -> bool {
    let is_there = std::process::Command::new(etcd).arg("--version").output().is_ok();
    if !is_there {
        println!("without etcd: there is no {etcd}");
    }
    is_there
}

async fn measure(workload: &Workload, servers: &[Server], rounds: usize, span: Duration) -> anyhow::Result<()> {
    let servers: Vec<&Server> =
        servers.iter().filter(|server| workload.has_echo() || server.name != server::ECHO).collect();
    let mut measured: Vec<Vec<Measured>> = servers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (server, measured) in servers.iter().zip(&mut measured) {
            measured.push(workload.run(server, span).await?);
        }
    }
    let medians: Vec<_> = measured.iter().map(|rounds| Measured::median(rounds)).collect();
    for (server, median) in servers.iter().zip(&medians) {
        println!(
            "{:18} {:10} {:>9.0} {:>6.2} {:>8.2} {:>8.2} {:>9.1} {:>9.1}",
            workload.to_string(),
            server.name,
            median.ops_per_second,
            median.ops_per_second / medians[0].ops_per_second,
            median.p50_ms,
            median.p99_ms,
            median.server_us_per_op,
            median.client_us_per_op
        );
    }
    Ok(())
}
