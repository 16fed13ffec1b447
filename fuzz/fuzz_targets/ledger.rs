//! Sequences of commands on the authority's ledger, in batches and each alone.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ca::fuzzing::command(bytes);
    ca::fuzzing::ledger(bytes);
});
