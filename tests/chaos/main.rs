//! Chaos: three real members, real clients, and every way to harm them that the machine allows.
//!
//! - Clients write down what they ask and are answered, watchers what they are told; after the faults have stopped, the
//!   whole history is held against what a correct store may do (`tests/history`), every member's keys are hashed and
//!   compared, and every member must serve again.
//! - Members connect to one another through a relay of ours, which delays, holds back and breaks what passes; once in
//!   network namespaces of their own, where the kernel does.
//! - A failing test prints how to run it again, and where the history and the members' logs lie. What happens at which
//!   instant is up to the machine: a seed brings the same faults again, not the same run.
//!
//! `cargo test --test chaos NAME` runs one. `MESHSTORE_CHAOS_TIMES=10` makes each ten times as long,
//! `MESHSTORE_CHAOS_SEED=7` draws other faults; `MESHSTORE_CHAOS_HISTORY=FILE cargo test --test chaos -- --ignored
//! saved_history` checks a saved history again. What needs root, loop devices, namespaces or strace says so and passes over where
//! the machine has them not; where `CI` is set it fails, unless `MESHSTORE_MAY_PASS_OVER=loop,strace` names what is missing.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what a person needs then; all of this is tests"
)]

mod disks;
mod full;
#[path = "../harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test programs use the rest")]
mod harness;
#[path = "../history/mod.rs"]
mod history;
mod kills;
mod machine;
mod membership;
mod namespaces;
mod net;
mod partitions;
mod pauses;
mod power;
mod relay;
mod run;
mod sockets;
mod tracing;
mod translate;
mod volume;
mod watchers;
mod workload;
