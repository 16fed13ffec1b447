//! The JSON gateway's requests, each as every message that it may be, and as a stream that arrives in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::json(bytes));
