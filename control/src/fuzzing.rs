//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the text is, nothing panics unless the model, its validation or its compiler is wrong.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

pub use crate::ads::discovery;

use proto::envoy::service::discovery::v3::Resource;
use types::{Revision, TrustDomain};

use crate::{
    compile::{
        Compiled, Proxy, ResourceType, Role,
        proxy::{Inbound, TcpOutbound},
    },
    mesh::{Snapshot, Stored},
    model::{self, SourceText, parse},
    validate::validate,
};

/// Reads `text` as a file of mesh resources, stores and reads back what it holds, checks it as the whole of a mesh, and
/// if it is valid compiles it for a sidecar and for a gateway.
///
/// # Panics
/// If a resource does not survive being stored.
pub fn documents(text: &str) {
    let source = SourceText { name: "fuzz.yaml".to_owned(), text: text.to_owned() };
    let (parsed, problems) = parse(&[source], "default");
    let before = Snapshot::empty(Revision::FIRST);
    let mut after = before.clone();
    for one in &parsed {
        let json = one.resource.to_json();
        let resource = model::Resource::from_json(&one.resource.id, json.as_bytes()).expect("what was stored is read");
        assert_eq!(resource.to_json(), json);
        after.revision = after.revision.next();
        after.put(Arc::new(Stored { resource, created: after.revision, modified: after.revision }));
    }
    let verdict = validate(&parsed, &before, &after);
    if problems.is_empty() && verdict.problems.is_empty() {
        let compiled = Compiled::new(after, &trust_domain(), None);
        for role in [Role::Sidecar, Role::Gateway] {
            let _configuration = compiled.for_proxy(&proxy(role), None);
        }
    }
}

/// What a sidecar and a gateway are sent for the mesh of `text`, as a discovery service sends it.
pub fn resources(text: &str) -> Vec<Resource> {
    let compiled = Compiled::new(mesh(text, 0), &trust_domain(), None);
    let mut resources = Vec::new();
    for config in [Role::Sidecar, Role::Gateway].map(|role| compiled.for_proxy(&proxy(role), None)) {
        for one in ResourceType::ALL.into_iter().flat_map(|kind| config.of(kind).iter()) {
            let (name, resource) = (one.name.clone(), Some(one.body.clone()));
            resources.push(Resource { name, resource, ..Resource::default() });
        }
    }
    resources
}

/// The mesh of `text`, which must be valid, after so many changes.
pub(crate) fn mesh(text: &str, changes: usize) -> Snapshot {
    let source = SourceText { name: "fuzz.yaml".to_owned(), text: text.to_owned() };
    let (parsed, problems) = parse(&[source], "default");
    assert_eq!(problems, []);
    let mut mesh = Snapshot::empty(Revision::FIRST);
    for one in parsed {
        mesh.put(Arc::new(Stored { resource: one.resource, created: mesh.revision, modified: mesh.revision }));
    }
    (0..changes).for_each(|_| mesh.revision = mesh.revision.next());
    mesh
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").expect("valid")
}

pub(crate) fn proxy(role: Role) -> Proxy {
    let is_sidecar = role == Role::Sidecar;
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let inbound = |name: &str, protocol: &str, port| Inbound {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        bind: loopback,
        port,
        app_port: 9080,
    };
    let outbound = TcpOutbound { bind: loopback, port: 27017, host: "ratings.default".to_owned(), service_port: 27017 };
    Proxy {
        id: "sidecar~127.0.0.1~a.default~default.svc.cluster.local".to_owned(),
        role,
        namespace: "default".to_owned(),
        service_account: "default".to_owned(),
        labels: BTreeMap::from([("app".to_owned(), "a".to_owned()), ("istio".to_owned(), "ingressgateway".to_owned())]),
        http_proxy_port: is_sidecar.then_some(15001),
        inbound: if is_sidecar {
            vec![inbound("http", "http", 19_080), inbound("db", "tcp", 19_081)]
        } else {
            Vec::new()
        },
        tcp_outbound: if is_sidecar { vec![outbound] } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::BOOKINFO;

    #[test]
    fn a_whole_mesh_is_compiled() {
        documents(BOOKINFO);
        let kinds = resources(BOOKINFO).into_iter().filter_map(|one| one.resource).map(|any| any.type_url);
        assert_eq!(kinds.collect::<BTreeSet<_>>().len(), 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_meshes_are_read_or_refused(lines in prop::collection::vec((any::<prop::sample::Index>(), 0..4), 1..6)) {
            let mut text: Vec<String> = BOOKINFO.lines().map(str::to_owned).collect();
            for (at, damage) in lines {
                let at = at.index(text.len());
                let line = text.remove(at);
                match damage {
                    0 => {}
                    1 => text.insert(at, format!("{line}{line}")),
                    2 => text.insert(at, line.replace(':', ": -1")),
                    _ => text.insert(at, format!("  {line}")),
                }
            }
            documents(&text.join("\n"));
        }
    }
}
