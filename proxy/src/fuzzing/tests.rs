//! A few resources of each sort, whole and changed.

#[expect(dead_code, reason = "the traffic tests need more of it")]
#[path = "../../tests/traffic/resources.rs"]
mod resources;

use std::net::SocketAddr;

use proptest::{collection::vec, prelude::*};
use prost::{Message, Name};
use proto::envoy::config::{
    cluster::v3::cluster::DiscoveryType,
    route::v3::{
        RedirectAction, Route, RouteAction, redirect_action::PathRewriteSpecifier, route::Action as WireAction,
    },
};

use self::resources::{
    Mode, any as packed, assignment, cluster, dns_cluster, forward, h2_cluster, hosts_table, http_listener,
    inbound_listener, manager, mesh_assignment, mesh_cluster, on_prefix, route_to, table, tcp_listener,
};
use super::*;

fn named<M: Message + Name>(name: &str, message: &M) -> Resource {
    Resource { name: name.to_owned(), resource: Some(packed(message)), ..Resource::default() }
}

fn samples() -> Vec<Resource> {
    let at = SocketAddr::from(([127, 0, 0, 1], 9080));
    let peers = ["spiffe://cluster.local/ns/default/sa/reviews"];
    let rewritten = RouteAction { prefix_rewrite: "/b/".to_owned(), ..forward("plain") };
    let redirect = RedirectAction {
        path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite("/c".to_owned())),
        ..RedirectAction::default()
    };
    let redirected = Route { action: Some(WireAction::Redirect(redirect)), ..on_prefix("/old", forward("")) };
    let routes = vec![on_prefix("/a", rewritten), redirected, route_to("mesh")];
    vec![
        named("plain", &cluster("plain")),
        named("mesh", &mesh_cluster("mesh", &peers, h2_cluster("mesh"), &["h2"])),
        named("dns", &dns_cluster("dns", DiscoveryType::StrictDns, "db.example", 5432)),
        named("plain", &assignment("plain", &[at, at])),
        named("mesh", &mesh_assignment("mesh", &[at])),
        named("routes", &hosts_table("routes", vec![("a.*", routes), ("*", vec![route_to("dns")])])),
        named("inbound", &table("inbound", vec![route_to("plain")])),
        named("http", &http_listener("http", 15_001, &manager("routes"))),
        named("in", &inbound_listener("in", 15_006, "inbound", Mode::Permissive)),
        named("tcp", &tcp_listener("tcp", 15_002, &[("dns", 3), ("plain", 1)])),
    ]
}

#[test]
fn the_samples_are_accepted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut book = book();
    for resource in samples() {
        let any = resource.resource.expect("content");
        let kind = Kind::of_type_url(&any.type_url).expect("one that is taken");
        assert_eq!(book.accept(kind, &resource.name, &any, Instant::now()), Ok(()), "{}", resource.name);
    }
    configuration(&samples(), &[]);
}

proptest! {
    #[test]
    fn changed_resources_are_accepted_or_refused(edits in vec(any::<[u8; edit::EDIT_BYTES]>(), 0..20)) {
        configuration(&samples(), &edits.concat());
    }
}
