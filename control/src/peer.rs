//! Who calls: the identity that a connection's certificate proved.

use tls::PeerInfo;
use tonic::{Request, Status};
use types::SpiffeId;

/// The namespace that is the cluster's own.
const SYSTEM_NAMESPACE: &str = "meshstore-system";
const ADMIN: &str = "admin";

/// The caller's identity.
pub(crate) fn identity<T>(request: &Request<T>) -> Result<SpiffeId, Status> {
    let peer = request.extensions().get::<PeerInfo>();
    let id = peer.and_then(|peer| peer.spiffe_id.clone());
    id.ok_or_else(|| Status::unauthenticated("a client certificate of the mesh is needed"))
}

/// Lets the cluster's administrator pass, and nobody else.
pub(crate) fn require_admin<T>(request: &Request<T>) -> Result<(), Status> {
    let id = identity(request)?;
    if id.namespace().as_str() == SYSTEM_NAMESPACE && id.service_account().as_str() == ADMIN {
        return Ok(());
    }
    Err(Status::permission_denied(format!("{id} is not the cluster's administrator")))
}
