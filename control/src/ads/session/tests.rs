//! The rules of xDS, one by one, without a socket.

use super::*;
use crate::{
    compile::Compiled,
    mesh::Snapshot,
    testing::{mesh, sidecar, trust_domain, with},
};

const MESH: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selector: {app: a}, ports: [{name: http, port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {selector: {app: b}, ports: [{name: http, port: 80}]}\n";
const A: &str = "outbound|80||a.default.svc.cluster.local";
const B: &str = "outbound|80||b.default.svc.cluster.local";
const LISTENER: &str = "127.0.0.1_15001";

/// A mesh that changes, and a session that is told.
struct Bench {
    snapshot: Snapshot,
    compiled: Compiled,
    session: Session,
}

impl Bench {
    fn new(protocol: Protocol) -> Self {
        let snapshot = mesh(MESH);
        let compiled = Compiled::new(snapshot.clone(), &trust_domain(), None);
        let session = Session::new(protocol, Arc::new(compiled.for_proxy(&sidecar("x"), None)));
        Self { snapshot, compiled, session }
    }

    fn apply(&mut self, text: &str) {
        self.become_(with(&self.snapshot, text));
    }

    fn delete(&mut self, name: &str) {
        let mut after = self.snapshot.clone();
        let ids: Vec<_> = after.iter().map(|stored| stored.id().clone()).filter(|id| id.name == name).collect();
        for id in &ids {
            after.remove(id);
        }
        after.revision = after.revision.next();
        self.become_(after);
    }

    fn become_(&mut self, snapshot: Snapshot) {
        self.compiled = Compiled::new(snapshot.clone(), &trust_domain(), Some(&self.compiled));
        self.snapshot = snapshot;
        let config = self.compiled.for_proxy(&sidecar("x"), Some(self.session.config()));
        self.session.offer(Arc::new(config));
    }

    fn subscribe(&mut self, of: ResourceType, names: &[&str]) {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let names = match self.session.protocol {
            Protocol::StateOfTheWorld => Names::All(names),
            Protocol::Delta => Names::Change { subscribe: names, unsubscribe: Vec::new(), held: Vec::new() },
        };
        self.session.request(of, Request { names, ..Request::default() });
    }

    fn answer(&mut self, response: &Response, error: Option<&str>) {
        let names = match self.session.protocol {
            Protocol::Delta => Names::default(),
            Protocol::StateOfTheWorld => {
                Names::All(self.session.subscriptions[&response.of].names.iter().cloned().collect())
            }
        };
        let request = Request { nonce: response.nonce.clone(), error: error.map(str::to_owned), names };
        self.session.request(response.of, request);
    }

    /// All that is sent now, each answered at once.
    fn settle(&mut self) -> Vec<(ResourceType, Vec<String>, Vec<String>)> {
        let mut sent = Vec::new();
        while let Some(response) = self.session.next() {
            self.answer(&response, None);
            let names = response.resources.iter().map(|resource| resource.name.clone()).collect();
            sent.push((response.of, names, response.removed));
        }
        sent
    }

    /// Subscribes as Envoy does, and answers everything.
    fn start(&mut self) {
        self.subscribe(ResourceType::Cluster, &[]);
        self.settle();
        self.subscribe(ResourceType::Endpoints, &[A, B]);
        self.subscribe(ResourceType::Listener, &[]);
        self.settle();
        self.subscribe(ResourceType::Route, &["http_proxy"]);
        self.settle();
        assert!(self.settle().is_empty());
    }

    fn progress(&self, of: ResourceType) -> Progress {
        self.session.subscriptions[&of].progress.clone()
    }
}

const BOTH: [Protocol; 2] = [Protocol::Delta, Protocol::StateOfTheWorld];
const WORKLOAD: &str = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a-1}\nspec: {address: 127.0.0.1, labels: {app: a, security.istio.io/tlsMode: istio}, serviceAccount: a}\n";
const ROUTE: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{route: [{destination: {host: b}}]}]}\n";

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn everything_is_sent_once_and_in_order() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        assert!(bench.session.next().is_none(), "nothing before it is asked for");
        for of in [ResourceType::Route, ResourceType::Listener, ResourceType::Cluster] {
            bench.subscribe(of, if of == ResourceType::Route { &["http_proxy"] } else { &[] });
        }
        let sent = bench.settle();
        assert_eq!(
            sent,
            [
                (ResourceType::Cluster, names(&[A, B]), vec![]),
                (ResourceType::Listener, names(&[LISTENER]), vec![]),
                (ResourceType::Route, names(&["http_proxy"]), vec![]),
            ]
        );
        assert!(bench.settle().is_empty());
        let at = Some(bench.snapshot.revision);
        assert_eq!(bench.progress(ResourceType::Route), Progress { sent: at, acknowledged: at, rejected: None });
    }
}

#[test]
fn a_changed_cluster_is_followed_by_its_endpoints_unasked() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.start();
        // Only the cluster's limits change; its endpoints stay as they are.
        bench.apply("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}\n");
        let sent = bench.settle();
        let clusters = if protocol == Protocol::Delta { names(&[A]) } else { names(&[A, B]) };
        assert_eq!(
            sent,
            [(ResourceType::Cluster, clusters, vec![]), (ResourceType::Endpoints, names(&[A]), vec![])],
            "{protocol:?}"
        );
    }
}

#[test]
fn endpoints_follow_even_when_the_cluster_was_not_answered() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.start();
    bench.apply(WORKLOAD);
    let cluster = bench.session.next().expect("the identity is new");
    assert_eq!(cluster.of, ResourceType::Cluster);
    let endpoints = bench.session.next().expect("Envoy answers the cluster only after these");
    assert_eq!((endpoints.of, endpoints.resources[0].name.as_str()), (ResourceType::Endpoints, A));
    bench.answer(&endpoints, None);
    bench.answer(&cluster, None);
    assert!(bench.session.next().is_none());
}

#[test]
fn a_route_alone_changes_nothing_else() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.start();
        bench.apply(ROUTE);
        assert_eq!(bench.settle(), [(ResourceType::Route, names(&["http_proxy"]), vec![])]);
        let at = Some(bench.snapshot.revision);
        for of in ResourceType::ALL {
            assert_eq!(bench.progress(of).acknowledged, at, "{of:?}: in step, though nothing was sent");
        }
    }
}

#[test]
fn what_goes_away_goes_last() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.start();
    bench.delete("b");
    let route = bench.session.next().expect("the route table lost a host");
    assert_eq!(route.of, ResourceType::Route);
    assert!(bench.session.next().is_none(), "the cluster stays until the routes are in force");
    bench.answer(&route, None);
    let sent = bench.settle();
    assert!(sent.contains(&(ResourceType::Cluster, vec![], names(&[B]))), "{sent:?}");
    assert!(sent.contains(&(ResourceType::Endpoints, vec![], names(&[B]))), "{sent:?}");
}

#[test]
fn in_the_state_of_the_world_what_goes_away_stays_in_until_then() {
    let mut bench = Bench::new(Protocol::StateOfTheWorld);
    bench.start();
    bench.delete("b");
    bench.apply("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}\n");
    let sent: Vec<_> = bench.settle().into_iter().filter(|(of, ..)| *of == ResourceType::Cluster).collect();
    assert_eq!(sent, [(ResourceType::Cluster, names(&[A, B]), vec![]), (ResourceType::Cluster, names(&[A]), vec![])]);
}

#[test]
fn what_was_rejected_is_not_sent_again_and_keeps_what_the_old_needs() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.start();
        let good = bench.snapshot.revision;
        bench.apply(ROUTE);
        let response = bench.session.next().expect("a route");
        bench.answer(&response, Some("no"));
        assert!(bench.session.next().is_none());
        let progress = bench.progress(ResourceType::Route);
        assert_eq!(
            (progress.acknowledged, progress.rejected),
            (Some(good), Some((response.revision, "no".to_owned())))
        );
        bench.delete("b");
        let next = bench.session.next().expect("the next content");
        assert_eq!(next.of, ResourceType::Route);
        bench.answer(&next, Some("still no"));
        assert!(bench.session.next().is_none(), "the routes in force may still point at b");
        bench.apply("apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {ports: [{name: http, port: 80}]}\n");
        let sent = bench.settle();
        assert!(sent.iter().any(|(of, ..)| *of == ResourceType::Route), "{sent:?}");
        assert_eq!(bench.progress(ResourceType::Route).rejected, None);
    }
}

#[test]
fn a_name_that_does_not_exist_is_answered_in_delta_only() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.subscribe(ResourceType::Endpoints, &["nothing"]);
        let sent = bench.settle();
        if protocol == Protocol::Delta {
            assert_eq!(sent, [(ResourceType::Endpoints, vec![], names(&["nothing"]))]);
            bench.subscribe(ResourceType::Endpoints, &["nothing"]);
            assert_eq!(bench.settle().len(), 1, "asked again, answered again");
        } else {
            assert_eq!(sent, []);
        }
    }
}

#[test]
fn a_missing_name_is_sent_once_it_exists() {
    let mut bench = Bench::new(Protocol::Delta);
    let c = "outbound|80||c.default.svc.cluster.local";
    bench.subscribe(ResourceType::Endpoints, &[c]);
    bench.settle();
    bench.apply("apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {ports: [{name: http, port: 80}]}\n");
    assert_eq!(bench.settle(), [(ResourceType::Endpoints, names(&[c]), vec![])]);
    bench.delete("c");
    assert_eq!(bench.settle(), [(ResourceType::Endpoints, vec![], names(&[c]))]);
}

#[test]
fn subscribing_again_sends_again() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.start();
        if protocol == Protocol::StateOfTheWorld {
            bench.subscribe(ResourceType::Endpoints, &[B]);
            assert!(bench.settle().is_empty(), "dropping a name asks for nothing");
        }
        bench.subscribe(ResourceType::Endpoints, &[A, B][..if protocol == Protocol::Delta { 1 } else { 2 }]);
        assert_eq!(bench.settle(), [(ResourceType::Endpoints, names(&[A]), vec![])]);
    }
}

#[test]
fn an_old_nonce_answers_nothing_but_its_names_count() {
    for protocol in BOTH {
        let mut bench = Bench::new(protocol);
        bench.subscribe(ResourceType::Endpoints, &[A]);
        let first = bench.session.next().expect("A");
        bench.answer(&first, None);
        let acknowledged = bench.progress(ResourceType::Endpoints).acknowledged;
        bench.apply(WORKLOAD);
        bench.session.next().expect("A again");
        let names = match protocol {
            Protocol::Delta => Names::Change { subscribe: names(&[B]), unsubscribe: vec![], held: vec![] },
            Protocol::StateOfTheWorld => Names::All(names(&[A, B])),
        };
        bench
            .session
            .request(ResourceType::Endpoints, Request { nonce: first.nonce, error: Some("late".to_owned()), names });
        let progress = bench.progress(ResourceType::Endpoints);
        assert_eq!((progress.acknowledged, progress.rejected), (acknowledged, None));
        let next = bench.session.next().expect("B was asked for");
        assert_eq!(next.resources.iter().map(|one| &*one.name).collect::<Vec<_>>(), [B]);
    }
}

#[test]
fn who_comes_back_is_sent_what_changed() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.start();
    let held: Vec<_> = bench
        .session
        .config()
        .of(ResourceType::Cluster)
        .iter()
        .map(|resource| (resource.name.clone(), resource.version.to_string()))
        .chain([("gone".to_owned(), "7-0000000000000000".to_owned())])
        .collect();
    bench.apply(WORKLOAD);
    // Another member, which has compiled everything at another revision.
    let other = Compiled::new(bench.snapshot.clone(), &trust_domain(), None);
    bench.session = Session::new(Protocol::Delta, Arc::new(other.for_proxy(&sidecar("x"), None)));
    let names_ = Names::Change { subscribe: names(&["*"]), unsubscribe: vec![], held };
    bench.session.request(ResourceType::Cluster, Request { names: names_, ..Request::default() });
    let sent = bench.settle();
    assert_eq!(sent, [(ResourceType::Cluster, names(&[A]), vec![]), (ResourceType::Cluster, vec![], names(&["gone"]))]);
}

#[test]
fn what_is_gone_before_its_change_was_sent_is_removed() {
    let mut bench = Bench::new(Protocol::Delta);
    let held = vec![(A.to_owned(), "7-0000000000000000".to_owned())];
    let names_ = Names::Change { subscribe: names(&["*"]), unsubscribe: vec![], held };
    bench.session.request(ResourceType::Cluster, Request { names: names_, ..Request::default() });
    bench.delete("a");
    let sent = bench.settle();
    assert_eq!(sent, [(ResourceType::Cluster, names(&[B]), vec![]), (ResourceType::Cluster, vec![], names(&[A]))]);
}

/// The client wants it again before it sees what was sent when it first did.
#[test]
fn what_is_on_its_way_and_gone_is_removed() {
    let change = |subscribe: &[&str], unsubscribe: &[&str]| Names::Change {
        subscribe: names(subscribe),
        unsubscribe: names(unsubscribe),
        held: vec![],
    };
    let cases = [
        (Protocol::StateOfTheWorld, [Names::All(vec![]), Names::All(names(&[B]))], (vec![], vec![])),
        (Protocol::Delta, [change(&[], &[B]), change(&["*"], &[])], (vec![], names(&[B]))),
    ];
    for (protocol, requests, (resources, removed)) in cases {
        let mut bench = Bench::new(protocol);
        bench.subscribe(ResourceType::Cluster, &[B]);
        let first = bench.session.next().expect("B was asked for");
        bench.delete("b");
        for names in requests {
            bench.session.request(ResourceType::Cluster, Request { names, ..Request::default() });
        }
        bench.answer(&first, None);
        assert_eq!(bench.settle().pop(), Some((ResourceType::Cluster, resources, removed)), "{protocol:?}");
        assert!(bench.settle().is_empty());
    }
}

#[test]
fn a_wildcard_without_resources_is_answered() {
    for protocol in BOTH {
        let compiled = Compiled::new(Snapshot::empty(Revision::FIRST), &trust_domain(), None);
        let mut session = Session::new(protocol, Arc::new(compiled.for_proxy(&sidecar("x"), None)));
        let names = match protocol {
            Protocol::Delta => Names::Change { subscribe: names(&["*"]), unsubscribe: vec![], held: vec![] },
            Protocol::StateOfTheWorld => Names::All(vec![]),
        };
        session.request(ResourceType::Cluster, Request { names, ..Request::default() });
        let response = session.next().expect("an empty answer");
        assert!(response.resources.is_empty() && response.removed.is_empty());
        assert!(session.next().is_none());
    }
}

#[test]
fn after_names_an_empty_list_means_nothing() {
    let mut bench = Bench::new(Protocol::StateOfTheWorld);
    bench.subscribe(ResourceType::Cluster, &[A]);
    assert_eq!(bench.settle(), [(ResourceType::Cluster, names(&[A]), vec![])]);
    bench.subscribe(ResourceType::Cluster, &[]);
    bench.apply(WORKLOAD);
    assert!(bench.settle().is_empty());
}

#[test]
fn a_slow_client_gets_the_newest_and_no_more_than_it_answers() {
    let mut bench = Bench::new(Protocol::Delta);
    bench.start();
    let mut sent = 0;
    for weight in 1..200 {
        bench.apply(&ROUTE.replace("host: b}", &format!("host: b}}, weight: {weight}")));
        sent += usize::from(bench.session.next().is_some());
    }
    assert!(sent <= UNANSWERED_MAX, "{sent}");
    let last = bench.session.subscriptions[&ResourceType::Route].unanswered.back().cloned();
    if let Some((nonce, _)) = last {
        bench.session.request(ResourceType::Route, Request { nonce, ..Request::default() });
    }
    bench.settle();
    assert_eq!(bench.progress(ResourceType::Route).acknowledged, Some(bench.snapshot.revision));
}
