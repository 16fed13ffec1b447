//! What clients ask a proxy for: brought into one form, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::request(bytes));
