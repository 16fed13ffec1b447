//! Encoded xDS resources: made once, shared by every proxy that is sent them.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use prost::Name;
use proto::google::protobuf::Any;
use types::Revision;

use super::wire::any;

/// The resource types that are served, in the order in which changes are sent: what is pointed at goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ResourceType {
    Cluster,
    Endpoints,
    Listener,
    Route,
}

impl ResourceType {
    pub(crate) const ALL: [Self; 4] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Route];

    pub(crate) fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub(crate) fn of_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.type_url() == type_url)
    }

    /// Whether a client that names nothing means everything, and a full answer deletes what it leaves out.
    pub(crate) fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// What a resource's content is, and since when it is that. Equal fingerprints mean equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    since: Revision,
    fingerprint: u64,
}

impl Version {
    pub(crate) fn is_same_content(self, other: Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Whether `text`, a version that some member once sent, names this content.
    pub(crate) fn names(self, text: &str) -> bool {
        let fingerprint = text.split_once('-').and_then(|(_, fingerprint)| u64::from_str_radix(fingerprint, 16).ok());
        fingerprint == Some(self.fingerprint)
    }
}

/// `REVISION-FINGERPRINT`: the store's revision at which this member first saw the content, and the content itself.
/// The second part keeps a proxy right that moves between members of different releases.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.since, self.fingerprint)
    }
}

/// A resource as it goes onto the wire.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) body: Any,
}

impl Encoded {
    pub(crate) fn new<M: Name>(name: &str, message: &M, since: Revision) -> Arc<Self> {
        let body = any(message);
        let mut hasher = DefaultHasher::new();
        body.value.hash(&mut hasher);
        let version = Version { since, fingerprint: hasher.finish() };
        Arc::new(Self { name: name.to_owned(), version, body })
    }

    /// The earlier resource, when nothing changed since.
    pub(crate) fn or_unchanged(self: Arc<Self>, earlier: Option<&Arc<Self>>) -> Arc<Self> {
        match earlier {
            Some(earlier) if earlier.body == self.body => earlier.clone(),
            _ => self,
        }
    }
}

pub(crate) type Named = BTreeMap<String, Arc<Encoded>>;

/// All resources of one type for one proxy: those it shares with others, and its own. Their names never meet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resources {
    pub(crate) shared: Arc<Named>,
    pub(crate) own: Arc<Named>,
}

impl Resources {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Encoded>> {
        self.own.get(name).or_else(|| self.shared.get(name))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Encoded>> {
        self.shared.values().chain(self.own.values())
    }

    /// Whether nothing can differ from `other`. Cheap: it compares what they share.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && Arc::ptr_eq(&self.own, &other.own)
    }
}

/// Collects resources by name, taking over those of `earlier` that did not change.
pub(crate) fn named(resources: impl IntoIterator<Item = Arc<Encoded>>, earlier: Option<&Arc<Named>>) -> Arc<Named> {
    let keep = |resource: Arc<Encoded>| {
        let before = earlier.and_then(|earlier| earlier.get(&resource.name));
        let resource = resource.or_unchanged(before);
        (resource.name.clone(), resource)
    };
    let all: Named = resources.into_iter().map(keep).collect();
    match earlier {
        Some(earlier) if is_shared(earlier, &all) => earlier.clone(),
        _ => Arc::new(all),
    }
}

fn is_shared(left: &Named, right: &Named) -> bool {
    left.len() == right.len() && left.values().zip(right.values()).all(|(left, right)| Arc::ptr_eq(left, right))
}
