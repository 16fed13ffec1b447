//! End to end: real processes of the binary, and clients that are not ours: etcdctl and Envoy.
//!
//! `cargo test --test end_to_end NAME` runs one. A failing test prints the end of the log of every process it ran.
//! `scripts/setup.sh test` installs etcdctl and Envoy.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what a person needs then; all of this is tests"
)]

mod cli;
mod clients;
mod cluster;
mod crash;
mod demo;
mod differential;
mod disk;
mod envoy;
mod etcdctl;
#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod harness;
mod http;
#[cfg(target_os = "linux")]
mod memory;
mod snapshot;
mod watch;
