//! Question: what do a million keys, a range of a gigabyte, a hundred thousand leases and a compaction cost, in memory, disk
//! and the time of who is beside them, against etcd in the same run?
//!
//! Load: see the module of each question. Servers run one after another, alone, on a disk, with fsync on.
//! Unit: MiB, resident as proc(5) tells it (for etcd that includes the pages of its mapped file that are in memory);
//! milliseconds; seconds.
//!
//! `cargo bench --bench scale -- --help`. Without an `etcd` on the PATH, or named by ETCD, we are measured alone;
//! MESHSTORE names another build of us than the one beside this benchmark.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod beside;
mod client;
mod keys;
mod leases;
mod overwrites;
mod range;
mod server;

use clap::{Parser, ValueEnum};

use self::server::Program;

/// Measures what much of everything costs.
#[derive(Debug, Parser)]
struct Args {
    /// What to ask; all of it if nothing is named.
    questions: Vec<Question>,
    /// Our program.
    #[arg(long, env = "MESHSTORE", default_value = env!("CARGO_BIN_EXE_meshstore"))]
    meshstore: String,
    /// The peer's program.
    #[arg(long, env = "ETCD", default_value = "etcd")]
    etcd: String,
    /// Keys of `keys`, and overwrites of `overwrites`.
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
    /// Bytes that `range` reads, MiB.
    #[arg(long, default_value_t = 1024)]
    range_mib: usize,
    /// Leases that are kept alive; half of them end together, and one has as many keys as there are leases.
    #[arg(long, default_value_t = 100_000)]
    leases: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Question {
    /// Memory, disk and restart with many small keys.
    Keys,
    /// Disk and stalls after every key was overwritten many times and history is compacted.
    Overwrites,
    /// Memory of reading everything at once.
    Range,
    /// Leases kept alive, ended together, and ended with very many keys.
    Leases,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let asked = if args.questions.is_empty() { Question::value_variants().to_vec() } else { args.questions };
    let programs = [Program::Etcd(args.etcd), Program::Meshstore(args.meshstore)];
    let programs: Vec<_> = programs.into_iter().filter(Program::is_there).collect();
    for question in asked {
        println!("\n{question:?}");
        for program in &programs {
            match question {
                Question::Keys => keys::measure(program, args.keys).await?,
                Question::Overwrites => overwrites::measure(program, args.keys).await?,
                Question::Range => range::measure(program, args.range_mib).await?,
                Question::Leases => leases::measure(program, args.leases).await?,
            }
        }
    }
    Ok(())
}
