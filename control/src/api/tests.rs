//! The mesh API against a store in memory.

use std::net::{Ipv4Addr, SocketAddr};

use proto::mesh::{ResourceName, Source, change::Action};
use tls::PeerInfo;
use types::SpiffeId;

use super::*;
use crate::testing::{BOOKINFO, Store};

const ADMIN: &str = "spiffe://cluster.local/ns/meshstore-system/sa/admin";

fn by<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    request.extensions_mut().insert(PeerInfo {
        addr,
        spiffe_id: Some(SpiffeId::parse(caller).expect("valid")),
        common_name: None,
    });
    request
}

fn sources(text: &str) -> Vec<Source> {
    vec![Source { name: "mesh.yaml".to_owned(), text: text.to_owned() }]
}

struct Bench {
    store: Store,
    api: MeshApi,
}

impl Bench {
    fn new() -> Self {
        let store = Store::new();
        let api = MeshApi::new(store.client(), Registry::default(), 128);
        Self { store, api }
    }

    async fn apply(&self, text: &str, dry_run: bool) -> ApplyResponse {
        let request = ApplyRequest { sources: sources(text), dry_run, ..Default::default() };
        self.api.apply(by(ADMIN, request)).await.expect("answered").into_inner()
    }

    async fn delete(&self, kind: &str, name: &str) -> DeleteResponse {
        let name = ResourceName { kind: kind.to_owned(), name: name.to_owned(), ..Default::default() };
        let request = DeleteRequest { names: vec![name], ..Default::default() };
        self.api.delete(by(ADMIN, request)).await.expect("answered").into_inner()
    }

    async fn get(&self, kind: &str) -> Vec<String> {
        let request = GetRequest { kind: kind.to_owned(), ..Default::default() };
        let found = self.api.get(by(ADMIN, request)).await.expect("answered").into_inner();
        found.resources.into_iter().map(|resource| format!("{} {}", resource.kind, resource.name)).collect()
    }
}

fn actions(changes: &[proto::mesh::Change]) -> Vec<Action> {
    changes.iter().map(proto::mesh::Change::action).collect()
}

#[tokio::test]
async fn all_of_a_call_is_stored_at_one_revision_and_only_what_changed() {
    let bench = Bench::new();
    assert_eq!(bench.apply(BOOKINFO, true).await.revision, 0);
    assert_eq!(bench.store.revision(), 1, "a dry run stores nothing");
    let first = bench.apply(BOOKINFO, false).await;
    assert_eq!((first.revision, &first.problems[..]), (2, &[][..]));
    assert!(actions(&first.changes).iter().all(|action| *action == Action::Created) && first.changes.len() == 15);

    let again = bench.apply(BOOKINFO, false).await;
    assert_eq!((again.revision, bench.store.revision()), (0, 2), "nothing changed, nothing is written");
    assert!(actions(&again.changes).iter().all(|action| *action == Action::Unchanged));

    let edited = bench.apply(&BOOKINFO.replace("timeout: 2s", "timeout: 3s"), false).await;
    let changed: Vec<_> = edited.changes.iter().filter(|change| change.action() == Action::Updated).collect();
    let resource = changed[0].resource.as_ref().expect("named");
    assert_eq!((changed.len(), edited.revision, &*resource.name), (1, 3, "reviews"));
    assert_eq!((resource.create_revision, resource.mod_revision), (2, 3));
    assert_eq!(bench.get("vs").await, ["VirtualService bookinfo", "VirtualService ratings", "VirtualService reviews"]);
    assert_eq!(bench.get("all").await.len(), 15);
    let (json, _) = bench.store.get("/mesh/config/core/Service/default/details").expect("stored");
    assert!(
        json.starts_with(r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"details","namespace":"default"}"#)
    );
}

#[tokio::test]
async fn what_is_wrong_stores_nothing() {
    let bench = Bench::new();
    let broken = format!("{BOOKINFO}---\napiVersion: v1\nkind: Service\nmetadata: {{name: x}}\nspec: {{port: 1}}\n");
    let refused = bench.apply(&broken, false).await;
    assert_eq!((refused.revision, refused.problems.len(), refused.changes.len()), (0, 1, 0));
    assert_eq!((&*refused.problems[0].field, &*refused.problems[0].source), ("spec.port", "mesh.yaml"));
    let dangling = bench.apply(&BOOKINFO.replace("subset: v2", "subset: v9"), false).await;
    assert_eq!(dangling.problems.len(), 1, "{:?}", dangling.problems);
    assert_eq!(bench.store.revision(), 1);
    let small = MeshApi::new(bench.store.client(), Registry::default(), 10);
    let request = ApplyRequest { sources: sources(BOOKINFO), ..Default::default() };
    let refused = small.apply(by(ADMIN, request)).await.expect("answered").into_inner();
    assert!(refused.problems[0].message.contains("the store's limit is 10"), "{refused:?}");
}

#[tokio::test]
async fn what_others_lean_on_is_not_deleted() {
    let bench = Bench::new();
    bench.apply(BOOKINFO, false).await;
    let refused = bench.delete("svc", "reviews").await;
    assert!(refused.revision == 0 && !refused.problems.is_empty());
    let missing = bench.delete("svc", "detials").await;
    assert_eq!(missing.problems[0].suggestion, "did you mean \"details\"?");
    let deleted = bench.delete("service", "details").await;
    assert_eq!((deleted.revision, actions(&deleted.changes)), (3, vec![Action::Deleted]));
    assert_eq!(bench.store.get("/mesh/config/core/Service/default/details"), None);
}

#[tokio::test]
async fn concurrent_changes_never_leave_a_reference_dangling() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec: {hosts: [x], http: [{route: [{destination: {host: details}}]}]}\n";
    for _ in 0..50 {
        let bench = Bench::new();
        bench.apply(BOOKINFO, false).await;
        let (applied, deleted) = tokio::join!(bench.apply(text, false), bench.delete("svc", "details"));
        assert!((applied.revision == 0) != (deleted.revision == 0), "{applied:?} {deleted:?}");
    }
}

#[tokio::test]
async fn only_the_administrator_is_served() {
    let bench = Bench::new();
    let request = || ProxyStatusRequest {};
    assert!(bench.api.proxy_status(by(ADMIN, request())).await.is_ok());
    let workload = "spiffe://cluster.local/ns/default/sa/admin";
    let refused = bench.api.proxy_status(by(workload, request())).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let unknown = bench.api.proxy_status(Request::new(request())).await.expect_err("refused");
    assert_eq!(unknown.code(), tonic::Code::Unauthenticated);
}
