//! Records as a member's log holds them, with checksums that are right: each alone, and as a log to start on.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    raft::fuzzing::records(bytes);
    raft::fuzzing::log(bytes);
});
