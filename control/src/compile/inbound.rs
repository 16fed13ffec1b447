//! The way into a sidecar's workload: mTLS as peer authentication says, then the workload's own port.

use proto::envoy::config::{cluster::v3::Cluster, listener::v3::Listener};
use types::TrustDomain;

use super::{
    cluster,
    listener::{self, Accepts, Routes, Side},
    names::inbound_cluster,
    proxy::{Inbound, Proxy},
    retry::inbound_retry_policy,
    route::default_route,
    tls,
};
use crate::{
    mesh::{Catalog, Host, Protocol, ROOT_NAMESPACE, Snapshot, Source, Target, selects},
    model::peer_authentication::{MutualTlsMode, PeerAuthentication},
};

/// The listeners in front of a workload's ports.
pub(super) fn listeners(
    snapshot: &Snapshot,
    catalog: &Catalog,
    proxy: &Proxy,
    trust_domain: &TrustDomain,
) -> Vec<Listener> {
    let one = |inbound: &Inbound| {
        let protocol = protocol(catalog, proxy, inbound);
        let name = inbound_cluster(inbound.app_port);
        let stats = listener::stat_prefix("inbound", inbound.bind, inbound.port, protocol);
        let filter = if protocol.is_http() {
            listener::http(&stats, Routes::Inline(Box::new(routes(&name, inbound.app_port))), Side::Inbound)
        } else {
            listener::tcp(&stats, vec![(name, 1)])
        };
        let accepts = accepts(mode(snapshot, proxy, inbound));
        listener::inbound(inbound.bind, inbound.port, accepts, tls::downstream(trust_domain, protocol), &filter)
    };
    proxy.inbound.iter().map(one).collect()
}

/// The clusters of a workload's own ports.
pub(super) fn clusters(catalog: &Catalog, proxy: &Proxy) -> Vec<Cluster> {
    let one = |inbound: &Inbound| {
        let hosts: Vec<&Host> = serving(catalog, proxy, inbound).map(|(host, _)| host).collect();
        let name = inbound_cluster(inbound.app_port);
        cluster::inbound(name, inbound.app_port, protocol(catalog, proxy, inbound), &hosts)
    };
    proxy.inbound.iter().map(one).collect()
}

fn routes(cluster: &str, port: u16) -> proto::envoy::config::route::v3::RouteConfiguration {
    let mut route = default_route(cluster.to_owned());
    if let Some(proto::envoy::config::route::v3::route::Action::Route(action)) = &mut route.action {
        action.retry_policy = Some(inbound_retry_policy());
    }
    listener::single_route(cluster.to_owned(), format!("inbound|http|{port}"), route)
}

/// What the proxy says of its port, else what a service says that it serves; bytes if nobody says.
fn protocol(catalog: &Catalog, proxy: &Proxy, inbound: &Inbound) -> Protocol {
    let own = Protocol::parse(&inbound.protocol).or_else(|| Protocol::parse(&inbound.name));
    let declared = || serving(catalog, proxy, inbound).map(|(_, port)| port.protocol);
    own.or_else(|| declared().find(|protocol| *protocol != Protocol::Unknown)).unwrap_or(Protocol::Tcp)
}

/// The services that this port of the workload serves, with their ports.
fn serving<'a>(
    catalog: &'a Catalog,
    proxy: &'a Proxy,
    inbound: &'a Inbound,
) -> impl Iterator<Item = (&'a Host, &'a crate::mesh::Port)> {
    let ours = |host: &&std::sync::Arc<Host>| match &host.source {
        Source::Selector(selector) => {
            host.namespace() == proxy.namespace && !selector.is_empty() && selects(selector, &proxy.labels)
        }
        Source::Inline => false,
    };
    let serves = |port: &&crate::mesh::Port| match &port.target {
        Target::Name(name) => *name == inbound.name,
        Target::Number(number) => {
            port.name == inbound.name && !port.name.is_empty() || *number == inbound.port || *number == inbound.app_port
        }
    };
    catalog.all().filter(ours).filter_map(move |host| Some((&**host, host.ports.iter().find(serves)?)))
}

fn accepts(mode: MutualTlsMode) -> Accepts {
    match mode {
        MutualTlsMode::Strict => Accepts::Tls,
        MutualTlsMode::Disable => Accepts::Plain,
        MutualTlsMode::Permissive | MutualTlsMode::Unset => Accepts::Both,
    }
}

/// The mode for one port: of the workload's policy for the port, the workload, its namespace, the mesh. Per scope the
/// oldest policy counts. Unset everywhere means permissive.
fn mode(snapshot: &Snapshot, proxy: &Proxy, inbound: &Inbound) -> MutualTlsMode {
    let policies = snapshot.oldest_first::<PeerAuthentication>();
    let of = |namespace: &str, wants: &dyn Fn(&PeerAuthentication) -> bool| {
        let mut found = policies.iter().filter(|(stored, policy)| stored.id().namespace == namespace && wants(policy));
        found.next().map(|(_, policy)| *policy)
    };
    let is_wide = |policy: &PeerAuthentication| labels(policy).is_none();
    let is_ours = |policy: &PeerAuthentication| labels(policy).is_some_and(|labels| selects(labels, &proxy.labels));
    let workload = of(&proxy.namespace, &is_ours);
    let namespace = of(&proxy.namespace, &is_wide);
    let root = of(ROOT_NAMESPACE, &is_wide);
    // A port-level setting names the port that the workload listens on.
    let ports = workload.map(|policy| &policy.port_level_mtls);
    let of_port =
        ports.and_then(|ports| ports.get(&u32::from(inbound.app_port)).or_else(|| ports.get(&u32::from(inbound.port))));
    let wider = [workload, namespace, root].into_iter().flatten().filter_map(|policy| policy.mtls.as_ref());
    let mut modes = of_port.into_iter().chain(wider).map(|mtls| mtls.mode);
    modes.find(|mode| *mode != MutualTlsMode::Unset).unwrap_or(MutualTlsMode::Permissive)
}

fn labels(policy: &PeerAuthentication) -> Option<&std::collections::BTreeMap<String, String>> {
    let labels = &policy.selector.as_ref()?.match_labels;
    (!labels.is_empty()).then_some(labels)
}
