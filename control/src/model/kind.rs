//! The kinds of resources: how they are named, grouped and versioned. The one table of them.

use super::problem::closest;

/// A kind that the mesh understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Service,
    ServiceEntry,
    WorkloadEntry,
    VirtualService,
    DestinationRule,
    Gateway,
    PeerAuthentication,
}

struct Row {
    kind: Kind,
    name: &'static str,
    /// Empty for the core group.
    group: &'static str,
    /// All of one schema; the first is the one that is stored.
    versions: &'static [&'static str],
    plural: &'static str,
    short: &'static [&'static str],
}

const NETWORKING: &str = "networking.istio.io";
const NETWORKING_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

const KINDS: [Row; 7] = [
    Row { kind: Kind::Service, name: "Service", group: "", versions: &["v1"], plural: "services", short: &["svc"] },
    Row {
        kind: Kind::ServiceEntry,
        name: "ServiceEntry",
        group: NETWORKING,
        versions: NETWORKING_VERSIONS,
        plural: "serviceentries",
        short: &["se"],
    },
    Row {
        kind: Kind::WorkloadEntry,
        name: "WorkloadEntry",
        group: NETWORKING,
        versions: NETWORKING_VERSIONS,
        plural: "workloadentries",
        short: &["we"],
    },
    Row {
        kind: Kind::VirtualService,
        name: "VirtualService",
        group: NETWORKING,
        versions: NETWORKING_VERSIONS,
        plural: "virtualservices",
        short: &["vs"],
    },
    Row {
        kind: Kind::DestinationRule,
        name: "DestinationRule",
        group: NETWORKING,
        versions: NETWORKING_VERSIONS,
        plural: "destinationrules",
        short: &["dr"],
    },
    Row {
        kind: Kind::Gateway,
        name: "Gateway",
        group: NETWORKING,
        versions: NETWORKING_VERSIONS,
        plural: "gateways",
        short: &["gw"],
    },
    Row {
        kind: Kind::PeerAuthentication,
        name: "PeerAuthentication",
        group: "security.istio.io",
        versions: &["v1", "v1beta1"],
        plural: "peerauthentications",
        short: &["pa"],
    },
];

/// Published kinds of the same ecosystem that are known, and refused as not supported yet.
const NOT_YET: &[&str] = &[
    "AuthorizationPolicy",
    "ConfigMap",
    "DaemonSet",
    "Deployment",
    "EndpointSlice",
    "Endpoints",
    "EnvoyFilter",
    "GRPCRoute",
    "GatewayClass",
    "HTTPRoute",
    "Ingress",
    "Job",
    "Namespace",
    "Pod",
    "ProxyConfig",
    "ReferenceGrant",
    "RequestAuthentication",
    "Secret",
    "ServiceAccount",
    "Sidecar",
    "StatefulSet",
    "TCPRoute",
    "TLSRoute",
    "Telemetry",
    "WasmPlugin",
    "WorkloadGroup",
];

/// Which kinds a question speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KindFilter {
    All,
    One(Kind),
}

/// Why `apiVersion` and `kind` name nothing that can be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownKind {
    /// `kind` or `apiVersion`: the field to change.
    pub(crate) field: &'static str,
    pub(crate) message: String,
    pub(crate) suggestion: String,
}

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|row| row.kind)
    }

    fn row(self) -> &'static Row {
        KINDS.iter().find(|row| row.kind == self).expect("the table has a row for every kind")
    }

    pub(crate) fn name(self) -> &'static str {
        self.row().name
    }

    /// The API group; empty for the core group.
    pub(crate) fn group(self) -> &'static str {
        self.row().group
    }

    /// The group as storage keys spell it.
    pub(crate) fn key_group(self) -> &'static str {
        if self.group().is_empty() { "core" } else { self.group() }
    }

    /// The `apiVersion` that is stored.
    pub(crate) fn api_version(self) -> String {
        let row = self.row();
        if row.group.is_empty() { row.versions[0].to_owned() } else { format!("{}/{}", row.group, row.versions[0]) }
    }

    /// Whether fields may also be spelled as protobuf does; core Kubernetes kinds have JSON names only.
    pub(crate) fn is_protobuf_json(self) -> bool {
        !self.group().is_empty()
    }

    /// The kind that a document's `apiVersion` and `kind` name.
    pub(crate) fn of_document(api_version: &str, kind: &str) -> Result<Self, UnknownKind> {
        let Some(row) = KINDS.iter().find(|row| row.name == kind) else { return Err(unknown_kind(kind)) };
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        if group == row.group && row.versions.contains(&version) {
            return Ok(row.kind);
        }
        Err(UnknownKind {
            field: "apiVersion",
            message: format!("{api_version:?} is no apiVersion of {kind}"),
            suggestion: format!("use {:?}", row.kind.api_version()),
        })
    }

    /// The kind with this exact name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.name == name).map(|row| row.kind)
    }
}

impl KindFilter {
    /// Reads what people type: a kind, its plural or short name in any case, or `all` or nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, UnknownKind> {
        let word = text.to_ascii_lowercase();
        if word.is_empty() || word == "all" {
            return Ok(Self::All);
        }
        let is = |row: &&Row| row.name.eq_ignore_ascii_case(&word) || row.plural == word || row.short.contains(&&*word);
        KINDS.iter().find(is).map(|row| Self::One(row.kind)).ok_or_else(|| unknown_kind(text))
    }

    pub(crate) fn contains(self, kind: Kind) -> bool {
        self == Self::All || self == Self::One(kind)
    }
}

fn unknown_kind(kind: &str) -> UnknownKind {
    if NOT_YET.contains(&kind) {
        let known = KINDS.map(|row| row.name).join(", ");
        return UnknownKind {
            field: "kind",
            message: format!("kind {kind:?} is not supported yet"),
            suggestion: format!("supported kinds are {known}"),
        };
    }
    let names = KINDS.iter().map(|row| row.name).chain(NOT_YET.iter().copied());
    let suggestion = closest(kind, names).map(|meant| format!("did you mean {meant:?}?")).unwrap_or_default();
    UnknownKind { field: "kind", message: format!("unknown kind {kind:?}"), suggestion }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_answer_to_all_their_names() {
        for (text, expected) in [
            ("", KindFilter::All),
            ("all", KindFilter::All),
            ("vs", KindFilter::One(Kind::VirtualService)),
            ("VirtualServices", KindFilter::One(Kind::VirtualService)),
            ("svc", KindFilter::One(Kind::Service)),
            ("peerauthentication", KindFilter::One(Kind::PeerAuthentication)),
        ] {
            assert_eq!(KindFilter::parse(text), Ok(expected), "{text}");
        }
        assert!(KindFilter::parse("virtualservise").is_err_and(|error| error.suggestion.contains("VirtualService")));
    }

    #[test]
    fn every_published_version_names_its_kind() {
        for (api_version, kind, expected) in [
            ("v1", "Service", Kind::Service),
            ("networking.istio.io/v1alpha3", "Gateway", Kind::Gateway),
            ("networking.istio.io/v1beta1", "DestinationRule", Kind::DestinationRule),
            ("security.istio.io/v1", "PeerAuthentication", Kind::PeerAuthentication),
        ] {
            assert_eq!(Kind::of_document(api_version, kind), Ok(expected));
        }
        let error = Kind::of_document("networking.istio.io/v2", "Gateway").expect_err("no such version");
        assert_eq!((error.field, &*error.suggestion), ("apiVersion", "use \"networking.istio.io/v1\""));
        let error = Kind::of_document("gateway.networking.k8s.io/v1", "HTTPRoute").expect_err("not yet");
        assert!(error.message.contains("not supported yet"));
    }
}
