//! The mesh API: configuration of the mesh, and what its proxies run.
//!
//! Its messages are those of `meshstore/mesh.proto`, which documents them. The server demands the administrator's
//! certificate on a connection.

use crate::{
    Client, ClientError,
    transport::{Link, MESSAGE_BYTES_MAX, Repeat},
};
use proto::mesh::mesh_client::MeshClient;
pub use proto::mesh::{
    ApplyRequest, ApplyResponse, Change, DeleteRequest, DeleteResponse, GetRequest, GetResponse, Problem, ProxyState,
    ProxyStatusResponse, Resource, ResourceName, Source, TypeStatus, change::Action,
};

fn mesh_client(link: Link) -> MeshClient<Link> {
    MeshClient::new(link).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

impl Client {
    /// Validates all documents together and stores them in one transaction; a dry run only validates.
    ///
    /// # Errors
    /// As [`ClientError`] says. What is wrong with the documents is not an error but in the answer's `problems`, and
    /// then nothing was stored.
    pub async fn mesh_apply(&self, request: ApplyRequest) -> Result<ApplyResponse, ClientError> {
        let repeat = if request.dry_run { Repeat::Always } else { Repeat::IfUnsent };
        let apply = |link| {
            let request = request.clone();
            async move { mesh_client(link).apply(request).await }
        };
        self.transport.call(repeat, apply).await
    }

    /// Reads resources, all at one revision.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the kind is not known.
    pub async fn mesh_get(&self, request: GetRequest) -> Result<GetResponse, ClientError> {
        let get = |link| {
            let request = request.clone();
            async move { mesh_client(link).get(request).await }
        };
        self.transport.call(Repeat::Always, get).await
    }

    /// Deletes resources in one transaction.
    ///
    /// # Errors
    /// As [`ClientError`] says. Resources that others refer to, or that do not exist, are in the answer's `problems`,
    /// and then nothing was deleted.
    pub async fn mesh_delete(&self, request: DeleteRequest) -> Result<DeleteResponse, ClientError> {
        let delete = |link| {
            let request = request.clone();
            async move { mesh_client(link).delete(request).await }
        };
        self.transport.call(Repeat::IfUnsent, delete).await
    }

    /// What each proxy of the answering member has acknowledged and refused.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn mesh_proxy_status(&self) -> Result<ProxyStatusResponse, ClientError> {
        let status = |link| async move { mesh_client(link).proxy_status(proto::mesh::ProxyStatusRequest {}).await };
        self.transport.call(Repeat::Always, status).await
    }
}
