//! Commands as the log holds them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| store::fuzzing::encoded_command(bytes));
