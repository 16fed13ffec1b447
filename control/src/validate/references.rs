//! The state as a whole: what resources say about each other.

use std::collections::BTreeMap;

use super::Issue;
use crate::{
    mesh::{Catalog, DOMAIN, Host, MESH, Rules, Snapshot, Stored, full_name, gateway_id},
    model::{
        Id, Typed, closest,
        destination_rule::DestinationRule,
        gateway::{Gateway, GatewayProtocol},
        service_entry::ServiceEntry,
        virtual_service::{Destination, VirtualService},
    },
};

/// What checking a state found.
pub(super) struct Found {
    pub(super) issues: Vec<Issue>,
    /// Which resource leans on which.
    pub(super) used: Vec<(Id, Id)>,
}

/// Checks every reference of `snapshot`.
pub(super) fn check(snapshot: &Snapshot) -> Found {
    let (catalog, rules) = (Catalog::new(snapshot), Rules::new(snapshot));
    let mut walk = Walk { snapshot, catalog, rules, found: Found { issues: Vec::new(), used: Vec::new() } };
    for (stored, service) in snapshot.all::<VirtualService>() {
        walk.virtual_service(stored, service);
    }
    walk.virtual_service_hosts();
    walk.service_entry_hosts();
    walk.gateway_ports();
    walk.found
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    catalog: Catalog,
    rules: Rules,
    found: Found,
}

impl Walk<'_> {
    fn issue(&mut self, id: &Id, field: String, message: String, suggestion: String) {
        self.found.issues.push(Issue { id: id.clone(), field, message, suggestion });
    }

    fn virtual_service(&mut self, stored: &Stored, service: &VirtualService) {
        let id = stored.id();
        self.gateways(id, "spec.gateways", &service.gateways);
        for (index, route) in service.http.iter().enumerate() {
            for (at, matched) in route.r#match.iter().enumerate() {
                self.match_gateways(
                    id,
                    service,
                    &format!("spec.http[{index}].match[{at}].gateways"),
                    &matched.gateways,
                );
            }
            for (at, to) in route.route.iter().enumerate() {
                let field = format!("spec.http[{index}].route[{at}].destination");
                self.destination(id, service, &field, to.destination.as_ref());
            }
        }
        for (index, route) in service.tcp.iter().enumerate() {
            for (at, matched) in route.r#match.iter().enumerate() {
                self.match_gateways(id, service, &format!("spec.tcp[{index}].match[{at}].gateways"), &matched.gateways);
            }
            for (at, to) in route.route.iter().enumerate() {
                let field = format!("spec.tcp[{index}].route[{at}].destination");
                self.destination(id, service, &field, to.destination.as_ref());
            }
        }
    }

    fn gateways(&mut self, id: &Id, field: &str, gateways: &[String]) {
        for (index, name) in gateways.iter().enumerate().filter(|(_, name)| *name != MESH) {
            let gateway = gateway_id(name, &id.namespace);
            if self.snapshot.get(&gateway).is_some() {
                self.found.used.push((id.clone(), gateway));
                continue;
            }
            let all = self.snapshot.all::<Gateway>();
            let names: Vec<_> =
                all.map(|(stored, _)| format!("{}/{}", stored.id().namespace, stored.id().name)).collect();
            let wanted = format!("{}/{}", gateway.namespace, gateway.name);
            let message = format!("there is no Gateway {wanted}");
            self.issue(
                id,
                format!("{field}[{index}]"),
                message,
                did_you_mean(&wanted, names.iter().map(String::as_str)),
            );
        }
    }

    /// A match can only narrow the gateways that its virtual service is bound to.
    fn match_gateways(&mut self, id: &Id, service: &VirtualService, field: &str, gateways: &[String]) {
        for (index, name) in gateways.iter().enumerate() {
            let bound = service.gateways.contains(name) || service.gateways.is_empty() && name == MESH;
            if !bound {
                let message = format!("gateway {name:?} is not among spec.gateways");
                self.issue(id, format!("{field}[{index}]"), message, format!("add {name:?} to spec.gateways"));
            }
        }
    }

    fn destination(&mut self, id: &Id, service: &VirtualService, field: &str, destination: Option<&Destination>) {
        let Some(destination) = destination else { return };
        let name = full_name(&destination.host, &id.namespace);
        let Some(host) = self.catalog.find(&name, &id.namespace).cloned() else {
            let message = format!("there is no Service or ServiceEntry with host {name:?}");
            let suggestion = self.suggest_host(&destination.host, &name);
            return self.issue(id, format!("{field}.host"), message, suggestion);
        };
        self.found.used.push((id.clone(), host.stored.id().clone()));
        self.destination_port(id, service, field, destination, &host);
        if !destination.subset.is_empty() {
            self.subset(id, field, destination, &host);
        }
    }

    /// `reviews.other` is most often meant as the service `reviews` of the namespace `other`.
    fn suggest_host(&self, written: &str, name: &str) -> String {
        let full = format!("{written}.svc.{DOMAIN}");
        if self.catalog.names().any(|known| known == full) {
            return format!("did you mean {full:?}?");
        }
        did_you_mean(name, self.catalog.names())
    }

    fn destination_port(
        &mut self,
        id: &Id,
        service: &VirtualService,
        field: &str,
        destination: &Destination,
        host: &Host,
    ) {
        let ports: Vec<_> = host.ports.iter().map(|port| port.number.to_string()).collect();
        let choice = format!("its ports are {}", ports.join(", "));
        match &destination.port {
            Some(port) if host.ports.iter().all(|known| u32::from(known.number) != port.number) => {
                let message = format!("{} has no port {}", host.name, port.number);
                self.issue(id, format!("{field}.port.number"), message, choice);
            }
            // At a sidecar the port of the request decides; at a gateway nothing does.
            None if host.ports.len() > 1 && service.gateways.iter().any(|gateway| gateway != MESH) => {
                let message = format!("{} has several ports: say which", host.name);
                self.issue(id, field.to_owned(), message, choice);
            }
            _ => {}
        }
    }

    fn subset(&mut self, id: &Id, field: &str, destination: &Destination, host: &Host) {
        let rules = self.rules.of(&host.name, host.namespace(), &id.namespace);
        let mut known = Vec::new();
        for stored in &rules {
            let Some(rule) = DestinationRule::of(&stored.resource.spec) else { continue };
            if rule.subsets.iter().any(|subset| subset.name == destination.subset) {
                self.found.used.push((id.clone(), stored.id().clone()));
                return;
            }
            known.extend(rule.subsets.iter().map(|subset| subset.name.as_str()));
        }
        let subset = &destination.subset;
        let (message, suggestion) = if rules.is_empty() {
            let message = format!("no DestinationRule for {} defines the subset {subset:?}", host.name);
            (message, format!("add a DestinationRule with host {:?}", host.name))
        } else {
            let names = rules.iter().map(|stored| stored.id().to_string()).collect::<Vec<_>>().join(", ");
            let listed = if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("its subsets are {}", known.join(", "))
            };
            let meant = closest(subset, known.iter().copied());
            let suggestion = meant.map_or(listed, |meant| format!("did you mean {meant:?}?"));
            (format!("{names} has no subset {subset:?}"), suggestion)
        };
        self.issue(id, format!("{field}.subset"), message, suggestion);
    }

    /// Two virtual services for one host of the mesh: the younger would silently do nothing.
    fn virtual_service_hosts(&mut self) {
        let mut first = BTreeMap::<(String, String), Id>::new();
        let mut issues = Vec::new();
        for (stored, service) in self.snapshot.oldest_first::<VirtualService>() {
            if !service.gateways.is_empty() && !service.gateways.iter().any(|gateway| gateway == MESH) {
                continue;
            }
            for (index, host) in service.hosts.iter().enumerate() {
                let key = (stored.id().namespace.clone(), full_name(host, &stored.id().namespace));
                match first.get(&key) {
                    Some(earlier) if earlier != stored.id() => {
                        let message = format!("{earlier} already routes {:?}, and the older one wins", key.1);
                        issues.push((stored.id().clone(), format!("spec.hosts[{index}]"), message));
                    }
                    _ => drop(first.insert(key, stored.id().clone())),
                }
            }
        }
        for (id, field, message) in issues {
            self.issue(&id, field, message, "put both into one resource".to_owned());
        }
    }

    /// Two declarations of one host in one namespace.
    fn service_entry_hosts(&mut self) {
        let mut issues = Vec::new();
        for (stored, entry) in self.snapshot.all::<ServiceEntry>() {
            for (index, host) in entry.hosts.iter().enumerate() {
                let Some(winner) = self.catalog.find(host, &stored.id().namespace) else { continue };
                let same = winner.namespace() == stored.id().namespace;
                if same && winner.stored.id() != stored.id() {
                    let message = format!("{} already declares {host:?}", winner.stored.id());
                    issues.push((stored.id().clone(), format!("spec.hosts[{index}]"), message));
                }
            }
        }
        for (id, field, message) in issues {
            self.issue(&id, field, message, String::new());
        }
    }

    /// Gateways that listen on one port of one address must agree on what is spoken there.
    fn gateway_ports(&mut self) {
        let mut issues = Vec::new();
        let gateways = self.snapshot.oldest_first::<Gateway>();
        for (at, (stored, gateway)) in gateways.iter().enumerate() {
            for (index, server) in gateway.servers.iter().enumerate() {
                let Some(port) = &server.port else { continue };
                let earlier = gateways[..at].iter().filter(|(_, other)| may_share_proxy(gateway, other));
                let clash = earlier.flat_map(|(other, spec)| spec.servers.iter().map(move |server| (*other, server)));
                let own = gateway.servers[..index].iter().map(|server| (*stored, server));
                for (other, taken) in clash.chain(own) {
                    let Some(theirs) = &taken.port else { continue };
                    let same_port = theirs.number == port.number && taken.bind == server.bind;
                    let both_http = is_http(port.protocol) && is_http(theirs.protocol);
                    if same_port && !both_http {
                        let message = format!("{} already listens on port {}", other.id(), port.number);
                        issues.push((stored.id().clone(), format!("spec.servers[{index}].port"), message));
                    }
                }
            }
        }
        for (id, field, message) in issues {
            self.issue(&id, field, message, "use another port".to_owned());
        }
    }
}

fn is_http(protocol: GatewayProtocol) -> bool {
    protocol != GatewayProtocol::Tcp
}

/// Whether some proxy could be selected by both, as far as their selectors tell.
fn may_share_proxy(left: &Gateway, right: &Gateway) -> bool {
    left.selector.iter().all(|(key, value)| right.selector.get(key).is_none_or(|other| other == value))
}

fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    closest(word, candidates).map(|meant| format!("did you mean {meant:?}?")).unwrap_or_default()
}
