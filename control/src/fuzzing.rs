//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the text is, nothing panics unless the model, its validation or its compiler is wrong.

use std::{collections::BTreeMap, sync::Arc};

use types::{Revision, TrustDomain};

use crate::{
    compile::{Compiled, Proxy, Role},
    mesh::{Snapshot, Stored},
    model::{Resource, SourceText, parse},
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
        let resource = Resource::from_json(&one.resource.id, json.as_bytes()).expect("what was stored is read");
        assert_eq!(resource.to_json(), json);
        after.revision = after.revision.next();
        after.put(Arc::new(Stored { resource, created: after.revision, modified: after.revision }));
    }
    let verdict = validate(&parsed, &before, &after);
    if problems.is_empty() && verdict.problems.is_empty() {
        let compiled = Compiled::new(after, &TrustDomain::parse("cluster.local").expect("valid"), None);
        for role in [Role::Sidecar, Role::Gateway] {
            let _configuration = compiled.for_proxy(&proxy(role), None);
        }
    }
}

fn proxy(role: Role) -> Proxy {
    Proxy {
        id: "sidecar~127.0.0.1~a.default~default.svc.cluster.local".to_owned(),
        role,
        namespace: "default".to_owned(),
        service_account: "default".to_owned(),
        labels: BTreeMap::from([("app".to_owned(), "a".to_owned()), ("istio".to_owned(), "ingressgateway".to_owned())]),
        http_proxy_port: (role == Role::Sidecar).then_some(15001),
        inbound: Vec::new(),
        tcp_outbound: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::BOOKINFO;

    #[test]
    fn a_whole_mesh_is_compiled() {
        documents(BOOKINFO);
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
