//! Every host of the mesh, its ports, and who serves it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    host::{full_name, selects, visible},
    snapshot::{Snapshot, Stored},
};
use crate::model::{
    Id,
    service::{Service, TargetPort},
    service_entry::{Location, Resolution as EntryResolution, ServiceEntry, WorkloadEntry},
};

/// The annotation that limits who sees a `Service`; other kinds have a field for it.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Http,
    Http2,
    Grpc,
    /// Bytes: TCP, TLS, databases.
    Tcp,
    /// Nobody said. Requests are routed as HTTP where they arrive as such, else as bytes.
    Unknown,
}

impl Protocol {
    /// Reads `appProtocol`, or a port's name, whose part before the first `-` counts.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let prefix = if text.starts_with("grpc-web") { "grpc-web" } else { text.split('-').next()? };
        Some(match text.strip_prefix("kubernetes.io/").unwrap_or(prefix) {
            "http" | "ws" => Self::Http,
            "http2" | "h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "tcp" | "tls" | "https" | "mongo" | "redis" | "mysql" | "wss" => Self::Tcp,
            _ => return None,
        })
    }

    pub(crate) fn is_http(self) -> bool {
        self != Self::Tcp
    }

    /// Whether it runs on HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

/// Where a workload listens for a port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Number(u16),
    /// The name of one of the workload's ports; a workload without it does not serve the port.
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) target: Target,
}

impl Port {
    /// The port at which `workload` serves it.
    pub(crate) fn at(&self, workload: &WorkloadEntry) -> Option<u16> {
        let named = |name: &str| workload.ports.get(name).and_then(|port| u16::try_from(*port).ok());
        match &self.target {
            Target::Name(name) => named(name),
            Target::Number(number) => named(&self.name).or(Some(*number)),
        }
    }
}

/// How the addresses of a host are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Known, and sent by EDS.
    Static,
    /// Asked from DNS, all answers used.
    Dns,
    /// Asked from DNS, the first answer used.
    DnsRoundRobin,
}

/// Who serves a host.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Workloads of its namespace with these labels.
    Selector(BTreeMap<String, String>),
    /// The endpoints that the resource itself lists.
    Inline,
}

/// A host that requests can be sent to.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// In full, perhaps a wildcard.
    pub(crate) name: String,
    /// The Service or `ServiceEntry` that declares it.
    pub(crate) stored: Arc<Stored>,
    pub(crate) ports: Vec<Port>,
    pub(crate) source: Source,
    pub(crate) resolution: Resolution,
    /// Outside the mesh: no identity is expected of it.
    pub(crate) external: bool,
    /// Identities that were declared instead of derived.
    pub(crate) subject_alt_names: Vec<String>,
    export_to: Vec<String>,
    /// The workloads that the selector picked, ordered by name; empty for inline endpoints.
    pub(crate) workloads: Vec<Arc<Stored>>,
}

impl Host {
    pub(crate) fn namespace(&self) -> &str {
        &self.stored.id().namespace
    }

    /// Whether it is a Service, which also answers to shorter names.
    pub(crate) fn is_service(&self) -> bool {
        Service::of_stored(&self.stored).is_some()
    }

    pub(crate) fn is_visible(&self, viewer: &str) -> bool {
        visible(&self.export_to, self.namespace(), viewer)
    }

    /// The endpoints that serve it, with a name where they have one.
    pub(crate) fn endpoints(&self) -> Vec<(Option<&Id>, &WorkloadEntry)> {
        let listed = ServiceEntry::of_stored(&self.stored).map(|entry| &entry.endpoints[..]).unwrap_or_default();
        let listed = listed.iter().map(|endpoint| (None, endpoint));
        let workloads = self.workloads.iter();
        let picked =
            workloads.filter_map(|stored| WorkloadEntry::of_stored(stored).map(|entry| (Some(stored.id()), entry)));
        listed.chain(picked).collect()
    }
}

/// A resource's spec, by its type.
pub(super) trait OfStored: Sized {
    fn of_stored(stored: &Stored) -> Option<&Self>;
}

impl<T: crate::model::Typed> OfStored for T {
    fn of_stored(stored: &Stored) -> Option<&T> {
        T::of(&stored.resource.spec)
    }
}

/// Every host of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// By name; several namespaces may declare one host. Services first, then the oldest.
    hosts: BTreeMap<String, Vec<Arc<Host>>>,
}

impl Catalog {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let workloads = Workloads::new(snapshot);
        let mut catalog = Self::default();
        for (stored, service) in snapshot.oldest_first::<Service>() {
            catalog.add(service_host(stored, service, &workloads));
        }
        for (stored, entry) in snapshot.oldest_first::<ServiceEntry>() {
            let names: BTreeSet<_> = entry.hosts.iter().collect();
            for name in names {
                catalog.add(entry_host(name, stored, entry, &workloads));
            }
        }
        catalog
    }

    fn add(&mut self, host: Host) {
        self.hosts.entry(host.name.clone()).or_default().push(Arc::new(host));
    }

    /// Every name that some namespace declares.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// What `name`, in full, means in namespace `viewer`: its own declaration, else the first that it can see.
    pub(crate) fn find(&self, name: &str, viewer: &str) -> Option<&Arc<Host>> {
        let declared = self.hosts.get(name)?;
        let own = declared.iter().find(|host| host.namespace() == viewer && host.is_visible(viewer));
        own.or_else(|| declared.iter().find(|host| host.is_visible(viewer)))
    }

    /// Every host that `viewer` sees, ordered by name.
    pub(crate) fn seen_by<'a>(&'a self, viewer: &'a str) -> impl Iterator<Item = &'a Arc<Host>> {
        self.hosts.keys().filter_map(move |name| self.find(name, viewer))
    }

    /// Every declaration of every host.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values().flatten()
    }
}

/// Workloads by namespace.
struct Workloads<'a>(BTreeMap<&'a str, Vec<(&'a Arc<Stored>, &'a WorkloadEntry)>>);

impl<'a> Workloads<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let mut namespaces = BTreeMap::<_, Vec<_>>::new();
        for (stored, entry) in snapshot.all::<WorkloadEntry>() {
            namespaces.entry(&*stored.id().namespace).or_default().push((stored, entry));
        }
        Self(namespaces)
    }

    /// An empty selector picks nobody, as for Kubernetes' Services.
    fn select(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Arc<Stored>> {
        if selector.is_empty() {
            return Vec::new();
        }
        let all = self.0.get(namespace).into_iter().flatten();
        all.filter(|(_, entry)| selects(selector, &entry.labels)).map(|(stored, _)| (*stored).clone()).collect()
    }
}

fn service_host(stored: &Arc<Stored>, service: &Service, workloads: &Workloads<'_>) -> Host {
    let id = stored.id();
    let ports = service.ports.iter().filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        let target = match &port.target_port {
            None => Target::Number(number),
            Some(TargetPort::Number(target)) => Target::Number(u16::try_from(*target).ok()?),
            Some(TargetPort::Name(name)) => Target::Name(name.clone()),
        };
        let protocol = Protocol::parse(&port.app_protocol).or_else(|| Protocol::parse(&port.name));
        Some(Port { number, name: port.name.clone(), protocol: protocol.unwrap_or(Protocol::Unknown), target })
    });
    let exported = stored.resource.annotations.get(EXPORT_TO);
    Host {
        name: full_name(&id.name, &id.namespace),
        ports: ports.collect(),
        source: Source::Selector(service.selector.clone()),
        resolution: Resolution::Static,
        external: false,
        subject_alt_names: Vec::new(),
        export_to: exported.into_iter().flat_map(|list| list.split(',')).map(|to| to.trim().to_owned()).collect(),
        workloads: workloads.select(&id.namespace, &service.selector),
        stored: stored.clone(),
    }
}

fn entry_host(name: &str, stored: &Arc<Stored>, entry: &ServiceEntry, workloads: &Workloads<'_>) -> Host {
    let ports = entry.ports.iter().filter_map(|port| {
        let number = u16::try_from(port.number).ok()?;
        let target = u16::try_from(port.target_port).ok().filter(|target| *target != 0);
        let protocol = Protocol::parse(&port.protocol).or_else(|| Protocol::parse(&port.name));
        Some(Port {
            number,
            name: port.name.clone(),
            protocol: protocol.unwrap_or(Protocol::Unknown),
            target: Target::Number(target.unwrap_or(number)),
        })
    });
    let selector = entry.workload_selector.as_ref().map(|selector| &selector.labels);
    Host {
        name: name.to_owned(),
        ports: ports.collect(),
        source: selector.map_or(Source::Inline, |labels| Source::Selector(labels.clone())),
        resolution: match entry.resolution {
            EntryResolution::Unset | EntryResolution::Static => Resolution::Static,
            EntryResolution::Dns => Resolution::Dns,
            EntryResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        },
        external: entry.location == Location::MeshExternal,
        subject_alt_names: entry.subject_alt_names.clone(),
        export_to: entry.export_to.clone(),
        workloads: selector.map(|labels| workloads.select(&stored.id().namespace, labels)).unwrap_or_default(),
        stored: stored.clone(),
    }
}
