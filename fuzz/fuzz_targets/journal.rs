//! The journal's files with bytes changed here and there, and checksums that hide it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::fuzzing::journal(bytes));
