//! Whole clusters, simulated from a seed.
//!
//! Owns: the machinery that runs a cluster and its clients on one thread, over a network, on disks and by clocks that obey
//!       it; and that tells what was wrong.
//! In:   a seed, as the only argument; with the feature `planted`, the name of a bug after it.
//! Out:  one line about what happened, or what was wrong and how to see it again.
//!
//! - Members are whole: server, store and raft as they are in production, over their own gRPC. Clients are `client`'s. What
//!   is not real is beneath them: TCP and TLS, RocksDB, threads, and the certificates by which members know each other.
//! - Nothing is left to chance but by the seed: a run is repeated to the nanosecond (`tests/seeds.rs` makes sure).
//! - First there is trouble, as the seed's `Plan` says; then there is none, and within a minute everybody has to serve.
//! - What clients were told must be linearizable, watches complete and in order, leases kept and ended in time, and nothing
//!   done that was not permitted; in the end all members have the same.
//! - The harness is proven by bugs that are planted in the rooms under the feature `planted` (`tests/planted.rs`): each of
//!   them must be found.

mod calls;
mod chance;
mod churn;
mod clients;
#[path = "../../history/mod.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "shared with tests/chaos, which uses other parts of it"))]
mod history;
mod leases;
mod nemesis;
mod network;
mod permissions;
mod plan;
mod run;
mod seat;
mod stage;
mod users;
mod verdict;
mod wall_clock;
mod watchers;

use std::{
    env,
    process::{ExitCode, exit},
    thread,
    time::Duration,
};

/// A run that takes so long in real time goes round in circles.
const HANG_MAX: Duration = Duration::from_mins(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let seed = arguments.first().and_then(|seed| seed.parse().ok());
    let Some((seed, prepare)) = seed.zip(preparation(&arguments[1.min(arguments.len())..])) else {
        eprintln!("meshstore-sim SEED [BUG]");
        return ExitCode::from(2);
    };
    if env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::io::stderr).init();
    }
    thread::spawn(move || {
        thread::sleep(HANG_MAX);
        println!("seed {seed} goes round in circles\n{}", run::again(seed));
        exit(3);
    });
    match run::run(seed, prepare) {
        Ok(passed) => {
            println!("{passed}");
            ExitCode::SUCCESS
        }
        Err(failed) => {
            println!("{failed}");
            ExitCode::FAILURE
        }
    }
}

/// What is done on a run's thread before it begins; `None` for arguments that make no sense.
#[cfg(not(feature = "planted"))]
fn preparation(arguments: &[String]) -> Option<fn()> {
    arguments.is_empty().then_some(|| ())
}

/// What is done on a run's thread before it begins: a bug is planted. `None` for arguments that make no sense.
#[cfg(feature = "planted")]
fn preparation(arguments: &[String]) -> Option<Box<dyn FnOnce() + Send>> {
    match arguments {
        [] => Some(Box::new(|| ())),
        [name] => {
            let bug = types::Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == *name)?;
            Some(Box::new(move || bug.plant()))
        }
        _ => None,
    }
}
