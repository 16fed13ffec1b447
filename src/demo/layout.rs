//! What runs in the demo: the workloads of Bookinfo, and where each part of it listens.

use std::net::SocketAddr;

use super::{
    apps::{App, Version},
    ports::Ports,
};

/// Namespace of everything in the demo.
pub(crate) const NAMESPACE: &str = "default";
/// Trust domain of the demo's cluster.
pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
/// The gateway's workload name and service account.
pub(crate) const GATEWAY: &str = "bookinfo-gateway";
/// The label that the Gateway resource selects.
pub(crate) const GATEWAY_LABELS: &str = "istio=ingressgateway";

/// One workload: an app and its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) app: App,
    pub(crate) version: Version,
}

/// The six of them, callees first.
pub(crate) const WORKLOADS: [Workload; 6] = [
    Workload { app: App::Ratings, version: Version::V1 },
    Workload { app: App::Details, version: Version::V1 },
    Workload { app: App::Reviews, version: Version::V1 },
    Workload { app: App::Reviews, version: Version::V2 },
    Workload { app: App::Reviews, version: Version::V3 },
    Workload { app: App::Productpage, version: Version::V1 },
];

impl Workload {
    /// For example `reviews-v2`.
    pub(crate) fn name(self) -> String {
        format!("{}-{}", self.app.name(), self.version.name())
    }

    /// As in Istio's sample: one account for all releases of an app.
    pub(crate) fn service_account(self) -> String {
        format!("bookinfo-{}", self.app.name())
    }
}

/// The SPIFFE ID of a service account of the demo.
pub(crate) fn spiffe_id(service_account: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{service_account}")
}

/// A workload with its sidecar: where each listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod {
    pub(crate) workload: Workload,
    /// The app, in plain text.
    pub(crate) app: SocketAddr,
    /// The sidecar, for other sidecars.
    pub(crate) inbound: SocketAddr,
    /// The sidecar, for the app's own calls.
    pub(crate) outbound: SocketAddr,
    /// The sidecar's readiness and metrics.
    pub(crate) admin: SocketAddr,
}

/// Every address of the demo.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The gateway, for people.
    pub(crate) page: SocketAddr,
    /// The gateway's readiness and metrics.
    pub(crate) gateway_admin: SocketAddr,
    /// The server's etcd API.
    pub(crate) etcd: SocketAddr,
    /// The server's mesh port.
    pub(crate) mesh: SocketAddr,
    /// One per workload, in the order of [`WORKLOADS`].
    pub(crate) pods: Vec<Pod>,
}

impl Layout {
    /// Picks free ports for everything but the page.
    pub(crate) fn pick(page: SocketAddr, ports: &mut Ports) -> anyhow::Result<Self> {
        let mut pods = Vec::with_capacity(WORKLOADS.len());
        for workload in WORKLOADS {
            let (app, inbound) = (ports.next()?, ports.next()?);
            pods.push(Pod { workload, app, inbound, outbound: ports.next()?, admin: ports.next()? });
        }
        let (etcd, mesh) = (ports.next()?, ports.next()?);
        Ok(Self { page, gateway_admin: ports.next()?, etcd, mesh, pods })
    }

    /// The pod of a workload.
    pub(crate) fn pod(&self, app: App, version: Version) -> &Pod {
        let wanted = Workload { app, version };
        let found = self.pods.iter().find(|pod| pod.workload == wanted);
        found.expect("the demo runs every workload it asks for")
    }
}
