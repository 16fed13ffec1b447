//! Mesh resources in YAML: read, checked, stored, compiled.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        control::fuzzing::documents(text);
    }
});
