//! Endpoints: where the workloads of a host are.
//!
//! - Every group of endpoints has a locality message and a weight: gRPC drops a group without them.
//! - Order is by locality, then address, so that equal sets of workloads give equal bytes.

use std::collections::BTreeMap;

use proto::envoy::config::{
    core::v3::{Address, Locality},
    endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
};
use types::TrustDomain;

use super::wire::{fields, metadata, number, socket, text};
use crate::{
    mesh::{Host, Port, selects},
    model::{Id, service_entry::WorkloadEntry},
};

/// The label that says that a workload's proxy speaks mTLS.
pub(crate) const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
const TLS_MODE: &str = "istio";
/// The metadata by which a cluster picks a transport for an endpoint.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";

/// The endpoints of `host` that have `labels`, on `port`.
pub(super) fn assignment(
    cluster: &str,
    host: &Host,
    port: &Port,
    labels: &BTreeMap<String, String>,
) -> ClusterLoadAssignment {
    let mut localities = BTreeMap::<&str, Vec<(String, LbEndpoint)>>::new();
    for (id, workload) in host.endpoints() {
        if let Some(number) = port.at(workload).filter(|_| selects(labels, &workload.labels)) {
            let key = format!("{}:{number}", workload.address);
            let endpoint = endpoint(id, workload, socket(&*workload.address, number));
            localities.entry(&*workload.locality).or_default().push((key, endpoint));
        }
    }
    let endpoints = localities.into_iter().map(|(locality, group)| locality_group(locality, group)).collect();
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, ..Default::default() }
}

fn locality_group(locality: &str, mut group: Vec<(String, LbEndpoint)>) -> LocalityLbEndpoints {
    group.sort_by(|(left, _), (right, _)| left.cmp(right));
    group.dedup_by(|(later, _), (earlier, _)| later == earlier);
    let lb_endpoints: Vec<_> = group.into_iter().map(|(_, endpoint)| endpoint).collect();
    let weights = lb_endpoints.iter().filter_map(|endpoint| endpoint.load_balancing_weight);
    let weight = weights.fold(0_u32, |sum, weight| sum.saturating_add(weight.value));
    let mut parts = locality.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    LocalityLbEndpoints {
        locality: Some(Locality { region: next(), zone: next(), sub_zone: next() }),
        lb_endpoints,
        load_balancing_weight: number(weight),
        ..Default::default()
    }
}

fn endpoint(id: Option<&Id>, workload: &WorkloadEntry, address: Address) -> LbEndpoint {
    let mut entries = Vec::new();
    if speaks_mtls(workload) {
        entries.push((SOCKET_MATCH, fields([("tlsMode", text(TLS_MODE))])));
    }
    if let Some(id) = id {
        entries.push(("istio", fields([("workload", text(&workload_name(id, workload)))])));
    }
    LbEndpoint {
        metadata: (!entries.is_empty()).then(|| metadata(entries)),
        load_balancing_weight: number(workload.weight.max(1)),
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Default::default()
        })),
        ..Default::default()
    }
}

pub(super) fn speaks_mtls(workload: &WorkloadEntry) -> bool {
    workload.labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == TLS_MODE)
}

/// `NAME;NAMESPACE;APP;VERSION;CLUSTER`, which telemetry takes its labels from. All workloads are of this one cluster,
/// which needs no name.
fn workload_name(id: &Id, workload: &WorkloadEntry) -> String {
    let label = |names: [&str; 2]| names.iter().find_map(|name| workload.labels.get(*name)).map_or("", String::as_str);
    let app = label(["service.istio.io/canonical-name", "app"]);
    let version = label(["service.istio.io/canonical-revision", "version"]);
    format!("{};{};{app};{version};", id.name, id.namespace)
}

/// The identities that workloads of `host` may have, as URIs, ordered.
pub(super) fn identities(host: &Host, trust_domain: &TrustDomain) -> Vec<String> {
    if !host.subject_alt_names.is_empty() {
        let mut names = host.subject_alt_names.clone();
        names.sort();
        return names;
    }
    let speaking = host.endpoints().into_iter().filter(|(_, workload)| speaks_mtls(workload));
    let namespace = host.namespace();
    let mut uris: Vec<_> = speaking
        .filter(|(_, workload)| !workload.service_account.is_empty())
        .map(|(_, workload)| format!("spiffe://{trust_domain}/ns/{namespace}/sa/{}", workload.service_account))
        .collect();
    uris.sort();
    uris.dedup();
    uris
}
