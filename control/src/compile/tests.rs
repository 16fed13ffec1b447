//! What the mesh becomes: the fields that traffic depends on, read back from the bytes that are sent.

use std::net::Ipv4Addr;

use prost::{Message, Name};
use proto::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster::ClusterDiscoveryType},
            endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier},
            listener::v3::{Listener, filter},
            route::v3::{
                Route, RouteConfiguration, route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
            },
        },
        extensions::{
            filters::{
                http::fault::v3::HttpFault,
                network::{
                    http_connection_manager::v3::HttpConnectionManager,
                    tcp_proxy::v3::{TcpProxy, tcp_proxy},
                },
            },
            transport_sockets::tls::v3::{UpstreamTlsContext, common_tls_context::ValidationContextType},
        },
        r#type::matcher::v3::string_matcher::MatchPattern,
    },
    google::protobuf::Any,
};

use super::{
    proxy::{Inbound, TcpOutbound},
    *,
};
use crate::testing::{BOOKINFO, gateway, mesh, revision, sidecar, trust_domain, with};

fn compiled(snapshot: Snapshot) -> Compiled {
    Compiled::new(snapshot, &trust_domain(), None)
}

fn bookinfo() -> Compiled {
    compiled(mesh(BOOKINFO))
}

fn open<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(&any.value[..]).expect("what was encoded")
}

fn get<M: Message + Name + Default>(config: &ProxyConfig, of: ResourceType, name: &str) -> M {
    let names: Vec<_> = config.of(of).iter().map(|resource| resource.name.clone()).collect();
    let resource = config.of(of).get(name).unwrap_or_else(|| panic!("{name} is not among {names:?}"));
    open(&resource.body)
}

fn cluster(config: &ProxyConfig, name: &str) -> Cluster {
    get(config, ResourceType::Cluster, name)
}

fn routes(config: &ProxyConfig, table: &str, domain: &str) -> Vec<Route> {
    let table: RouteConfiguration = get(config, ResourceType::Route, table);
    let host = table.virtual_hosts.into_iter().find(|host| host.domains.iter().any(|known| known == domain));
    host.unwrap_or_else(|| panic!("no domain {domain}")).routes
}

fn clusters_of(route: &Route) -> Vec<(String, u32)> {
    let Some(Action::Route(action)) = &route.action else { panic!("{route:?}") };
    match action.cluster_specifier.as_ref().expect("a cluster") {
        ClusterSpecifier::Cluster(name) => vec![(name.clone(), 1)],
        ClusterSpecifier::WeightedClusters(weighted) => {
            weighted.clusters.iter().map(|one| (one.name.clone(), one.weight.expect("a weight").value)).collect()
        }
        other => panic!("{other:?}"),
    }
}

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

#[test]
fn a_host_has_a_cluster_for_each_port_and_subset() {
    let config = bookinfo().for_proxy(&sidecar("productpage"), None);
    let names: Vec<_> = config.of(ResourceType::Cluster).iter().map(|resource| &*resource.name).collect();
    assert_eq!(
        names,
        [
            "outbound|27017||ratings.default.svc.cluster.local",
            "outbound|80||books.example.com",
            "outbound|9080|v1|reviews.default.svc.cluster.local",
            "outbound|9080|v2|reviews.default.svc.cluster.local",
            "outbound|9080|v3|reviews.default.svc.cluster.local",
            "outbound|9080||details.default.svc.cluster.local",
            "outbound|9080||productpage.default.svc.cluster.local",
            "outbound|9080||ratings.default.svc.cluster.local",
            REVIEWS,
        ]
    );
}

#[test]
fn a_cluster_follows_its_destination_rule() {
    use proto::envoy::config::cluster::v3::cluster::{DiscoveryType, LbPolicy};
    let config = bookinfo().for_proxy(&sidecar("productpage"), None);
    let reviews = cluster(&config, REVIEWS);
    assert_eq!(reviews.lb_policy, i32::from(LbPolicy::Random));
    assert_eq!(reviews.cluster_discovery_type, Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())));
    assert_eq!(reviews.eds_cluster_config.expect("EDS").service_name, REVIEWS);
    assert_eq!(reviews.connect_timeout.expect("set").seconds, 10);
    let limits = &reviews.circuit_breakers.expect("set").thresholds[0];
    let limit = |value: &Option<proto::google::protobuf::UInt32Value>| value.expect("set").value;
    assert_eq!((limit(&limits.max_connections), limit(&limits.max_pending_requests)), (7, 9));
    assert_eq!((limit(&limits.max_requests), limit(&limits.max_retries)), (u32::MAX, u32::MAX));
    let outliers = reviews.outlier_detection.expect("set");
    assert_eq!(limit(&outliers.consecutive_5xx), 3);
    assert_eq!(outliers.base_ejection_time.expect("set").seconds, 60);
    let v2 = cluster(&config, "outbound|9080|v2|reviews.default.svc.cluster.local");
    assert_eq!(v2.lb_policy, i32::from(LbPolicy::RoundRobin));
    assert_eq!(limit(&v2.circuit_breakers.expect("set").thresholds[0].max_connections), 7);
    let details = cluster(&config, "outbound|9080||details.default.svc.cluster.local");
    assert_eq!(details.lb_policy, i32::from(LbPolicy::LeastRequest));
    assert!(details.outlier_detection.is_none());
    let books = cluster(&config, "outbound|80||books.example.com");
    assert_eq!(books.cluster_discovery_type, Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into())));
    assert!(books.transport_socket_matches.is_empty() && books.load_assignment.is_some());
}

#[test]
fn endpoints_that_speak_mtls_are_told_by_their_metadata_and_their_identities_are_expected() {
    let config = bookinfo().for_proxy(&sidecar("productpage"), None);
    let reviews = cluster(&config, REVIEWS);
    let matches = &reviews.transport_socket_matches;
    assert_eq!(matches.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["tlsMode-istio", "tlsMode-disabled"]);
    let socket = matches[0].transport_socket.clone().expect("set");
    let Some(proto::envoy::config::core::v3::transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type
    else {
        panic!("{socket:?}")
    };
    let tls: UpstreamTlsContext = open(any);
    assert_eq!(tls.sni, "outbound_.9080_._.reviews.default.svc.cluster.local");
    let common = tls.common_tls_context.expect("set");
    assert_eq!(common.alpn_protocols, ["http/1.1"]);
    assert_eq!(common.tls_certificate_sds_secret_configs[0].name, "default");
    let Some(ValidationContextType::CombinedValidationContext(combined)) = common.validation_context_type else {
        panic!()
    };
    assert_eq!(combined.validation_context_sds_secret_config.expect("set").name, "ROOTCA");
    let names = combined.default_validation_context.expect("set").match_typed_subject_alt_names;
    let pattern = names[0].matcher.as_ref().and_then(|matcher| matcher.match_pattern.clone());
    let expected = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews".to_owned();
    assert_eq!((names.len(), pattern), (1, Some(MatchPattern::Exact(expected))));
}

#[test]
fn endpoints_carry_locality_weight_and_workload() {
    let config = bookinfo().for_proxy(&sidecar("productpage"), None);
    let all: ClusterLoadAssignment = get(&config, ResourceType::Endpoints, REVIEWS);
    let groups: Vec<_> = all
        .endpoints
        .iter()
        .map(|group| (&*group.locality.as_ref().expect("set").region, group.load_balancing_weight.expect("set").value))
        .collect();
    assert_eq!(groups, [("", 3), ("eu", 1)]);
    let Some(HostIdentifier::Endpoint(endpoint)) = &all.endpoints[1].lb_endpoints[0].host_identifier else { panic!() };
    assert_eq!(endpoint.address, Some(wire::socket("127.0.0.1", 19081)));
    let metadata = &all.endpoints[1].lb_endpoints[0].metadata.as_ref().expect("set").filter_metadata;
    assert_eq!(metadata["envoy.transport_socket_match"].fields["tlsMode"], wire::text("istio"));
    assert_eq!(metadata["istio"].fields["workload"], wire::text("reviews-v1;default;reviews;v1;"));
    let v3: ClusterLoadAssignment =
        get(&config, ResourceType::Endpoints, "outbound|9080|v3|reviews.default.svc.cluster.local");
    assert!(v3.endpoints.is_empty());
}

#[test]
fn requests_are_routed_by_every_spelling_of_a_host() {
    let config = bookinfo().for_proxy(&sidecar("productpage"), None);
    for domain in
        ["reviews", "reviews:9080", "reviews.default", "reviews.default.svc:9080", "reviews.default.svc.cluster.local"]
    {
        let routes = routes(&config, "http_proxy", domain);
        assert_eq!(routes.iter().map(|route| &*route.name).collect::<Vec<_>>(), ["jason", "default"], "{domain}");
        let to = |subset: &str| format!("outbound|9080|{subset}|reviews.default.svc.cluster.local");
        assert_eq!(clusters_of(&routes[0]), [(to("v2"), 1)]);
        assert_eq!(routes[0].r#match.as_ref().expect("set").headers[0].name, "end-user");
        assert_eq!(clusters_of(&routes[1]), [(to("v1"), 90), (to("v3"), 10)]);
    }
    let Some(Action::Route(action)) = &routes(&config, "http_proxy", "reviews")[1].action else { panic!() };
    assert_eq!(action.timeout.expect("set").seconds, 2);
    let retry = action.retry_policy.as_ref().expect("set");
    assert_eq!(retry.retry_on, "connect-failure,refused-stream,reset-before-request");
    let details = routes(&config, "http_proxy", "details:9080");
    assert_eq!(clusters_of(&details[0]), [("outbound|9080||details.default.svc.cluster.local".to_owned(), 1)]);
    let Some(Action::Route(action)) = &details[0].action else { panic!() };
    assert_eq!(action.timeout, Some(proto::google::protobuf::Duration::default()));
    let Some(Action::DirectResponse(unknown)) = &routes(&config, "http_proxy", "*")[0].action else { panic!() };
    assert_eq!(unknown.status, 502);
}

#[test]
fn rules_for_certain_clients_reach_only_those() {
    let bookinfo = bookinfo();
    let others = routes(&bookinfo.for_proxy(&sidecar("productpage"), None), "http_proxy", "ratings");
    assert_eq!(others.len(), 1);
    let reviews = routes(&bookinfo.for_proxy(&sidecar("reviews"), None), "http_proxy", "ratings");
    assert_eq!(reviews.len(), 2);
    let fault: HttpFault = open(&reviews[0].typed_per_filter_config["envoy.filters.http.fault"]);
    assert_eq!(fault.delay.expect("set").percentage.expect("set").numerator, 125_000);
    assert_eq!(fault.abort.expect("set").percentage.expect("set").numerator, 1_000_000);
    let Some(Action::Route(action)) = &reviews[0].action else { panic!() };
    assert!(action.retry_policy.is_none(), "a fault is to be felt");
    let Some(Action::Route(action)) = &reviews[1].action else { panic!() };
    let retry = action.retry_policy.as_ref().expect("set");
    assert_eq!((&*retry.retry_on, &retry.retriable_status_codes[..]), ("reset,retriable-status-codes", &[503][..]));
}

fn inbound(port: u16, app_port: u16, name: &str) -> Inbound {
    Inbound { name: name.to_owned(), protocol: String::new(), bind: Ipv4Addr::LOCALHOST.into(), port, app_port }
}

#[test]
fn the_way_in_is_as_peer_authentication_says() {
    let bookinfo = bookinfo();
    let proxy = Proxy {
        inbound: vec![inbound(20001, 9080, "http"), inbound(20002, 27017, "tcp-db"), inbound(20003, 9999, "http")],
        ..sidecar("ratings")
    };
    let config = bookinfo.for_proxy(&proxy, None);
    let chains = |name: &str| {
        let listener: Listener = get(&config, ResourceType::Listener, name);
        let names: Vec<_> = listener.filter_chains.iter().map(|chain| chain.name.clone()).collect();
        (names, listener.listener_filters.len())
    };
    assert_eq!(chains("127.0.0.1_20001"), (vec!["tls".to_owned(), "plain".to_owned()], 1));
    assert_eq!(chains("127.0.0.1_20002"), (vec!["plain".to_owned()], 0));
    assert_eq!(chains("127.0.0.1_20003"), (vec!["tls".to_owned()], 0));
    let app = cluster(&config, "inbound|9080||");
    let services = &app.metadata.expect("set").filter_metadata["istio"].fields["services"];
    let expected = wire::fields([
        ("host", wire::text("ratings.default.svc.cluster.local")),
        ("name", wire::text("ratings")),
        ("namespace", wire::text("default")),
    ]);
    assert_eq!(*services, wire::list(vec![wire::structure(expected)]));
}

#[test]
fn bytes_go_where_a_listener_says() {
    let outbound =
        TcpOutbound { bind: Ipv4Addr::LOCALHOST.into(), port: 3000, host: "ratings".to_owned(), service_port: 27017 };
    let config = bookinfo().for_proxy(&Proxy { tcp_outbound: vec![outbound], ..sidecar("reviews") }, None);
    let listener: Listener = get(&config, ResourceType::Listener, "127.0.0.1_3000");
    let Some(filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type else {
        panic!()
    };
    let proxy: TcpProxy = open(any);
    let expected = "outbound|27017||ratings.default.svc.cluster.local".to_owned();
    assert_eq!(proxy.cluster_specifier, Some(tcp_proxy::ClusterSpecifier::Cluster(expected)));
}

#[test]
fn a_gateway_serves_what_is_bound_to_it() {
    let config = bookinfo().for_proxy(&gateway(), None);
    let listener: Listener = get(&config, ResourceType::Listener, "0.0.0.0_8080");
    let Some(filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type else {
        panic!()
    };
    let manager: HttpConnectionManager = open(any);
    assert_eq!(manager.http_filters.last().expect("filters").name, "envoy.filters.http.router");
    let routes = routes(&config, "http.8080", "*");
    let paths: Vec<_> =
        routes.iter().map(|route| route.r#match.clone().expect("set").path_specifier.expect("set")).collect();
    assert_eq!(paths[0], PathSpecifier::Path("/productpage".to_owned()));
    assert_eq!(paths[1], PathSpecifier::Prefix("/static".to_owned()));
    assert!(matches!(&paths[2], PathSpecifier::SafeRegex(regex) if regex.regex == "/api/v[0-9]+/.*"));
    assert_eq!(routes[2].r#match.as_ref().expect("set").query_parameters[0].name, "debug");
    assert!(matches!(&routes[3].action, Some(Action::Redirect(redirect)) if redirect.response_code == 1));
    assert!(routes[3].r#match.as_ref().expect("set").headers[0].invert_match);
    assert!(matches!(&routes[4].action, Some(Action::DirectResponse(response)) if response.status == 418));
    assert_eq!(config.of(ResourceType::Cluster).get(REVIEWS).map(|found| &*found.name), Some(REVIEWS));
    let nobody = Proxy { labels: crate::testing::labels(&[("istio", "other")]), ..gateway() };
    assert_eq!(bookinfo().for_proxy(&nobody, None).of(ResourceType::Listener).iter().count(), 0);
}

#[test]
fn equal_meshes_give_equal_bytes() {
    let bytes = |config: &ProxyConfig| {
        let all = ResourceType::ALL.into_iter().flat_map(|of| config.of(of).iter().map(|one| one.body.clone()));
        all.collect::<Vec<_>>()
    };
    let proxy = Proxy { inbound: vec![inbound(1, 9080, "http")], ..sidecar("reviews") };
    let first = bytes(&bookinfo().for_proxy(&proxy, None));
    for _ in 0..5 {
        assert_eq!(bytes(&bookinfo().for_proxy(&proxy, None)), first);
    }
}

#[test]
fn a_change_replaces_only_what_depends_on_it() {
    let first = bookinfo();
    let proxy = sidecar("productpage");
    let before = first.for_proxy(&proxy, None);
    let same = |of: ResourceType, after: &ProxyConfig| before.of(of).is_same(after.of(of));

    let flip = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v3}}]}]}\n";
    let second = Compiled::new(with(&first.snapshot, flip), &trust_domain(), Some(&first));
    let after = second.for_proxy(&proxy, Some(&before));
    assert!(same(ResourceType::Cluster, &after) && same(ResourceType::Endpoints, &after));
    assert!(same(ResourceType::Listener, &after) && !same(ResourceType::Route, &after));

    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: reviews-v3}\nspec: {address: 127.0.0.1, ports: {http: 19084}, serviceAccount: bookinfo-reviews, labels: {app: reviews, version: v3, security.istio.io/tlsMode: istio}}\n";
    let third = Compiled::new(with(&first.snapshot, workload), &trust_domain(), Some(&first));
    let after = third.for_proxy(&proxy, Some(&before));
    assert!(
        same(ResourceType::Cluster, &after) && same(ResourceType::Route, &after),
        "its identity was expected already"
    );
    let endpoints =
        |config: &ProxyConfig, name: &str| config.of(ResourceType::Endpoints).get(name).expect("known").clone();
    let changed: Vec<_> = before
        .of(ResourceType::Endpoints)
        .iter()
        .filter(|old| !Arc::ptr_eq(old, &endpoints(&after, &old.name)))
        .map(|old| &*old.name)
        .collect();
    assert_eq!(changed, ["outbound|9080|v3|reviews.default.svc.cluster.local", REVIEWS]);

    // Written again with the same content, as a proxy does that registers anew: nothing is sent.
    let again = Compiled::new(with(&third.snapshot, workload), &trust_domain(), Some(&third));
    let unchanged = again.for_proxy(&proxy, Some(&after));
    assert!(ResourceType::ALL.into_iter().all(|of| after.of(of).is_same(unchanged.of(of))));
    assert!(again.revision() > third.revision());
}

#[test]
fn namespaces_see_what_is_exported_to_them() {
    let hidden = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: own, namespace: other}\nspec: {hosts: [own.example.com], ports: [{number: 80, name: http}], resolution: DNS, exportTo: [.]}\n";
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: details, namespace: other}\nspec: {host: details.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n";
    let compiled = compiled(with(&mesh(BOOKINFO), &format!("{hidden}{rule}")));
    let here = compiled.for_proxy(&sidecar("productpage"), None);
    let there = compiled.for_proxy(&Proxy { namespace: "other".to_owned(), ..sidecar("x") }, None);
    let own = "outbound|80||own.example.com";
    assert!(here.of(ResourceType::Cluster).get(own).is_none() && there.of(ResourceType::Cluster).get(own).is_some());
    let details = "outbound|9080||details.default.svc.cluster.local";
    assert_ne!(cluster(&here, details).lb_policy, cluster(&there, details).lb_policy);
    assert!(Arc::ptr_eq(
        here.of(ResourceType::Cluster).get(REVIEWS).expect("known"),
        there.of(ResourceType::Cluster).get(REVIEWS).expect("known"),
    ));
    let table: RouteConfiguration = get(&there, ResourceType::Route, "http_proxy");
    let domains: Vec<_> = table.virtual_hosts.iter().flat_map(|host| &host.domains).collect();
    assert!(
        domains.iter().any(|domain| *domain == "details.default") && !domains.iter().any(|domain| *domain == "details")
    );
}

#[test]
fn a_node_is_read_as_istio_writes_it() {
    use proto::envoy::config::core::v3::Node;
    let number = |value: f64| proto::google::protobuf::Value {
        kind: Some(proto::google::protobuf::value::Kind::NumberValue(value)),
    };
    let listener = wire::fields([
        ("name", wire::text("http")),
        ("bind", wire::text("127.0.0.1")),
        ("port", number(20001.0)),
        ("app_port", wire::text("9080")),
    ]);
    let metadata = wire::fields([
        ("NAMESPACE", wire::text("default")),
        ("SERVICE_ACCOUNT", wire::text("reviews")),
        ("HTTP_PROXY_PORT", wire::text("15001")),
        ("LABELS", wire::structure(wire::fields([("app", wire::text("reviews"))]))),
        ("MESHSTORE_INBOUND", wire::list(vec![wire::structure(listener)])),
    ]);
    let node = |id: &str| Node { id: id.to_owned(), metadata: Some(metadata.clone()), ..Default::default() };
    let proxy = Proxy::of_node(&node("sidecar~127.0.0.1~a.default~x")).expect("valid");
    assert_eq!((proxy.http_proxy_port, &proxy.inbound[..]), (Some(15001), &[inbound(20001, 9080, "http")][..]));
    assert_eq!(proxy.labels, crate::testing::labels(&[("app", "reviews")]));
    assert!(Proxy::of_node(&node("waypoint~127.0.0.1~a.default~x")).is_err());
    assert!(Proxy::of_node(&Node { id: "sidecar~".to_owned(), ..Default::default() }).is_err());
    assert_eq!(bookinfo().revision(), revision(bookinfo().revision().get()));
}

/// Hosts that DNS finds, in each way, with probed connections.
const BY_NAME: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named}
spec: {hosts: [named.example.com], ports: [{number: 80, name: http}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: pooled}
spec:
  hosts: [pooled.example.com]
  ports: [{number: 443, name: tcp}]
  resolution: DNS
  endpoints:
  - {address: a.example.com, weight: 3, labels: {zone: a}}
  - {address: b.example.com, labels: {zone: b}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: turning}
spec: {hosts: [turning.example.com], ports: [{number: 80, name: http}], resolution: DNS_ROUND_ROBIN, endpoints: [{address: c.example.com}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: turning}
spec:
  host: turning.example.com
  trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {probes: 3, time: 60s, interval: 5s}}}}
  subsets: [{name: none, labels: {zone: nowhere}}]
";

/// The clusters of [`BY_NAME`], length-delimited. The proxy's tests read it, to hold it against what is compiled here.
const BY_NAME_COMPILED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/dns-clusters.binpb");

#[test]
fn a_host_by_name_is_found_by_dns() {
    use proto::envoy::config::cluster::v3::cluster::DiscoveryType;
    let config = compiled(mesh(BY_NAME)).for_proxy(&sidecar("productpage"), None);
    let clusters: Vec<_> = [
        ("outbound|80||named.example.com", DiscoveryType::StrictDns, 1),
        ("outbound|443||pooled.example.com", DiscoveryType::StrictDns, 2),
        ("outbound|80||turning.example.com", DiscoveryType::LogicalDns, 1),
        ("outbound|80|none|turning.example.com", DiscoveryType::StrictDns, 0),
    ]
    .map(|(name, kind, endpoints)| {
        let cluster = cluster(&config, name);
        assert_eq!(cluster.cluster_discovery_type, Some(ClusterDiscoveryType::Type(kind.into())), "{name}");
        let groups = &cluster.load_assignment.as_ref().expect("set").endpoints;
        assert_eq!(groups.iter().map(|group| group.lb_endpoints.len()).sum::<usize>(), endpoints, "{name}");
        cluster
    })
    .into();
    let keepalive = clusters[2].upstream_connection_options.as_ref().and_then(|options| options.tcp_keepalive);
    assert_eq!(keepalive.expect("set").keepalive_time.expect("set").value, 60);

    if std::env::var_os("UPDATE_TESTDATA").is_some() {
        let bytes: Vec<u8> = clusters.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
        std::fs::write(BY_NAME_COMPILED, bytes).expect("written");
    }
    let stored = std::fs::read(BY_NAME_COMPILED).expect("readable");
    let mut rest = &stored[..];
    for cluster in clusters {
        let known = Cluster::decode_length_delimited(&mut rest).expect("a cluster");
        assert_eq!(known, cluster, "run again with UPDATE_TESTDATA=1");
    }
}
