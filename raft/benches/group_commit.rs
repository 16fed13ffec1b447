//! How many proposals a second does one member on a real disk agree on, how long does each wait, and how long does the
//! member take to start on the log that this left?
//!
//! Load: N clients, each proposing 256 bytes of noise and waiting for the answer; the machine stores every command. Units:
//! proposals a second, milliseconds. Run `cargo bench -p meshstore-raft --profile dev [-- SECONDS]`.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::{Batch, Durability, Engine, Options, Space};
use meshstore_raft::{Alone, ClusterId, Committed, Config, Machine, MachineError, MemberId, Raft, SPACES};
use tokio::task::JoinSet;

const STATE: Space = Space::new("state");
const COMMAND_BYTES: usize = 256;

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
    let columns = ["clients", "proposals/s", "commands/entry", "p50 ms", "p99 ms", "log MiB", "restart ms"];
    println!("{}", columns.map(|column| format!("{column:>14}")).concat());
    for clients in [1, 16, 64, 256, 1024] {
        let dir = tempfile::tempdir_in(".")?;
        measure(dir.path(), clients, Duration::from_secs(seconds)).await?;
    }
    Ok(())
}

async fn measure(dir: &Path, clients: usize, span: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let raft = start(dir).await?;
    let (entries_before, started) = (raft.status().log_index, Instant::now());
    let (noise, mut tasks) = (noise(), JoinSet::new());
    for client in 0..clients {
        tasks.spawn(propose_until(raft.clone(), noise.clone(), client, started + span));
    }
    let mut latencies: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    let entries = raft.status().log_index - entries_before;
    raft.shutdown().await?;
    drop(raft);
    let restarting = Instant::now();
    let restarted = start(dir).await?;
    let restart = restarting.elapsed();
    restarted.shutdown().await?;
    let count = u32::try_from(latencies.len())?;
    let percentile = |hundredths: usize| latencies[(latencies.len() - 1) * hundredths / 100].as_secs_f64() * 1e3;
    println!(
        "{clients:>14}{:>14.0}{:>14.1}{:>14.2}{:>14.2}{:>14}{:>14}",
        f64::from(count) / elapsed.as_secs_f64(),
        f64::from(count) / f64::from(u32::try_from(entries)?),
        percentile(50),
        percentile(99),
        folder_bytes(&dir.join("log"))? >> 20,
        restart.as_millis(),
    );
    Ok(())
}

async fn start(dir: &Path) -> Result<Raft<Store>, Box<dyn std::error::Error>> {
    let log = Engine::open(&dir.join("log"), SPACES, &Options::default())?;
    let engine = Engine::open(&dir.join("state"), &[STATE], &Options::default())?;
    Ok(Raft::start(Config::new(ClusterId(1), MemberId(1)), log, Store { engine, next: 0 }, Arc::new(Alone)).await?)
}

fn folder_bytes(dir: &Path) -> std::io::Result<u64> {
    std::fs::read_dir(dir)?.map(|file| Ok(file?.metadata()?.len())).sum()
}

/// Proposes ever different parts of `noise`.
async fn propose_until(raft: Raft<Store>, noise: Bytes, client: usize, end: Instant) -> Vec<Duration> {
    let (mut at, mut latencies) = (client * COMMAND_BYTES, Vec::new());
    while Instant::now() < end {
        at = (at + 4_099) % (noise.len() - COMMAND_BYTES);
        let asked = Instant::now();
        if raft.propose(noise.slice(at..at + COMMAND_BYTES)).await.is_ok() {
            latencies.push(asked.elapsed());
        }
    }
    latencies
}

/// A megabyte that does not compress (xorshift).
fn noise() -> Bytes {
    let next = |state: &u64| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    };
    std::iter::successors(Some(0x2545_f491_4f6c_dd1d), next).take(1 << 17).flat_map(u64::to_le_bytes).collect()
}
