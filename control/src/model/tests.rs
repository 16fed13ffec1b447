//! Tables of what is read, what is refused, and where problems point.

use proptest::prelude::*;

use super::{resource::UnreadableResource, virtual_service::VirtualService, *};

fn source(text: &str) -> SourceText {
    SourceText { name: "mesh.yaml".to_owned(), text: text.to_owned() }
}

fn one(text: &str) -> Resource {
    let (parsed, problems) = parse(&[source(text)], "default");
    assert_eq!(problems, []);
    parsed.into_iter().next().expect("one resource").resource
}

fn virtual_service(resource: &Resource) -> &VirtualService {
    match &resource.spec {
        Spec::VirtualService(spec) => spec,
        other => panic!("{other:?}"),
    }
}

const REVIEWS: &str = r#"# a comment
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: reviews
  labels: {app: "reviews"}
  creationTimestamp: "2026-01-01T00:00:00Z"
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {end-user: {exact: jason}}
    - uri: {prefix: /api}
    route:
    - destination: {host: reviews, subset: v2}
    fault:
      delay: {percentage: {value: 12.5}, fixedDelay: 1.5s}
  - route:
    - destination: {host: reviews, subset: v1, port: {number: 9080}}
      weight: "100"
    timeout: 500ms
    retries: {attempts: 3, per_try_timeout: 2s}
status: {}
"#;

#[test]
fn a_resource_is_read_and_stored_in_its_canonical_form() {
    let resource = one(REVIEWS);
    assert_eq!(resource.id.to_string(), "VirtualService default/reviews");
    assert_eq!(resource.id.key(), "/mesh/config/networking.istio.io/VirtualService/default/reviews");
    assert_eq!(Id::of_key(resource.id.key().as_bytes()), Some(resource.id.clone()));
    let spec = virtual_service(&resource);
    assert_eq!(spec.http[1].route[0].weight, 100);
    assert_eq!(spec.http[0].r#match[1].uri.as_ref().and_then(|uri| uri.prefix.as_deref()), Some("/api"));

    let json = resource.to_json();
    assert!(json.starts_with(r#"{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"reviews","namespace":"default","labels":{"app":"reviews"}},"spec":"#));
    assert!(json.contains(r#""timeout":"0.5s","retries":{"attempts":3,"perTryTimeout":"2s"}"#), "{json}");
    assert!(!json.contains("null") && !json.contains("status"), "{json}");
    assert_eq!(Resource::from_json(&resource.id, json.as_bytes()).expect("canonical"), resource);
    assert_eq!(one(&json), resource);
}

#[test]
fn a_value_under_another_resources_key_is_refused() {
    let resource = one(REVIEWS);
    let other = Id { name: "other".to_owned(), ..resource.id.clone() };
    assert!(matches!(
        Resource::from_json(&other, resource.to_json().as_bytes()),
        Err(UnreadableResource::OtherName(_))
    ));
    assert!(matches!(Resource::from_json(&other, b"{"), Err(UnreadableResource::Json(_))));
}

/// `(text, line, field, part of the message, part of the suggestion)`
type Case = (&'static str, u32, &'static str, &'static str, &'static str);

const VS: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n";

#[test]
fn problems_name_line_field_and_what_was_meant() {
    let cases: &[Case] = &[
        ("  hots: [a]\n", 5, "spec.hots", "unknown field", "\"hosts\""),
        (
            "  hosts: [a]\n  http:\n  - route:\n    - destnation: {host: a}\n",
            8,
            "spec.http[0].route[0].destnation",
            "unknown field",
            "\"destination\"",
        ),
        ("  http:\n  - mirror:\n      host: a\n", 6, "spec.http[0].mirror", "not supported yet", "remove it"),
        ("  http:\n  - timeout: soon\n", 6, "spec.http[0].timeout", "no duration", ""),
        ("  http:\n  - name: 7\n", 6, "spec.http[0].name", "expected text", "quote it: \"7\""),
        ("  http:\n  - route: {}\n", 6, "spec.http[0].route", "expected a list", ""),
        ("  http:\n  - route:\n    - weight: -1\n", 7, "spec.http[0].route[0].weight", "invalid value", ""),
        (
            "  http:\n  - match:\n    - headers:\n        x: {exakt: a}\n",
            8,
            "spec.http[0].match[0].headers.x.exakt",
            "unknown field",
            "\"exact\"",
        ),
    ];
    for (text, line, field, message, suggestion) in cases {
        let (_, problems) = parse(&[source(&format!("{VS}{text}"))], "default");
        let [problem] = &problems[..] else { panic!("{text}: {problems:?}") };
        assert_eq!((problem.line, &*problem.field), (*line, *field), "{problem:?}");
        assert!(problem.message.contains(message), "{problem:?}");
        assert!(problem.suggestion.contains(suggestion), "{problem:?}");
        assert_eq!((&*problem.source, &*problem.resource), ("mesh.yaml", "VirtualService default/a"));
    }
}

#[test]
fn documents_that_are_no_resources_are_refused() {
    let cases: &[Case] = &[
        ("kind: Service\n", 1, "apiVersion", "needs the text", ""),
        ("apiVersion: v1\nkind: Servise\n", 2, "kind", "unknown kind", "\"Service\""),
        ("---\napiVersion: apps/v1\nkind: Deployment\n", 3, "kind", "not supported yet", "Service"),
        ("apiVersion: v2\nkind: Service\n", 1, "apiVersion", "no apiVersion of Service", "\"v1\""),
        ("a: [\n", 2, "", "no valid YAML", ""),
        ("apiVersion: v1\nkind: Service\nkind: Service\n", 3, "", "no valid YAML", ""),
        ("- a\n", 1, "", "expected a resource", ""),
        ("apiVersion: v1\nkind: Service\nspec:\n  type: NodePort\n", 4, "spec.type", "not supported yet", "ClusterIP"),
        (
            "apiVersion: v1\nkind: Service\nspec:\n  ports:\n  - {port: 1, target_port: 2}\n",
            5,
            "spec.ports[0].target_port",
            "unknown field",
            "\"targetPort\"",
        ),
    ];
    for (text, line, field, message, suggestion) in cases {
        let (_, problems) = parse(&[source(text)], "default");
        let [problem] = &problems[..] else { panic!("{text}: {problems:?}") };
        assert_eq!(&*problem.field, *field, "{problem:?}");
        assert!(problem.line == *line || problem.line == 1 && text.contains('['), "{problem:?}");
        assert!(problem.message.contains(message), "{problem:?}");
        assert!(problem.suggestion.contains(suggestion), "{problem:?}");
    }
}

#[test]
fn one_pass_reports_every_problem_of_every_document() {
    let text = format!("{VS}  a1: 1\n  a2: 2\n---\napiVersion: v1\nkind: Nothing\n---\n{VS}  b1: 1\n");
    let (_, problems) = parse(&[source(&text)], "default");
    assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [5, 6, 9, 15, 13]);
}

#[test]
fn lists_and_streams_hold_many_resources() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n- {apiVersion: v1, kind: Service, metadata: {name: b, namespace: other}}\n---\n---\n{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"c\"}}\n";
    let (parsed, problems) = parse(&[source(text)], "here");
    assert_eq!(problems, []);
    let names: Vec<_> = parsed.iter().map(|parsed| parsed.resource.id.to_string()).collect();
    assert_eq!(names, ["Service here/a", "Service other/b", "Service here/c"]);
}

#[test]
fn aliases_and_depth_are_bounded() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let deep = "[".repeat(100_000);
    for text in [bomb, &deep] {
        let (parsed, problems) = parse(&[source(text)], "default");
        assert!(parsed.is_empty() && problems.len() == 1 && problems[0].message.contains("no valid YAML"));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = parse(&[source(&text)], "default");
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(text in "[a-z:{}\\[\\]&*!|>'\", \\-\n]{0,200}") {
        let _ = parse(&[source(&format!("{VS}{text}"))], "default");
    }

    #[test]
    fn what_is_read_survives_its_canonical_form(weight in 0_u32.., name in "[a-z]{1,9}", header in "\\PC{0,9}", millis in 0_u32..) {
        let spec = VirtualService {
            http: vec![virtual_service::HttpRoute {
                name,
                timeout: Some(GoDuration(std::time::Duration::from_millis(millis.into()))),
                route: vec![virtual_service::HttpDestination { weight, ..Default::default() }],
                r#match: vec![virtual_service::HttpMatch {
                    headers: [(header, StringMatch::default())].into(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let id = Id { kind: Kind::VirtualService, namespace: "default".to_owned(), name: "a".to_owned() };
        let resource = Resource { id, labels: [].into(), annotations: [].into(), spec: Spec::VirtualService(spec) };
        let read = Resource::from_json(&resource.id, resource.to_json().as_bytes());
        prop_assert_eq!(read.expect("canonical"), resource);
    }
}
