//! Key ranges against the plainest meaning of `key` and `range_end`.
#![no_main]

use types::fuzzing::{Naive, key_ranges};

type Parts<'a> = (&'a [u8], &'a [u8], &'a [u8], &'a [u8], &'a [u8]);

libfuzzer_sys::fuzz_target!(|parts: Parts<'_>| {
    let (key, range_end, other, other_end, asked) = parts;
    key_ranges(Naive { key, range_end }, Naive { key: other, range_end: other_end }, asked);
});
