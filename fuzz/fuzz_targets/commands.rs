//! Sequences of commands, as the log has them, on the store and on its model, which is a map for each revision.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| store::fuzzing::commands(bytes));
