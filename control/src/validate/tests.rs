//! Tables of what is refused, with line and field; and of what is not.

use crate::{
    mesh::Snapshot,
    model::{Id, Kind},
    testing::{BOOKINFO, mesh, problems, problems_without, read},
};
use types::Revision;

fn nothing() -> Snapshot {
    Snapshot::empty(Revision::FIRST)
}

#[test]
fn the_whole_of_bookinfo_is_valid() {
    assert_eq!(problems(&nothing(), BOOKINFO), []);
    assert_eq!(read(BOOKINFO).len(), 15);
}

const VS: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n";
const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports: [{port: 80}]\n";

#[test]
fn each_resource_is_checked_by_itself() {
    // (rest of a VirtualService with a Service "a", line, field, part of the message)
    let cases: &[(&str, u32, &str, &str)] = &[
        ("", 4, "spec", "an http or tcp entry"),
        ("  http:\n  - name: x\n", 7, "spec.http[0]", "exactly one of route, redirect"),
        (
            "  http:\n  - route: [{destination: {host: a}}]\n    timeout: 90h\n",
            8,
            "spec.http[0].timeout",
            "at most 24h",
        ),
        ("  http:\n  - route: [{destination: {host: A}}]\n", 7, "spec.http[0].route[0].destination.host", "no host"),
        ("  http:\n  - route: [{weight: 1}]\n", 7, "spec.http[0].route[0].destination", "needed"),
        (
            "  http:\n  - route:\n    - destination: {host: a}\n    - destination: {host: a}\n",
            7,
            "spec.http[0].route",
            "must not all be 0",
        ),
        (
            "  http:\n  - match:\n    - uri: {regex: \"(?=x)\"}\n    route: [{destination: {host: a}}]\n",
            8,
            "spec.http[0].match[0].uri.regex",
            "RE2",
        ),
        (
            "  http:\n  - match:\n    - uri: {exact: /, prefix: /a}\n    route: [{destination: {host: a}}]\n",
            8,
            "spec.http[0].match[0].uri",
            "exactly one",
        ),
        (
            "  http:\n  - match:\n    - headers:\n        \"a b\": {exact: x}\n    route: [{destination: {host: a}}]\n",
            9,
            "spec.http[0].match[0].headers.a b",
            "no header name",
        ),
        (
            "  http:\n  - route: [{destination: {host: a}}]\n    retries: {attempts: 1, retryOn: 5xz}\n",
            8,
            "spec.http[0].retries.retryOn",
            "unknown condition",
        ),
        (
            "  http:\n  - route: [{destination: {host: a}}]\n    fault:\n      abort: {httpStatus: 99}\n",
            9,
            "spec.http[0].fault.abort.httpStatus",
            "200 to 599",
        ),
        (
            "  http:\n  - route: [{destination: {host: a}}]\n    fault:\n      delay: {fixedDelay: 1s, percentage: {value: 101}}\n",
            9,
            "spec.http[0].fault.delay.percentage.value",
            "no percentage",
        ),
        (
            "  http:\n  - route: [{destination: {host: a}}]\n    headers: {request: {set: {x: \"%y\"}}}\n",
            8,
            "spec.http[0].headers.request.set.x",
            "not supported yet",
        ),
        ("  http:\n  - redirect: {redirectCode: 200}\n", 7, "spec.http[0].redirect.redirectCode", "use 301"),
        ("  http:\n  - redirect: {uri: /x}\n    timeout: 1s\n", 8, "spec.http[0].timeout", "needs a route"),
    ];
    for (rest, line, field, message) in cases {
        let found = problems(&nothing(), &format!("{VS}{rest}{SERVICE}"));
        let found: Vec<_> = found.iter().filter(|problem| !problem.message.contains("no Service")).collect();
        let [problem] = &found[..] else { panic!("{rest}: {found:?}") };
        assert_eq!((problem.line, &*problem.field), (*line, *field), "{problem:?}");
        assert!(problem.message.contains(message), "{problem:?}");
        assert_eq!(problem.source, "mesh.yaml");
    }
}

#[test]
fn other_kinds_are_checked_too() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: A}\nspec: {ports: [{port: 80}]}\n",
            "metadata.name",
            "no name",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 0}]}\n",
            "spec.ports[0].port",
            "no port",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}, {port: 2, name: b}]}\n",
            "spec.ports[0].name",
            "needs a name",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}\nspec: {address: a.com}\n",
            "spec.address",
            "no IP address",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.com], ports: [{number: 1, name: http}]}\n",
            "spec.resolution",
            "NONE",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {servers: [{port: {number: 1}, hosts: [\"*\"]}]}\n",
            "spec.servers[0].port.protocol",
            "needed",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {portLevelMtls: {1: {mode: STRICT}}}\n",
            "spec.portLevelMtls",
            "needs a selector",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, subsets: [{name: v1}, {name: v1}]}\n",
            "spec.subsets[1].name",
            "twice",
        ),
    ];
    for (text, field, message) in cases {
        let found = problems(&nothing(), text);
        let [problem] = &found[..] else { panic!("{text}: {found:?}") };
        assert_eq!(&*problem.field, *field, "{problem:?}");
        assert!(problem.message.contains(message), "{problem:?}");
    }
}

#[test]
fn references_must_lead_somewhere() {
    let bookinfo = mesh(BOOKINFO);
    let cases: &[(&str, u32, &str, &str, &str)] = &[
        (
            "  - route:\n    - destination:\n        host: reviws\n",
            9,
            "spec.http[0].route[0].destination.host",
            "no Service",
            "reviews.default",
        ),
        (
            "  - route:\n    - destination:\n        host: reviews.default\n",
            9,
            "spec.http[0].route[0].destination.host",
            "no Service",
            "reviews.default.svc.cluster.local",
        ),
        (
            "  - route:\n    - destination:\n        host: reviews\n        subset: v4\n",
            10,
            "spec.http[0].route[0].destination.subset",
            "DestinationRule default/reviews has no subset",
            "v",
        ),
        (
            "  - route:\n    - destination:\n        host: details\n        subset: v1\n",
            10,
            "spec.http[0].route[0].destination.subset",
            "no DestinationRule",
            "add a DestinationRule",
        ),
        (
            "  - route:\n    - destination:\n        host: reviews\n        port:\n          number: 80\n",
            11,
            "spec.http[0].route[0].destination.port.number",
            "no port 80",
            "9080",
        ),
        (
            "  - match: [{gateways: [bookinfo]}]\n    route: [{destination: {host: details}}]\n",
            7,
            "spec.http[0].match[0].gateways[0]",
            "not among spec.gateways",
            "add",
        ),
    ];
    for (rest, line, field, message, suggestion) in cases {
        let found = problems(&bookinfo, &format!("{VS}  http:\n{rest}"));
        let [problem] = &found[..] else { panic!("{rest}: {found:?}") };
        assert_eq!((problem.line, &*problem.field), (*line, *field), "{problem:?}");
        assert!(problem.message.contains(message) && problem.suggestion.contains(suggestion), "{problem:?}");
    }
    let text = format!("{VS}  gateways: [bokinfo]\n  http: [{{route: [{{destination: {{host: details}}}}]}}]\n");
    let found = problems(&bookinfo, &text);
    assert_eq!((found.len(), found[0].line, &*found[0].field), (1, 6, "spec.gateways[0]"), "{found:?}");
    assert!(found[0].suggestion.contains("default/bookinfo"));
}

#[test]
fn what_belongs_together_may_come_in_one_call_in_any_order() {
    let text = format!("{VS}  http: [{{route: [{{destination: {{host: a}}}}]}}]\n{SERVICE}");
    assert_eq!(problems(&nothing(), &text), []);
}

#[test]
fn what_others_lean_on_stays() {
    let bookinfo = mesh(BOOKINFO);
    let id = |kind, name: &str| Id { kind, namespace: "default".to_owned(), name: name.to_owned() };
    for gone in [
        id(Kind::Service, "reviews"),
        id(Kind::DestinationRule, "reviews"),
        id(Kind::Gateway, "bookinfo"),
        id(Kind::Service, "productpage"),
    ] {
        let found = problems_without(&bookinfo, std::slice::from_ref(&gone));
        assert!(!found.is_empty(), "{gone}");
        assert!(found.iter().all(|problem| problem.resource.starts_with("VirtualService default/")), "{found:?}");
    }
    assert_eq!(problems_without(&bookinfo, &[id(Kind::Service, "details")]), []);
    let both = [id(Kind::Gateway, "bookinfo"), id(Kind::VirtualService, "bookinfo")];
    assert_eq!(problems_without(&bookinfo, &both), []);

    // A rule that loses the subset that a stored resource uses is refused for that resource's sake.
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\nspec: {host: reviews, subsets: [{name: v1}, {name: v2}]}\n";
    let found = problems(&bookinfo, rule);
    assert_eq!((found.len(), &*found[0].resource), (1, "VirtualService default/reviews"), "{found:?}");
}

#[test]
fn one_host_is_routed_by_one_resource() {
    let text = format!("{}  http: [{{route: [{{destination: {{host: details}}}}]}}]\n", VS.replace("[a]", "[reviews]"));
    let found = problems(&mesh(BOOKINFO), &text);
    assert_eq!((found.len(), &*found[0].field, found[0].line), (1, "spec.hosts[0]", 5), "{found:?}");
    assert!(found[0].message.contains("VirtualService default/reviews already routes"));
}

#[test]
fn what_dangled_before_does_not_block_the_next_change() {
    let broken = mesh(&format!("{VS}  http: [{{route: [{{destination: {{host: gone}}}}]}}]\n"));
    let service = SERVICE.trim_start_matches("---\n");
    assert_eq!(problems(&broken, service), []);
}
