//! Question: how fast does the store write and read, and at what cost, beside etcd in the same run?
//!
//! Load: closed loops of CLIENTS tasks on at most eight connections, over loopback, each put with 256 bytes to one of
//! 10,000 keys; fsync is on in both servers. The servers take turns, round by round, so that noise hits both alike.
//! Unit: operations a second; milliseconds; microseconds of the server's processor time an operation. Medians of the rounds.
//!
//! `cargo bench --bench store -- --help`. Without an `etcd` on the PATH, or named by ETCD, we are measured alone.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod server;
mod workload;

use std::time::Duration;

use clap::Parser;

use self::{
    server::Server,
    workload::{Measured, Workload},
};

/// Measures the store beside etcd.
#[derive(Debug, Parser)]
struct Args {
    /// What to run: put, get or serializable, and how many clients.
    #[arg(default_values = ["put:1", "put:64", "put:256", "put:1024", "get:64", "get:256", "serializable:64"])]
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
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut servers = vec![Server::meshstore().await?];
    match Server::etcd(&args.etcd).await {
        Ok(etcd) => servers.insert(0, etcd),
        Err(error) => println!("without etcd: {error}"),
    }
    println!(
        "{:18} {:10} {:>9} {:>6} {:>8} {:>8} {:>9}",
        "workload", "server", "ops/s", "ratio", "p50 ms", "p99 ms", "cpu us/op"
    );
    for workload in &args.workloads {
        let mut rounds: Vec<Vec<Measured>> = servers.iter().map(|_| Vec::new()).collect();
        for _ in 0..args.rounds {
            for (server, measured) in servers.iter().zip(&mut rounds) {
                measured.push(workload.run(server, Duration::from_secs_f64(args.seconds)).await?);
            }
        }
        let medians: Vec<_> = rounds.iter().map(|rounds| Measured::median(rounds)).collect();
        for (server, median) in servers.iter().zip(&medians) {
            let ratio = median.ops_per_second / medians[0].ops_per_second;
            println!(
                "{:18} {:10} {:>9.0} {:>6.2} {:>8.2} {:>8.2} {:>9.1}",
                workload.to_string(),
                server.name,
                median.ops_per_second,
                ratio,
                median.p50_ms,
                median.p99_ms,
                median.cpu_us_per_op
            );
        }
    }
    Ok(())
}
