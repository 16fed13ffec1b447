//! What etcd keeps in its buckets `key` and `lease`, byte for byte.
//!
//! Owns: the form of a change's key and value there: etcd `server/storage/mvcc/revision.go`, `mvccpb.KeyValue` and
//!       `leasepb.Lease` in protobuf's encoding.

use std::time::Duration;

use types::LeaseId;

use crate::{
    Lease,
    layout::{Meta, Point},
    varint,
};

pub(super) const KEY_BUCKET: &[u8] = b"key";
pub(super) const LEASE_BUCKET: &[u8] = b"lease";

const TOMBSTONE: u8 = b't';

/// Fields of `KeyValue`.
mod field {
    pub(super) const KEY: u8 = 1;
    pub(super) const CREATE_REVISION: u8 = 2;
    pub(super) const MOD_REVISION: u8 = 3;
    pub(super) const VERSION: u8 = 4;
    pub(super) const VALUE: u8 = 5;
    pub(super) const LEASE: u8 = 6;
    /// Of `leasepb.Lease`.
    pub(super) const LEASE_ID: u8 = 1;
    pub(super) const LEASE_TTL: u8 = 2;
    pub(super) const LEASE_REMAINING: u8 = 3;
}

/// A put's key in the bucket and the key's new version, one after the other.
pub(super) fn put(point: Point, key: &[u8], meta: Meta, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + value.len() + 64);
    bucket_key(&mut out, point);
    bytes(&mut out, field::KEY, key);
    number(&mut out, field::CREATE_REVISION, meta.created.get());
    number(&mut out, field::MOD_REVISION, point.revision.get());
    number(&mut out, field::VERSION, meta.version);
    bytes(&mut out, field::VALUE, value);
    number(&mut out, field::LEASE, meta.lease.map_or(0, LeaseId::get));
    out
}

/// A delete's key in the bucket, and the key that is gone.
pub(super) fn deleted(point: Point, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 32);
    bucket_key(&mut out, point);
    out.push(TOMBSTONE);
    bytes(&mut out, field::KEY, key);
    out
}

pub(super) fn lease_key(id: LeaseId) -> [u8; 8] {
    id.get().to_be_bytes()
}

pub(super) fn lease_value(lease: &Lease) -> Vec<u8> {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let mut out = Vec::new();
    number(&mut out, field::LEASE_ID, lease.id.get());
    number(&mut out, field::LEASE_TTL, seconds(lease.ttl));
    number(&mut out, field::LEASE_REMAINING, lease.remaining.map_or(0, seconds));
    out
}

fn bucket_key(out: &mut Vec<u8>, point: Point) {
    out.extend(point.revision.get().to_be_bytes());
    out.push(b'_');
    out.extend(u64::from(point.place).to_be_bytes());
}

/// Zero is not written.
fn number(out: &mut Vec<u8>, field: u8, value: i64) {
    const VARINT: u8 = 0;
    if value != 0 {
        out.push(field << 3 | VARINT);
        varint::put(out, value.cast_unsigned());
    }
}

/// Nothing is not written.
fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    const LENGTH_DELIMITED: u8 = 2;
    if !value.is_empty() {
        out.push(field << 3 | LENGTH_DELIMITED);
        varint::put(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}
