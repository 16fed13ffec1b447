//! Snapshots that hold what no etcd writes: restored to a store that opens, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::snapshot(bytes));
