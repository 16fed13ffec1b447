//! Meshes and proxies for tests.

mod store;

use std::{collections::BTreeMap, sync::Arc};

use types::{Revision, TrustDomain};

use crate::{
    compile::{Proxy, Role},
    mesh::{Snapshot, Stored},
    model::{Id, Parsed, Problem, SourceText, parse},
    validate::validate,
};

pub(crate) use store::Store;

/// Most of what is supported, in one mesh.
pub(crate) const BOOKINFO: &str = include_str!("../../testdata/bookinfo.yaml");

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").expect("valid")
}

pub(crate) fn revision(value: i64) -> Revision {
    Revision::new(value).expect("positive")
}

pub(crate) fn read(text: &str) -> Vec<Parsed> {
    let source = SourceText { name: "mesh.yaml".to_owned(), text: text.to_owned() };
    let (parsed, problems) = parse(&[source], "default");
    assert_eq!(problems, []);
    parsed
}

/// `before` and what `text` adds, one revision later; what comes first in `text` is older.
pub(crate) fn with(before: &Snapshot, text: &str) -> Snapshot {
    let mut after = before.clone();
    for parsed in read(text) {
        after.revision = after.revision.next();
        let created = before.get(&parsed.resource.id).map_or(after.revision, |stored| stored.created);
        after.put(Arc::new(Stored { resource: parsed.resource, created, modified: after.revision }));
    }
    after
}

pub(crate) fn mesh(text: &str) -> Snapshot {
    with(&Snapshot::empty(Revision::FIRST), text)
}

/// What is wrong with applying `text` to `before`.
pub(crate) fn problems(before: &Snapshot, text: &str) -> Vec<Problem> {
    let mut problems = validate(&read(text), before, &with(before, text)).problems;
    problems.sort();
    problems
}

/// What is wrong with deleting `ids` from `before`.
pub(crate) fn problems_without(before: &Snapshot, ids: &[Id]) -> Vec<Problem> {
    let mut after = before.clone();
    for id in ids {
        after.remove(id);
    }
    validate(&[], before, &after).problems
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn sidecar(app: &str) -> Proxy {
    Proxy {
        id: format!("sidecar~127.0.0.1~{app}.default~default.svc.cluster.local"),
        role: Role::Sidecar,
        namespace: "default".to_owned(),
        service_account: "default".to_owned(),
        labels: labels(&[("app", app)]),
        http_proxy_port: Some(15001),
        inbound: Vec::new(),
        tcp_outbound: Vec::new(),
    }
}

pub(crate) fn gateway() -> Proxy {
    let labels = labels(&[("istio", "ingressgateway")]);
    Proxy { role: Role::Gateway, labels, http_proxy_port: None, ..sidecar("gateway") }
}
