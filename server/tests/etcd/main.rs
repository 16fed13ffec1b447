//! A member's etcd v3 services, asked as clients would ask, on a real disk. One program, since each takes long to build.

mod cluster;
mod concurrency;
mod disk;
mod dropped;
mod hash_kv;
mod leases;
mod long_range;
mod maintenance;
mod range_stream;
mod services;
