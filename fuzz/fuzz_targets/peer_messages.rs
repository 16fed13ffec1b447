//! What other members say.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| raft::fuzzing::messages(bytes));
