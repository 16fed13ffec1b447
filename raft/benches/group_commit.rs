//! How many proposals a second does one member on a real disk agree on, and how long does each wait?
//!
//! Load: N clients, each proposing 256 bytes and waiting for the answer; the machine stores every command. Units:
//! proposals a second, milliseconds. Run `cargo bench -p meshstore-raft --profile dev [-- SECONDS]`.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Options, Space};
use meshstore_raft::{ClusterId, Committed, Config, Machine, MachineError, MemberId, Raft, SPACES};
use tokio::task::JoinSet;

const STATE: Space = Space::new("state");

struct Store {
    engine: Engine,
    next: u64,
}

impl Machine for Store {
    type Answer = u64;

    fn record(&self) -> Result<Option<Bytes>, MachineError> {
        self.engine.get(STATE, b"record").map_err(MachineError::new)
    }

    fn apply(&mut self, entries: Vec<Committed>, record: Bytes) -> Result<Vec<Vec<u64>>, MachineError> {
        let mut batch = Batch::new();
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let first = self.next;
            for command in entry.commands {
                batch.put(STATE, Bytes::copy_from_slice(&self.next.to_be_bytes()), command);
                self.next += 1;
            }
            answers.push((first..self.next).collect());
        }
        batch.put(STATE, "record", record);
        self.engine.write(batch, Durability::Buffered).map_err(MachineError::new)?;
        Ok(answers)
    }

    fn sync(&mut self) -> Result<(), MachineError> {
        self.engine.sync().map_err(MachineError::new)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3);
    println!("{:>8} {:>12} {:>14} {:>8} {:>8}", "clients", "proposals/s", "commands/entry", "p50 ms", "p99 ms");
    for clients in [1, 16, 64, 256, 1024] {
        let dir = tempfile::tempdir_in(".")?;
        measure(dir.path(), clients, Duration::from_secs(seconds)).await?;
    }
    Ok(())
}

async fn measure(dir: &Path, clients: usize, span: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let log = Engine::open(&dir.join("log"), SPACES, &Options::default())?;
    let engine = Engine::open(&dir.join("state"), &[STATE], &Options::default())?;
    let raft = Raft::start(Config::new(ClusterId(1), MemberId(1)), log, Store { engine, next: 0 }).await?;
    let (entries_before, started) = (raft.status().log_index, Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(propose_until(raft.clone(), started + span));
    }
    let mut latencies: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    let entries = raft.status().log_index - entries_before;
    raft.shutdown().await?;
    let count = u32::try_from(latencies.len())?;
    let percentile = |hundredths: usize| latencies[(latencies.len() - 1) * hundredths / 100].as_secs_f64() * 1e3;
    println!(
        "{clients:>8} {:>12.0} {:>14.1} {:>8.2} {:>8.2}",
        f64::from(count) / elapsed.as_secs_f64(),
        f64::from(count) / f64::from(u32::try_from(entries)?),
        percentile(50),
        percentile(99),
    );
    Ok(())
}

async fn propose_until(raft: Raft<Store>, end: Instant) -> Vec<Duration> {
    let command = Bytes::from_static(&[7; 256]);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let asked = Instant::now();
        if raft.propose(command.clone()).await.is_ok() {
            latencies.push(asked.elapsed());
        }
    }
    latencies
}
