//! Certificate requests of callers who are not known yet.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ca::fuzzing::request(bytes));
