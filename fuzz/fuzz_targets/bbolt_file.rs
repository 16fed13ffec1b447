//! Bytes as etcd's database file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bbolt::fuzzing::file(bytes));
