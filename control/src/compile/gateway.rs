//! A gateway's listeners and route tables.
//!
//! - HTTP servers on one port of one address share a listener and a route table.
//! - Of all virtual services for one host of one gateway, the routes are joined, those of the oldest first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use proto::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::Listener,
    route::v3::{Route, RouteConfiguration, VirtualHost},
};

use super::{
    listener::{self, Routes, Side},
    names,
    outbound::{Table, rules, tcp_clusters, with_any_port},
    proxy::Proxy,
    route::{Context, http_routes},
    wire::boolean,
};
use crate::{
    mesh::{Catalog, Protocol, Snapshot, covers, more_specific, selects},
    model::{
        Id,
        gateway::{Gateway, GatewayProtocol, Server},
    },
};

/// What a gateway proxy listens on: by address and port, the servers there, the oldest gateway first.
type Ports<'a> = BTreeMap<(String, u16), Vec<(&'a Id, &'a Server)>>;

/// Listeners and route tables.
pub(super) fn compile(
    snapshot: &Snapshot,
    catalog: &Catalog,
    proxy: &Proxy,
) -> (Vec<Listener>, Vec<RouteConfiguration>) {
    let (mut listeners, mut tables) = (Vec::new(), Vec::new());
    for ((bind, port), servers) in ports(snapshot, proxy) {
        let address = bind.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let edge = Edge { snapshot, catalog, proxy, port };
        if servers.iter().any(|(_, server)| is_tcp(server)) {
            let clusters = servers.iter().find_map(|(gateway, server)| edge.tcp_clusters(gateway, server));
            listeners.extend(clusters.map(|clusters| {
                let stats = listener::stat_prefix("gateway", address, port, Protocol::Tcp);
                listener::listener(address, port, TrafficDirection::Outbound, listener::tcp(&stats, clusters))
            }));
            continue;
        }
        let name = names::gateway_routes(&bind, port);
        let stats = listener::stat_prefix("gateway", address, port, Protocol::Http);
        let filter = listener::http(&stats, Routes::Named(name.clone()), Side::Edge);
        listeners.push(listener::listener(address, port, TrafficDirection::Outbound, filter));
        tables.push(edge.table(name, &servers));
    }
    (listeners, tables)
}

fn is_tcp(server: &Server) -> bool {
    server.port.as_ref().is_some_and(|port| port.protocol == GatewayProtocol::Tcp)
}

fn ports<'a>(snapshot: &'a Snapshot, proxy: &Proxy) -> Ports<'a> {
    let mut ports = Ports::new();
    let gateways = snapshot.oldest_first::<Gateway>().into_iter();
    for (stored, gateway) in gateways.filter(|(_, gateway)| selects(&gateway.selector, &proxy.labels)) {
        for server in &gateway.servers {
            let number = server.port.as_ref().and_then(|port| u16::try_from(port.number).ok());
            let Some(number) = number.filter(|number| *number != 0) else { continue };
            ports.entry((server.bind.clone(), number)).or_default().push((stored.id(), server));
        }
    }
    ports
}

/// One port of a gateway proxy.
struct Edge<'a> {
    snapshot: &'a Snapshot,
    catalog: &'a Catalog,
    proxy: &'a Proxy,
    port: u16,
}

impl Edge<'_> {
    fn context<'a>(&'a self, gateway: &'a str, owner: &'a str) -> Context<'a> {
        Context {
            catalog: self.catalog,
            owner,
            gateway,
            port: self.port,
            namespace: &self.proxy.namespace,
            labels: &self.proxy.labels,
        }
    }

    fn table(&self, name: String, servers: &[(&Id, &Server)]) -> RouteConfiguration {
        let mut hosts = BTreeMap::<String, Vec<Route>>::new();
        let gateways: BTreeSet<_> = servers.iter().map(|(gateway, _)| *gateway).collect();
        for gateway in gateways {
            let of_gateway: Vec<_> =
                servers.iter().filter(|(id, _)| *id == gateway).map(|(_, server)| *server).collect();
            self.add_routes(gateway, &of_gateway, &mut hosts);
        }
        let mut hosts: Vec<_> = hosts.into_iter().collect();
        hosts.sort_by(|(left, _), (right, _)| more_specific(left, right).then_with(|| left.cmp(right)));
        let mut table = Table { taken: BTreeSet::new(), virtual_hosts: Vec::new() };
        for (host, routes) in hosts {
            let domains =
                if host == "*" { vec![host.clone()] } else { vec![host.clone(), with_any_port(&host, self.port)] };
            table.add(format!("{host}:{}", self.port), domains, routes);
        }
        if table.virtual_hosts.is_empty() {
            let domains = vec!["*".to_owned()];
            let name = format!("blackhole:{}", self.port);
            table.virtual_hosts.push(VirtualHost { name, domains, ..Default::default() });
        }
        let virtual_hosts = table.virtual_hosts;
        RouteConfiguration { name, virtual_hosts, validate_clusters: boolean(false), ..Default::default() }
    }

    /// Adds the routes of the virtual services bound to `gateway`, host by host.
    fn add_routes(&self, gateway: &Id, servers: &[&Server], hosts: &mut BTreeMap<String, Vec<Route>>) {
        let name = format!("{}/{}", gateway.namespace, gateway.name);
        for rule in rules(self.snapshot, &name, &gateway.namespace) {
            let owner = &rule.stored.id().namespace;
            let served = servers.iter().flat_map(|server| &server.hosts);
            let served: Vec<_> = served.filter_map(|host| admitted(host, &gateway.namespace, owner)).collect();
            let common: BTreeSet<_> =
                rule.hosts.iter().flat_map(|host| served.iter().filter_map(|server| narrower(host, server))).collect();
            for host in common {
                let routes = http_routes(&rule.spec.http, self.context(&name, owner));
                hosts.entry(host.to_owned()).or_default().extend(routes);
            }
        }
    }

    fn tcp_clusters(&self, gateway: &Id, server: &Server) -> Option<Vec<(String, u32)>> {
        let name = format!("{}/{}", gateway.namespace, gateway.name);
        rules(self.snapshot, &name, &gateway.namespace).iter().find_map(|rule| {
            let owner = &rule.stored.id().namespace;
            let mut hosts = server.hosts.iter().filter_map(|host| admitted(host, &gateway.namespace, owner));
            let is_for_us = hosts.any(|ours| rule.hosts.iter().any(|host| narrower(host, ours).is_some()));
            is_for_us.then(|| tcp_clusters(&rule.spec.tcp, self.context(&name, owner))).flatten()
        })
    }
}

/// The host part of a server's `NAMESPACE/HOST`, if virtual services of `owner` may use it.
fn admitted<'a>(host: &'a str, gateway_namespace: &str, owner: &str) -> Option<&'a str> {
    let (namespace, host) = host.split_once('/').unwrap_or(("*", host));
    let admitted = match namespace {
        "*" => true,
        "." => owner == gateway_namespace,
        namespace => namespace == owner,
    };
    admitted.then_some(host)
}

/// The narrower of two host patterns, when one covers the other.
fn narrower<'a>(left: &'a str, right: &'a str) -> Option<&'a str> {
    if covers(left, right) { Some(right) } else { covers(right, left).then_some(left) }
}
