//! The store's refusals as gRPC statuses. No `_` arm: a new variant does not compile without one.

use client::ClientError;
use tonic::{Code, Status};

/// What a caller of a mesh face is told when the store did not do what was asked of it.
pub(crate) fn status(error: &ClientError) -> Status {
    let code = match error {
        ClientError::Unavailable { .. } => Code::Unavailable,
        ClientError::Uncertain { .. } => Code::Unknown,
        ClientError::Compacted { .. } => Code::OutOfRange,
        ClientError::Busy { .. } => Code::ResourceExhausted,
        // The store denies us, not the caller.
        ClientError::Denied { .. } | ClientError::Protocol(_) | ClientError::Config(_) => Code::Internal,
        ClientError::Refused { code, .. } => *code,
    };
    Status::new(code, error.to_string())
}
