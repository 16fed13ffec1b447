//! Entries of the log, on behalf of users and others: in batches and each alone they come to the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| store::fuzzing::entries(bytes));
