//! The mesh API face: configuration in and out, for the cluster's administrator.
//!
//! - All of one call is stored in one transaction, at one revision, or nothing is.
//! - A transaction holds only if nothing that it was validated against has changed meanwhile; else it is validated again.
//! - What is as it was is not written.

mod change;
mod status;
mod wire;

use client::{Client, Get};
use proto::mesh::{
    ApplyRequest, ApplyResponse, DeleteRequest, DeleteResponse, GetRequest, GetResponse, ProxyStatusRequest,
    ProxyStatusResponse, mesh_server::Mesh,
};
use tonic::{Request, Response, Status};
use types::Revision;

use crate::{
    ads::Registry,
    model::{Id, KEY_PREFIX, KindFilter, Problem, SourceText, parse},
    peer,
};
use change::{Change, Editor};

pub(crate) use status::status;

/// Namespace of resources that name none, when the caller names none either.
const DEFAULT_NAMESPACE: &str = "default";

/// The mesh API. Source: `proto/meshstore/mesh.proto`.
#[derive(Clone, Debug)]
pub struct MeshApi {
    client: Client,
    registry: Registry,
    editor: Editor,
}

impl MeshApi {
    pub(crate) fn new(client: Client, registry: Registry, txn_ops_max: usize) -> Self {
        let editor = Editor::new(client.clone(), txn_ops_max);
        Self { client, registry, editor }
    }
}

#[tonic::async_trait]
impl Mesh for MeshApi {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        peer::require_admin(&request)?;
        let ApplyRequest { sources, dry_run, default_namespace } = request.into_inner();
        let (parsed, problems) = parse(&wire::sources(sources), namespace(&default_namespace));
        if !problems.is_empty() {
            return Ok(Response::new(ApplyResponse { problems: wire::problems(problems), ..Default::default() }));
        }
        let changes = parsed.into_iter().map(|parsed| Change::Put(Box::new(parsed))).collect();
        let outcome = self.editor.change(changes, dry_run).await.map_err(|error| status(&error))?;
        Ok(Response::new(ApplyResponse {
            revision: outcome.revision.map_or(0, Revision::get),
            changes: outcome.changes,
            problems: wire::problems(outcome.problems),
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        peer::require_admin(&request)?;
        let GetRequest { kind, namespace, name, revision } = request.into_inner();
        let kinds = KindFilter::parse(&kind).map_err(|unknown| unknown_kind(&unknown.message, &unknown.suggestion))?;
        let at = Revision::new(revision);
        let read = Get { revision: at, ..Get::prefix(KEY_PREFIX) };
        let response = self.client.get(read).await.map_err(|error| status(&error))?;
        let wanted = |id: &Id| {
            kinds.contains(id.kind)
                && (namespace.is_empty() || id.namespace == namespace)
                && (name.is_empty() || id.name == name)
        };
        let found = response.kvs.iter().filter_map(|kv| Some((Id::of_key(&kv.key).filter(wanted)?, kv)));
        let mut found: Vec<_> = found.collect();
        found.sort_by(|(left, _), (right, _)| left.cmp(right));
        let resources = found.into_iter().map(|(id, kv)| wire::stored(&id, kv)).collect();
        Ok(Response::new(GetResponse { revision: at.unwrap_or(response.revision).get(), resources }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        peer::require_admin(&request)?;
        let DeleteRequest { names, sources, default_namespace } = request.into_inner();
        let default_namespace = namespace(&default_namespace);
        let (ids, problems) = doomed(names, &wire::sources(sources), default_namespace);
        if !problems.is_empty() {
            return Ok(Response::new(DeleteResponse { problems: wire::problems(problems), ..Default::default() }));
        }
        let changes = ids.into_iter().map(Change::Delete).collect();
        let outcome = self.editor.change(changes, false).await.map_err(|error| status(&error))?;
        Ok(Response::new(DeleteResponse {
            revision: outcome.revision.map_or(0, Revision::get),
            changes: outcome.changes,
            problems: wire::problems(outcome.problems),
        }))
    }

    async fn proxy_status(
        &self,
        request: Request<ProxyStatusRequest>,
    ) -> Result<Response<ProxyStatusResponse>, Status> {
        peer::require_admin(&request)?;
        let newest = Get { count_only: true, ..Get::prefix(KEY_PREFIX) };
        let revision = self.client.get(newest).await.map_err(|error| status(&error))?.revision.get();
        let proxies = self.registry.list().into_iter().map(wire::proxy).collect();
        Ok(Response::new(ProxyStatusResponse { revision, proxies }))
    }
}

fn namespace(given: &str) -> &str {
    if given.is_empty() { DEFAULT_NAMESPACE } else { given }
}

fn unknown_kind(message: &str, suggestion: &str) -> Status {
    let text = if suggestion.is_empty() { message.to_owned() } else { format!("{message}: {suggestion}") };
    Status::invalid_argument(text)
}

/// What a delete names, each once.
fn doomed(
    names: Vec<proto::mesh::ResourceName>,
    sources: &[SourceText],
    default_namespace: &str,
) -> (Vec<Id>, Vec<Problem>) {
    let (parsed, mut problems) = parse(sources, default_namespace);
    let mut ids: Vec<Id> = parsed.into_iter().map(|parsed| parsed.resource.id).collect();
    for name in names {
        let namespace = if name.namespace.is_empty() { default_namespace.to_owned() } else { name.namespace };
        match KindFilter::parse(&name.kind) {
            Ok(KindFilter::One(kind)) => ids.push(Id { kind, namespace, name: name.name }),
            Ok(KindFilter::All) => {
                problems.push(Problem { message: "name the kind to delete".to_owned(), ..Problem::default() });
            }
            Err(unknown) => {
                let (message, suggestion) = (unknown.message, unknown.suggestion);
                problems.push(Problem { message, suggestion, ..Problem::default() });
            }
        }
    }
    ids.sort();
    ids.dedup();
    (ids, problems)
}

#[cfg(test)]
mod tests;
