//! A sidecar's way out: the route table of its HTTP proxy, and its TCP listeners.
//!
//! - A request is routed by its host and port; the most specific, then oldest, virtual service for the host decides.
//! - A host that the mesh does not know is answered 502, as Istio's `REGISTRY_ONLY`.

use std::collections::BTreeSet;

use proto::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::Listener,
    route::v3::{
        DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route, route_match::PathSpecifier,
    },
};

use super::{
    listener,
    names::{HTTP_PROXY_ROUTES, outbound_cluster},
    proxy::{Proxy, TcpOutbound},
    route::{Context, default_route, destination_cluster, gateway_name, http_routes, names_gateway},
    wire::boolean,
};
use crate::{
    mesh::{Catalog, Host, MESH, Port, Protocol, Snapshot, Stored, covers, full_name, more_specific, selects, visible},
    model::virtual_service::{TcpRoute, VirtualService},
};

/// The port that a host without one means in HTTP.
const HTTP_PORT: u16 = 80;

/// A virtual service with its hosts in full.
pub(super) struct Rule<'a> {
    pub(super) stored: &'a Stored,
    pub(super) spec: &'a VirtualService,
    pub(super) hosts: Vec<String>,
}

/// The virtual services that `viewer` sees and that are bound to a gateway (or `mesh`), the oldest first.
pub(super) fn rules<'a>(snapshot: &'a Snapshot, gateway: &str, viewer: &str) -> Vec<Rule<'a>> {
    let all = snapshot.oldest_first::<VirtualService>().into_iter();
    all.filter_map(|(stored, spec)| {
        let owner = &stored.id().namespace;
        let names: BTreeSet<_> = spec.gateways.iter().map(|name| gateway_name(name, owner)).collect();
        let bound = names.contains(gateway) || (names.is_empty() && gateway == MESH);
        let hosts = spec.hosts.iter().map(|host| full_name(host, owner)).collect();
        (bound && visible(&spec.export_to, owner, viewer)).then_some(Rule { stored, spec, hosts })
    })
    .collect()
}

/// The rule for `host`: of the most specific pattern, the oldest.
fn rule_for<'a, 'r>(rules: &'r [Rule<'a>], host: &str) -> Option<&'r Rule<'a>> {
    let fits = |rule: &'r Rule<'a>| {
        let best = rule.hosts.iter().filter(|pattern| covers(pattern, host)).min_by(|l, r| more_specific(l, r))?;
        Some((best, rule))
    };
    // `min_by` keeps the first of equals, and rules come by age.
    rules.iter().filter_map(fits).min_by(|(left, _), (right, _)| more_specific(left, right)).map(|(_, rule)| rule)
}

/// The route table of the HTTP proxy.
pub(super) fn http_proxy_routes(snapshot: &Snapshot, catalog: &Catalog, proxy: &Proxy) -> RouteConfiguration {
    let rules = rules(snapshot, MESH, &proxy.namespace);
    let mut table = Table { taken: BTreeSet::new(), virtual_hosts: Vec::new() };
    for host in catalog.seen_by(&proxy.namespace) {
        let rule = rule_for(&rules, &host.name);
        for port in host.ports.iter().filter(|port| port.protocol.is_http()) {
            let routes = host_routes(catalog, proxy, rule, host, port);
            let domains = domains(host, port, &proxy.namespace);
            table.add(format!("{}:{}", host.name, port.number), domains, routes);
        }
    }
    // Hosts that exist only as the name of a rule.
    for rule in &rules {
        for host in rule.hosts.iter().filter(|host| catalog.find(host, &proxy.namespace).is_none()) {
            let context = context(catalog, proxy, rule, HTTP_PORT);
            let domains = vec![host.clone(), with_any_port(host, HTTP_PORT)];
            table.add(host.clone(), domains, http_routes(&rule.spec.http, context));
        }
    }
    table.virtual_hosts.push(unknown_hosts());
    RouteConfiguration {
        name: HTTP_PROXY_ROUTES.to_owned(),
        virtual_hosts: table.virtual_hosts,
        validate_clusters: boolean(false),
        ..Default::default()
    }
}

/// `host:*`; a wildcard can not have two stars, so there the port is the one given.
pub(super) fn with_any_port(host: &str, port: u16) -> String {
    if host.starts_with('*') { format!("{host}:{port}") } else { format!("{host}:*") }
}

/// Virtual hosts with disjoint domains: who comes first keeps them.
pub(super) struct Table {
    pub(super) taken: BTreeSet<String>,
    pub(super) virtual_hosts: Vec<VirtualHost>,
}

impl Table {
    pub(super) fn add(&mut self, name: String, domains: Vec<String>, routes: Vec<Route>) {
        let domains: Vec<_> = domains.into_iter().filter(|domain| self.taken.insert(domain.clone())).collect();
        if !domains.is_empty() {
            self.virtual_hosts.push(VirtualHost { name, domains, routes, ..Default::default() });
        }
    }
}

fn host_routes(catalog: &Catalog, proxy: &Proxy, rule: Option<&Rule<'_>>, host: &Host, port: &Port) -> Vec<Route> {
    match rule {
        Some(rule) if !rule.spec.http.is_empty() => {
            http_routes(&rule.spec.http, context(catalog, proxy, rule, port.number))
        }
        _ => vec![default_route(outbound_cluster(port.number, "", &host.name))],
    }
}

fn context<'a>(catalog: &'a Catalog, proxy: &'a Proxy, rule: &'a Rule<'_>, port: u16) -> Context<'a> {
    Context {
        catalog,
        owner: &rule.stored.id().namespace,
        gateway: MESH,
        port,
        namespace: &proxy.namespace,
        labels: &proxy.labels,
    }
}

/// Every spelling of a host, with the port; without it where this is the port that a bare host means.
fn domains(host: &Host, port: &Port, viewer: &str) -> Vec<String> {
    let names = spellings(host, viewer);
    let http = || host.ports.iter().filter(|port| port.protocol.is_http());
    let bare = http().find(|port| port.number == HTTP_PORT).or_else(|| http().next());
    let is_bare = bare.is_some_and(|bare| bare.number == port.number);
    let with_port = names.iter().map(|name| format!("{name}:{}", port.number));
    with_port.chain(names.iter().filter(|_| is_bare).cloned()).collect()
}

/// `reviews.default.svc.cluster.local`, `reviews.default.svc`, `reviews.default` and, at home, `reviews`.
fn spellings(host: &Host, viewer: &str) -> Vec<String> {
    let mut names = vec![host.name.clone()];
    if host.is_service() {
        let (name, namespace) = (&host.stored.id().name, host.namespace());
        names.extend([format!("{name}.{namespace}.svc"), format!("{name}.{namespace}")]);
        names.extend((namespace == viewer).then(|| name.clone()));
    }
    names
}

fn unknown_hosts() -> VirtualHost {
    let everything = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let response = DirectResponseAction { status: 502, ..Default::default() };
    VirtualHost {
        name: "block_all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route {
            name: "block_all".to_owned(),
            r#match: Some(everything),
            action: Some(route::Action::DirectResponse(response)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The outbound listeners of a sidecar.
pub(super) fn listeners(snapshot: &Snapshot, catalog: &Catalog, proxy: &Proxy) -> Vec<Listener> {
    let loopback = std::net::IpAddr::from([127, 0, 0, 1]);
    let http = proxy.http_proxy_port.map(|port| {
        let stats = listener::stat_prefix("outbound", loopback, port, Protocol::Http);
        let routes = listener::Routes::Named(HTTP_PROXY_ROUTES.to_owned());
        let filter = listener::http(&stats, routes, listener::Side::Outbound);
        listener::listener(loopback, port, TrafficDirection::Outbound, filter)
    });
    let rules = rules(snapshot, MESH, &proxy.namespace);
    let tcp = proxy.tcp_outbound.iter().map(|outbound| tcp_listener(catalog, &rules, proxy, outbound));
    http.into_iter().chain(tcp).collect()
}

fn tcp_listener(catalog: &Catalog, rules: &[Rule<'_>], proxy: &Proxy, outbound: &TcpOutbound) -> Listener {
    let host = full_name(&outbound.host, &proxy.namespace);
    let default = || vec![(outbound_cluster(outbound.service_port, "", &host), 1)];
    let clusters = rule_for(rules, &host).and_then(|rule| {
        let context = context(catalog, proxy, rule, outbound.service_port);
        tcp_clusters(&rule.spec.tcp, context)
    });
    let stats = listener::stat_prefix("outbound", outbound.bind, outbound.port, Protocol::Tcp);
    let filter = listener::tcp(&stats, clusters.unwrap_or_else(default));
    listener::listener(outbound.bind, outbound.port, TrafficDirection::Outbound, filter)
}

/// The clusters of the first entry that fits, by weight.
pub(super) fn tcp_clusters(entries: &[TcpRoute], context: Context<'_>) -> Option<Vec<(String, u32)>> {
    let fits = |entry: &&TcpRoute| {
        entry.r#match.is_empty()
            || entry.r#match.iter().any(|matched| {
                (matched.port == 0 || matched.port == u32::from(context.port))
                    && (matched.gateways.is_empty() || names_gateway(&matched.gateways, context))
                    && (matched.source_namespace.is_empty() || matched.source_namespace == context.namespace)
                    && selects(&matched.source_labels, context.labels)
            })
    };
    let entry = entries.iter().find(fits)?;
    let single = entry.route.len() == 1;
    let weighted = entry.route.iter().filter(|to| single || to.weight > 0);
    let clusters = weighted.map(|to| (destination_cluster(to.destination.as_ref(), context), to.weight.max(1)));
    Some(clusters.collect())
}
