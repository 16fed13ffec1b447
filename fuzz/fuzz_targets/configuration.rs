//! Resources as a discovery service sends them and as the proxy keeps them on disk: those of a whole mesh, changed field by
//! field, accepted or refused, and asked for routes.
#![no_main]

use std::sync::LazyLock;

use proto::envoy::service::discovery::v3::Resource;

static RESOURCES: LazyLock<Vec<Resource>> =
    LazyLock::new(|| control::fuzzing::resources(include_str!("../../control/testdata/bookinfo.yaml")));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| proxy::fuzzing::configuration(&RESOURCES, bytes));
