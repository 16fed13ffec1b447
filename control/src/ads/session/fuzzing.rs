//! A session and a client that keeps to the protocol, held together by what each has of the other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, LazyLock},
};

use super::{Names, Protocol, Request, Response, Session, WILDCARD};
use crate::{
    compile::{Compiled, Encoded, ProxyConfig, ResourceType, Role},
    fuzzing::{mesh, proxy, trust_domain},
};

/// Responses that may be sent without an answer: as many of each type as may be unanswered, and what goes without one.
const RESPONSES_MAX: usize = 200;

const SERVICES: &str =
    "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {app: a}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {selector: {app: b}, ports: [{name: http, port: 80}]}}
---
";
const ENTRY: &str = "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: a-1}, spec: {address: 127.0.0.1, labels: {app: a, security.istio.io/tlsMode: istio}, serviceAccount: a}}
---
";
const ROUTE: &str = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a}, spec: {hosts: [a], http: [{route: [{destination: {host: b}}]}]}}
---
";
const RULE: &str = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}}
---
";

/// What a sidecar is to run, one revision after another.
static CONFIGS: LazyLock<Vec<Arc<ProxyConfig>>> = LazyLock::new(|| {
    let services: Vec<&str> = SERVICES.split_inclusive("---\n").collect();
    let meshes = [
        vec![],
        vec![SERVICES],
        vec![SERVICES, ENTRY],
        vec![SERVICES, ENTRY, ROUTE],
        vec![SERVICES, RULE],
        vec![services[0]],
        vec![SERVICES, ROUTE],
        vec![],
        vec![services[1], RULE],
        vec![SERVICES, ENTRY, ROUTE, RULE],
    ];
    let (mut compiled, mut configs): (Option<Compiled>, Vec<Arc<ProxyConfig>>) = (None, Vec::new());
    for (number, documents) in meshes.iter().enumerate() {
        let snapshot = mesh(&documents.concat(), number);
        let next = Compiled::new(snapshot, &trust_domain(), compiled.as_ref());
        let config = next.for_proxy(&proxy(Role::Sidecar), configs.last().map(Arc::as_ref));
        configs.push(Arc::new(config));
        compiled = Some(next);
    }
    configs
});

/// A client that speaks as `bytes` say: which of the two protocols, and then what it asks for, in what order it takes and
/// answers what it is sent, when it connects again, and when the configuration changes. Once it has answered everything, it
/// has what it asked for, and nothing else that it would use.
///
/// # Panics
/// If not, or if there is no end to what it is sent.
pub fn discovery(bytes: &[u8]) {
    let Some((first, steps)) = bytes.split_first() else { return };
    let protocol = if first % 2 == 0 { Protocol::Delta } else { Protocol::StateOfTheWorld };
    let mut client = Client::new(protocol);
    for step in steps.chunks_exact(2) {
        client.step(step[0], step[1]);
    }
    client.finish();
}

/// What a client has of one type.
#[derive(Default)]
struct Have {
    is_open: bool,
    wildcard: bool,
    /// The wildcard was asked for by asking for nothing.
    legacy: bool,
    names: BTreeSet<String>,
    held: BTreeMap<String, Arc<Encoded>>,
}

struct Client {
    protocol: Protocol,
    session: Session,
    config: usize,
    have: BTreeMap<ResourceType, Have>,
    /// Sent, and not looked at yet.
    inbox: VecDeque<Response>,
}

impl Client {
    fn new(protocol: Protocol) -> Self {
        let have = ResourceType::ALL.into_iter().map(|of| (of, Have::default())).collect();
        Self { protocol, session: Session::new(protocol, CONFIGS[0].clone()), config: 0, have, inbox: VecDeque::new() }
    }

    fn step(&mut self, what: u8, which: u8) {
        let of = ResourceType::ALL[usize::from(what / 8) % 4];
        match what % 8 {
            0 | 1 => self.ask(of, chosen(of, which), what % 8 == 1),
            2 => self.inbox.extend(self.session.next()),
            3 => self.take(None),
            4 => self.take(Some("no")),
            5 => self.send(of, "0", Some("late")),
            6 if self.config + 1 < CONFIGS.len() => {
                self.config = (self.config + 1 + usize::from(which % 3)).min(CONFIGS.len() - 1);
                self.session.offer(CONFIGS[self.config].clone());
            }
            7 => self.connect_again(),
            _ => {}
        }
    }

    /// Changes what is subscribed to.
    fn ask(&mut self, of: ResourceType, names: Vec<String>, is_less: bool) {
        let have = self.have.get_mut(&of).expect("every type");
        let first = !std::mem::replace(&mut have.is_open, true);
        let is_all = names.iter().any(|name| name == WILDCARD);
        let without_wildcard: BTreeSet<String> = names.iter().filter(|name| *name != WILDCARD).cloned().collect();
        let names = match self.protocol {
            Protocol::StateOfTheWorld => {
                let legacy = of.is_wildcard() && (first || (have.wildcard && have.names.is_empty()));
                have.legacy = names.is_empty() && legacy;
                (have.wildcard, have.names) = (is_all || have.legacy, without_wildcard);
                Names::All(names)
            }
            Protocol::Delta if is_less => {
                have.wildcard &= !is_all;
                have.names.retain(|name| !without_wildcard.contains(name));
                have.wildcard |= first && of.is_wildcard() && names.is_empty();
                Names::Change { subscribe: Vec::new(), unsubscribe: names, held: Vec::new() }
            }
            Protocol::Delta => {
                have.wildcard |= is_all || (first && of.is_wildcard() && names.is_empty());
                have.names.extend(without_wildcard);
                Names::Change { subscribe: names, unsubscribe: Vec::new(), held: Vec::new() }
            }
        };
        let (wildcard, wanted) = (have.wildcard, &have.names);
        have.held.retain(|name, _| wildcard || wanted.contains(name));
        self.session.request(of, Request { names, ..Request::default() });
    }

    /// Says something of a nonce, and nothing new of the subscription.
    fn send(&mut self, of: ResourceType, nonce: &str, error: Option<&str>) {
        let have = &self.have[&of];
        if !have.is_open {
            return;
        }
        let names = match self.protocol {
            Protocol::Delta => Names::default(),
            Protocol::StateOfTheWorld => Names::All(have.all()),
        };
        self.session.request(of, Request { nonce: nonce.to_owned(), error: error.map(str::to_owned), names });
    }

    /// Takes the first response, and answers it. One that is rejected counts as held all the same: it does not come again.
    fn take(&mut self, error: Option<&str>) {
        let Some(response) = self.inbox.pop_front() else { return };
        let have = self.have.get_mut(&response.of).expect("every type");
        if self.protocol == Protocol::StateOfTheWorld && response.of.is_wildcard() {
            have.held.clear();
        }
        for resource in response.resources {
            if have.wildcard || have.names.contains(&resource.name) {
                have.held.insert(resource.name.clone(), resource);
            }
        }
        response.removed.iter().for_each(|name| drop(have.held.remove(name)));
        self.send(response.of, &response.nonce, error);
    }

    /// Another stream, on which the client asks for what it has asked for, and where it can says what it has.
    fn connect_again(&mut self) {
        self.inbox.clear();
        self.session = Session::new(self.protocol, CONFIGS[self.config].clone());
        for (of, have) in &mut self.have {
            if !have.wildcard && have.names.is_empty() {
                // To ask for nothing could be to ask for everything.
                *have = Have::default();
                continue;
            }
            let names = match self.protocol {
                Protocol::Delta => {
                    let held = have.held.iter().map(|(name, held)| (name.clone(), held.version.to_string())).collect();
                    Names::Change { subscribe: have.all(), unsubscribe: Vec::new(), held }
                }
                Protocol::StateOfTheWorld => {
                    have.held.clear();
                    Names::All(have.all())
                }
            };
            self.session.request(*of, Request { names, ..Request::default() });
        }
    }

    fn finish(mut self) {
        for sent in 0.. {
            assert!(sent < RESPONSES_MAX, "no end of responses");
            self.inbox.extend(self.session.next());
            if self.inbox.is_empty() {
                break;
            }
            self.take(None);
        }
        let is_rejected = |of| self.session.subscriptions[&of].progress.rejected.is_some();
        let keeps = is_rejected(ResourceType::Listener) || is_rejected(ResourceType::Route);
        for (of, have) in self.have.iter().filter(|(_, have)| have.is_open) {
            let resources = CONFIGS[self.config].of(*of);
            let wanted = resources.iter().filter(|one| have.wildcard || have.names.contains(&one.name));
            let wanted: BTreeMap<_, _> = wanted.map(|one| (one.name.as_str(), one.version)).collect();
            for (name, version) in &wanted {
                let held = have.held.get(*name);
                assert!(held.is_some(), "{of:?} {name} was not sent");
                let is_same = held.is_some_and(|held| held.version.is_same_content(*version));
                assert!(is_same, "{of:?} {name} is an older one");
            }
            let is_named_only = self.protocol == Protocol::StateOfTheWorld && !of.is_wildcard();
            let is_pointed_at = matches!(of, ResourceType::Cluster | ResourceType::Endpoints);
            if !(is_named_only || keeps && is_pointed_at) {
                assert_eq!(have.held.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{of:?}");
            }
        }
    }
}

impl Have {
    /// The subscription as the names that stand for it.
    fn all(&self) -> Vec<String> {
        let wildcard = (self.wildcard && !self.legacy).then(|| WILDCARD.to_owned());
        self.names.iter().cloned().chain(wildcard).collect()
    }
}

/// Some of the names of a type, by a bit each.
fn chosen(of: ResourceType, which: u8) -> Vec<String> {
    let names = match of {
        ResourceType::Cluster | ResourceType::Endpoints => [
            "outbound|80||a.default.svc.cluster.local",
            "outbound|80||b.default.svc.cluster.local",
            "nothing",
            WILDCARD,
        ],
        ResourceType::Listener => ["127.0.0.1_15001", "virtualInbound", "nothing", WILDCARD],
        ResourceType::Route => ["http_proxy", "a", "nothing", WILDCARD],
    };
    let chosen = names.into_iter().enumerate().filter(|(bit, _)| which >> bit & 1 == 1);
    chosen.map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn the_configurations_differ_and_have_what_is_asked_for() {
        let has = |of, bit: u8| CONFIGS.iter().any(|config| config.of(of).get(&chosen(of, 1 << bit)[0]).is_some());
        assert!(has(ResourceType::Cluster, 0) && has(ResourceType::Endpoints, 1), "services");
        assert!(has(ResourceType::Listener, 0) && has(ResourceType::Route, 0), "what makes use of them");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_client_gets_what_it_asks_for(bytes in vec(any::<u8>(), 0..200)) {
            discovery(&bytes);
        }
    }
}
