//! What the fuzz targets in `fuzz/` call, and the tests too.
//!
//! - Whatever the bytes are, nothing panics unless what reads them is wrong.

mod edit;
mod request;

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use http::{HeaderMap, Method};
use prost::Message;
use proto::envoy::{config::route::v3::RouteConfiguration, service::discovery::v3::Resource};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType};
use tls::{Credentials, TrustBundle};

pub use request::request;

use crate::{
    config::{Action, Book, Kind, RouteTable, Snapshot, Subject},
    resolve::{Names, Resolver},
    settings::Limits,
    telemetry::{Own, Telemetry},
    upstream::Builder,
};

/// Somebody who trusts a root and has no certificate yet.
static CREDENTIALS: LazyLock<Credentials> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local".try_into().expect("a URI"))];
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
    let bundle = TrustBundle::from_pem(root.pem().as_bytes()).expect("a root of ours");
    Credentials::new(bundle, None).expect("no certificate is of another trust domain")
});

static TELEMETRY: LazyLock<Arc<Telemetry>> = LazyLock::new(|| {
    let own = Own { workload: crate::config::Workload::default(), principal: String::new() };
    Arc::new(Telemetry::new(own, &Limits::default(), None).expect("no log is to be opened"))
});

/// Takes `resources`, changed as `edits` say, as the proxy takes what a server sends and what it has on disk; makes what
/// was accepted serve, and puts requests to each of its route tables, to paths that its routes name and to others.
pub fn configuration(resources: &[Resource], edits: &[u8]) {
    // Names are not asked for: nothing drives what this would run.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let mut resources = resources.to_vec();
    edit::apply(&mut resources, edits);
    let mut book = book();
    let begun = Instant::now();
    for (place, resource) in resources.iter().enumerate() {
        let Some(any) = &resource.resource else { continue };
        let Some(kind) = Kind::of_type_url(&any.type_url) else { continue };
        let _refusal = book.accept(kind, &resource.name, any, begun);
        // Now and then something serves before all has come.
        if place % 7 == 6 {
            book.publish(begun);
        }
    }
    let snapshot = book.publish(begun + Duration::from_mins(1)).snapshot;
    for cluster in snapshot.clusters.values() {
        cluster.balancer.pick(begun, |_| false);
        cluster.balancer.pick(begun, |_| true);
    }
    for resource in &resources {
        let Some(any) = &resource.resource else { continue };
        if Kind::of_type_url(&any.type_url) == Some(Kind::Route)
            && let Ok(wire) = RouteConfiguration::decode(&any.value[..])
        {
            ask(&snapshot, &wire);
        }
    }
    for kind in Kind::ALL {
        let _wanted = book.wanted(kind);
        for resource in &resources {
            book.remove(kind, &resource.name);
        }
    }
    book.publish(begun + Duration::from_mins(2));
}

fn book() -> Book {
    let limits = Limits { workers: 1, ..Limits::default() };
    let builder = Builder::new(CREDENTIALS.clone(), TELEMETRY.clone(), limits.clone());
    let resolver = Resolver::new(Some(([127, 0, 0, 1], 53).into())).expect("an address is resolver enough");
    let names = Names::new(resolver, TELEMETRY.clone(), limits.dns_endpoints_max);
    Book::new(builder, names, limits.warming)
}

/// Puts requests to a table, if it serves: for each of its domains.
fn ask(snapshot: &Snapshot, wire: &RouteConfiguration) {
    let Some(table) = snapshot.routes.get(&*wire.name) else { return };
    let hosts = wire.virtual_hosts.iter();
    let routes = hosts.clone().flat_map(|host| &host.routes).filter_map(|route| route.r#match.as_ref());
    // The prefix, path or expression, wherever it stands in the match.
    let named = routes.filter_map(|named| named.path_specifier.as_ref()).map(|path| format!("{path:?}"));
    let mut paths: Vec<String> = named.filter_map(|path| Some(path.split('"').nth(1)?.to_owned())).collect();
    // As they are once they were normalized.
    paths.retain(|path| path.starts_with('/') && path.is_ascii());
    paths.extend(["/", "/a/b", "*"].map(str::to_owned));
    for domain in hosts.flat_map(|host| &host.domains) {
        let authority = domain.replace('*', "x").to_ascii_lowercase();
        for path in &paths {
            answer(table, &authority, path);
        }
    }
}

/// Finds the route of a request, and what it makes of the request.
fn answer(table: &RouteTable, authority: &str, path: &str) {
    let mut headers = HeaderMap::new();
    let (method, query) = (Method::GET, Some("a=b&c"));
    let subject = Subject { method: &method, scheme: "http", authority, path, query, headers: &headers };
    let Some(route) = table.virtual_host(authority).and_then(|host| host.route(&subject)).cloned() else { return };
    match &route.action {
        Action::Direct(_) => {}
        Action::Redirect(to) => {
            let _location = to.location("http", authority, path, query);
        }
        Action::Forward(forward) => {
            let _path = forward.path.as_ref().map(|rewrite| rewrite.apply(path));
            forward.target().request.apply(&mut headers);
        }
    }
    route.request.apply(&mut headers);
    route.response.apply(&mut headers);
}

#[cfg(test)]
mod tests;
