//! A client of the discovery service, which asks, answers, rejects and comes back as it likes while the mesh changes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| control::fuzzing::discovery(bytes));
