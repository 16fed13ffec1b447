//! A member's etcd v3 services, asked as clients would ask, on a real disk. One program, since each takes long to build.

#[path = "../../../tests/harness/ability.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod ability;
mod cluster;
mod concurrency;
mod deadlines;
mod disk;
mod dropped;
mod hash_kv;
mod leases;
mod long_range;
mod maintenance;
mod range_stream;
mod services;
