//! The mesh API's messages, to and from what the room means by them.

use client::KeyValue;
use proto::mesh::{self, ProxyState, TypeStatus};
use types::Revision;

use crate::{
    ads::{Progress, Protocol, ProxyStatus},
    compile::ResourceType,
    model::{Id, Problem, SourceText},
};

pub(super) fn sources(sources: Vec<mesh::Source>) -> Vec<SourceText> {
    sources.into_iter().map(|source| SourceText { name: source.name, text: source.text }).collect()
}

/// Problems in the order in which a reader meets them.
pub(super) fn problems(mut problems: Vec<Problem>) -> Vec<mesh::Problem> {
    problems.sort();
    let one = |problem: Problem| {
        let Problem { source, line, field, message, suggestion, resource } = problem;
        mesh::Problem { source, line, field, message, suggestion, resource }
    };
    problems.into_iter().map(one).collect()
}

/// A resource's name, without its content.
pub(super) fn named(id: &Id, created: i64, modified: i64) -> mesh::Resource {
    mesh::Resource {
        group: id.kind.group().to_owned(),
        kind: id.kind.name().to_owned(),
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        json: String::new(),
        create_revision: created,
        mod_revision: modified,
    }
}

pub(super) fn stored(id: &Id, kv: &KeyValue) -> mesh::Resource {
    let json = String::from_utf8_lossy(&kv.value).into_owned();
    mesh::Resource { json, ..named(id, kv.create_revision.get(), kv.mod_revision.get()) }
}

pub(super) fn proxy(status: ProxyStatus) -> ProxyState {
    let protocol = match status.protocol {
        Protocol::Delta => "delta",
        Protocol::StateOfTheWorld => "sotw",
    };
    ProxyState {
        id: status.node,
        spiffe_id: status.spiffe_id.to_string(),
        client_version: status.client_version,
        protocol: protocol.to_owned(),
        types: status.types.into_iter().map(type_status).collect(),
    }
}

fn type_status((of, progress): (ResourceType, Progress)) -> TypeStatus {
    let (rejected, reject_reason) = progress.rejected.map_or((0, String::new()), |(at, why)| (at.get(), why));
    TypeStatus {
        type_url: of.type_url().to_owned(),
        sent: progress.sent.map_or(0, Revision::get),
        acknowledged: progress.acknowledged.map_or(0, Revision::get),
        rejected,
        reject_reason,
    }
}
