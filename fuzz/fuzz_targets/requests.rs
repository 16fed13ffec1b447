//! Every request of etcd's that changes or reads keys: from its bytes through translation, checks and the log's encoding
//! to a store in memory, and its answer back to bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::requests(bytes));
