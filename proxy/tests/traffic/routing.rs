//! Where requests go.

use std::collections::BTreeMap;

use proto::envoy::config::{
    core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
    route::v3::{
        DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction, Route, RouteAction,
        WeightedCluster,
        header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier,
        redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier},
        route,
        route_action::{ClusterSpecifier, HostRewriteSpecifier},
        weighted_cluster::ClusterWeight,
    },
};
use tempfile::tempdir;

use crate::{
    app::{App, free_port, get, local},
    mesh::{Mesh, Proxy, eventually},
    resources::{
        assignment, cluster, forward, hosts_table, http_listener, manager, number, on_prefix, route_to, table,
    },
};

/// A mesh with one HTTP listener and the clusters `a` and `b`.
pub(crate) struct Fixture {
    pub(crate) mesh: Mesh,
    pub(crate) proxy: Proxy,
    pub(crate) port: u16,
    pub(crate) a: App,
    pub(crate) b: App,
    pub(crate) dir: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn start(routes: Vec<Route>) -> Self {
        Self::with(routes, App::echo("a").await, App::echo("b").await).await
    }

    pub(crate) async fn with(routes: Vec<Route>, a: App, b: App) -> Self {
        let (mesh, dir, port) = (Mesh::start(), tempdir().unwrap(), free_port());
        for (name, app) in [("a", &a), ("b", &b)] {
            mesh.state.put(name, &cluster(name));
            mesh.state.put(name, &assignment(name, &[app.address]));
        }
        mesh.state.put("http", &http_listener("http", port, &manager("routes")));
        mesh.state.put("routes", &table("routes", routes));
        let proxy = Proxy::ready(mesh.config("client", &dir)).await;
        Self { mesh, proxy, port, a, b, dir }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_matched_by_header_query_path_and_host() {
    let mut by_header = route_to("b");
    by_header.r#match.as_mut().unwrap().headers = vec![HeaderMatcher {
        name: "end-user".to_owned(),
        #[expect(deprecated, reason = "older control planes send it")]
        header_match_specifier: Some(HeaderMatchSpecifier::ExactMatch("jason".to_owned())),
        ..Default::default()
    }];
    let mut by_query = route_to("b");
    by_query.r#match.as_mut().unwrap().query_parameters = vec![QueryParameterMatcher {
        name: "beta".to_owned(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::PresentMatch(true)),
    }];
    let by_path = on_prefix("/b/", forward("b"));
    let fixture = Fixture::start(vec![by_header, by_query, by_path, route_to("a")]).await;
    let proxy = local(fixture.port);
    for (target, headers, expected) in [
        ("/", vec![], "a"),
        ("/", vec![("end-user", "jason")], "b"),
        ("/", vec![("end-user", "jasons")], "a"),
        ("/?x=1&beta", vec![], "b"),
        ("/b/x", vec![], "b"),
        ("/x/../b/x", vec![], "b"),
        ("/%62/x", vec![], "b"),
        ("http://any.host/b/x", vec![], "b"),
    ] {
        let reply = get(proxy, target, &headers).await.unwrap();
        assert_eq!((reply.status, reply.app()), (200, expected), "{target} {headers:?}");
    }
    assert_eq!(get(proxy, "/a%2fb", &[]).await.unwrap().status, 400);

    let hosts = hosts_table("routes", vec![("details:9080", vec![route_to("b")]), ("*.local", vec![route_to("a")])]);
    fixture.mesh.state.put("routes", &hosts);
    let status = async |host: &str| get(proxy, "/", &[("host", host)]).await.unwrap().status;
    eventually("unknown hosts have no route", async || status("other").await == 404).await;
    let app = async |host: &str| get(proxy, "/", &[("host", host)]).await.unwrap().app().to_owned();
    assert_eq!(app("Details:9080").await, "b");
    assert_eq!(app("x.local").await, "a");
    assert_eq!(app("x.local.").await, "a");
    let absolute = get(proxy, "http://details:9080/p?q", &[]).await.unwrap();
    assert!(absolute.body.starts_with("b GET /p?q\n") && absolute.has_line("host: details:9080"), "{absolute:?}");
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_divide_traffic() {
    let weight =
        |name: &str, weight| ClusterWeight { name: name.to_owned(), weight: number(weight), ..Default::default() };
    let weighted = WeightedCluster { clusters: vec![weight("a", 90), weight("b", 10)], ..Default::default() };
    let action = RouteAction { cluster_specifier: Some(ClusterSpecifier::WeightedClusters(weighted)), ..forward("") };
    let fixture = Fixture::start(vec![on_prefix("/", action)]).await;
    let mut apps = BTreeMap::new();
    for _ in 0..1_000 {
        let reply = get(local(fixture.port), "/", &[]).await.unwrap();
        *apps.entry(reply.app().to_owned()).or_insert(0) += 1;
    }
    // Four standard deviations of 1,000 draws at 10 %: 38.
    assert!((62..=138).contains(&apps["b"]), "{apps:?}");
    fixture.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_rewrite_redirect_answer_and_change_headers() {
    let rewrite = RouteAction {
        prefix_rewrite: "/new/".to_owned(),
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteLiteral("inner".to_owned())),
        ..forward("a")
    };
    let option = |key: &str, value: &str| HeaderValueOption {
        header: Some(HeaderValue { key: key.into(), value: value.into(), ..Default::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    let rewrite = Route {
        request_headers_to_add: vec![option("x-added", "1")],
        request_headers_to_remove: vec!["x-secret".to_owned()],
        response_headers_to_add: vec![option("x-answer", "2")],
        response_headers_to_remove: vec!["x-app".to_owned()],
        ..on_prefix("/old/", rewrite)
    };
    let redirect = Route {
        action: Some(route::Action::Redirect(RedirectAction {
            scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect("https".to_owned())),
            path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite("/there".to_owned())),
            ..Default::default()
        })),
        ..on_prefix("/here", forward("a"))
    };
    let direct = Route {
        action: Some(route::Action::DirectResponse(DirectResponseAction { status: 418, ..Default::default() })),
        ..on_prefix("/tea", forward("a"))
    };
    let missing = on_prefix("/missing", forward("nowhere"));
    let fixture = Fixture::start(vec![rewrite, redirect, direct, missing]).await;
    let proxy = local(fixture.port);

    let reply = get(proxy, "/old/x?y=1", &[("x-secret", "s"), ("x-forwarded-client-cert", "By=me")]).await.unwrap();
    assert!(reply.body.starts_with("a GET /new/x?y=1\n"), "{reply:?}");
    assert!(reply.has_line("host: inner") && reply.has_line("x-added: 1") && reply.has_line("x-forwarded-proto: http"));
    assert!(!reply.body.contains("x-secret") && !reply.body.contains("x-forwarded-client-cert"));
    assert!(reply.body.contains("x-request-id: "));
    assert_eq!(reply.headers["x-answer"], "2");
    assert!(!reply.headers.contains_key("x-app") && !reply.headers.contains_key("keep-alive"));
    assert!(reply.headers.contains_key("x-envoy-upstream-service-time"));

    let reply = get(proxy, "/here/now?z", &[("host", "h:1")]).await.unwrap();
    assert_eq!((reply.status, reply.headers["location"].to_str().unwrap()), (301, "https://h/there/now?z"));
    assert_eq!(get(proxy, "/tea", &[]).await.unwrap().status, 418);
    assert_eq!(get(proxy, "/missing", &[]).await.unwrap().status, 503);
    assert_eq!(get(proxy, "/none", &[]).await.unwrap().status, 404);
    let metrics = fixture.proxy.metrics().await;
    assert!(metrics.contains("response_flags=\"NC\"") && metrics.contains("response_flags=\"NR\""), "{metrics}");
    fixture.proxy.stop().await;
}
