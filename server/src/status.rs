//! The one file that builds a `Status`: etcd's codes and exact words, because clients compare them.
//!
//! Source: etcd `api/v3rpc/rpctypes/error.go`.

use raft::{ProposeError, ReadError};
use store::{Failure, Refusal};
use tonic::Status;
use tracing::error;

use crate::SnapshotError;

/// What the store refused, as etcd says it.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::KeyNotProvided => Status::invalid_argument("etcdserver: key is not provided"),
        Refusal::KeyNotFound => Status::invalid_argument("etcdserver: key not found"),
        Refusal::ValueProvided => Status::invalid_argument("etcdserver: value is provided"),
        Refusal::LeaseProvided => Status::invalid_argument("etcdserver: lease is provided"),
        Refusal::TooManyOps => Status::invalid_argument("etcdserver: too many operations in txn request"),
        Refusal::DuplicateKey => Status::invalid_argument("etcdserver: duplicate key given in txn request"),
        Refusal::InvalidSortOption => Status::invalid_argument("etcdserver: invalid sort option"),
        Refusal::RequestTooLarge => Status::invalid_argument("etcdserver: request is too large"),
        Refusal::Compacted { .. } => Status::out_of_range(COMPACTED),
        Refusal::FutureRevision { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision is a future revision")
        }
        Refusal::LeaseNotFound(_) => Status::not_found("etcdserver: requested lease not found"),
        Refusal::LeaseExists(_) => Status::failed_precondition("etcdserver: lease already exists"),
        Refusal::LeaseTtlTooLarge => Status::out_of_range("etcdserver: too large lease TTL"),
    }
}

/// Said of a revision that is no longer readable; a watch that starts below it is cancelled with the same words.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// An enum value that this version of the API does not have.
pub(crate) fn unknown_enum(field: &str, value: i32) -> Status {
    Status::invalid_argument(format!("etcdserver: {field} {value} is not known"))
}

/// A read that the store refused, or could not serve.
pub(crate) fn failed(failure: &Failure) -> Status {
    match failure {
        Failure::Refused(refusal) => refused(refusal),
        Failure::Broken(broken) => {
            error!(error = %broken, "the store cannot read its disk");
            Status::unknown(format!("etcdserver: {broken}"))
        }
    }
}

/// A write that has no answer.
pub(crate) fn not_proposed(error: &ProposeError) -> Status {
    match error {
        ProposeError::NotLeader { leader: None } => Status::unavailable("etcdserver: no leader"),
        ProposeError::NotLeader { leader: Some(_) } => Status::unavailable("etcdserver: leader changed"),
        ProposeError::Busy => Status::resource_exhausted("etcdserver: too many requests"),
        ProposeError::TooLarge { .. } => Status::invalid_argument("etcdserver: request is too large"),
        ProposeError::Unknown => {
            Status::unavailable("etcdserver: request timed out, possibly due to previous leader failure")
        }
        ProposeError::Stopped => Status::unavailable("etcdserver: server stopped"),
    }
}

/// A read that could not be made linearizable.
pub(crate) fn not_confirmed(error: &ReadError) -> Status {
    match error {
        ReadError::NotLeader { leader: None } => Status::unavailable("etcdserver: no leader"),
        ReadError::NotLeader { leader: Some(_) } => Status::unavailable("etcdserver: leader changed"),
        ReadError::NoQuorum => Status::unavailable("etcdserver: request timed out"),
        ReadError::Busy => Status::resource_exhausted("etcdserver: too many requests"),
        ReadError::Stopped => Status::unavailable("etcdserver: server stopped"),
    }
}

/// A request that waited longer than the server lets it.
pub(crate) fn timed_out() -> Status {
    Status::unavailable("etcdserver: request timed out")
}

/// A snapshot that cannot be written or sent: the data directory's disk is full, say.
pub(crate) fn no_snapshot(error: &SnapshotError) -> Status {
    Status::unknown(format!("etcdserver: cannot make a snapshot: {error}"))
}

/// A write to the mesh's own keys from where nobody is authenticated.
pub(crate) fn mesh_keys_are_reserved() -> Status {
    Status::permission_denied(
        "keys under /mesh/ are written only through the mesh API: use 'meshstore mesh apply' or 'meshstore mesh delete'",
    )
}
