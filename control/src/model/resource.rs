//! A named resource of any kind, and its canonical form.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    decode::{Finding, decode},
    destination_rule::DestinationRule,
    field::message,
    gateway::Gateway,
    kind::Kind,
    node::Node,
    peer_authentication::PeerAuthentication,
    service::Service,
    service_entry::{ServiceEntry, WorkloadEntry},
    virtual_service::VirtualService,
};

/// Under it lies all configuration: `/mesh/config/GROUP/KIND/NAMESPACE/NAME`.
pub(crate) const KEY_PREFIX: &str = "/mesh/config/";

/// What names a resource; ordered as resources are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Id {
    /// The key in the store.
    pub(crate) fn key(&self) -> String {
        format!("{KEY_PREFIX}{}/{}/{}/{}", self.kind.key_group(), self.kind.name(), self.namespace, self.name)
    }

    /// The resource that a key of the store names; `None` for any other key.
    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(KEY_PREFIX)?;
        let mut parts = rest.split('/');
        let (group, kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let kind = Kind::of_name(kind).filter(|kind| kind.key_group() == group)?;
        let named = parts.next().is_none() && !namespace.is_empty() && !name.is_empty();
        named.then(|| Self { kind, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// One resource: its name, what people attach to it, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resource {
    pub(crate) id: Id,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) spec: Spec,
}

/// A stored value that is not the resource that its key says. Somebody wrote it past the mesh API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadableResource {
    #[error("it is no canonical JSON of its kind: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it says that it is {0}")]
    OtherName(Id),
}

message! {
    /// Kubernetes' `ObjectMeta`, as far as people write it.
    Metadata {
        name: String,
        namespace: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    }
}

/// A resource as a document: Kubernetes' envelope around a spec.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

/// What resources of one kind say.
pub(crate) trait Typed: Sized {
    const KIND: Kind;

    /// The spec, if it is of this kind.
    fn of(spec: &Spec) -> Option<&Self>;
}

macro_rules! specs {
    ($($kind:ident)*) => {
        /// What a resource says, by kind.
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) enum Spec {
            $(#[doc = stringify!($kind)] $kind($kind),)*
        }

        $(impl Typed for $kind {
            const KIND: Kind = Kind::$kind;

            fn of(spec: &Spec) -> Option<&Self> {
                if let Spec::$kind(spec) = spec { Some(spec) } else { None }
            }
        })*

        impl Spec {
            fn to_json(&self, document: Document<()>) -> serde_json::Result<String> {
                let Document { api_version, kind, metadata, .. } = document;
                match self {
                    $(Self::$kind(spec) => serde_json::to_string(&Document { api_version, kind, metadata, spec }),)*
                }
            }
        }

        fn decode_kind(kind: Kind, node: &Node, findings: &mut Vec<Finding>) -> Option<(Metadata, Spec)> {
            match kind {
                $(Kind::$kind => {
                    let document = decode::<Document<$kind>>(node, kind.is_protobuf_json(), findings)?;
                    Some((document.metadata, Spec::$kind(document.spec)))
                })*
            }
        }

        fn read_kind(kind: Kind, json: &[u8]) -> serde_json::Result<(Metadata, Spec)> {
            match kind {
                $(Kind::$kind => {
                    let document: Document<$kind> = read_document(json)?;
                    Ok((document.metadata, Spec::$kind(document.spec)))
                })*
            }
        }
    };
}

specs! { Service ServiceEntry WorkloadEntry VirtualService DestinationRule Gateway PeerAuthentication }

fn read_document<S: DeserializeOwned + Default>(json: &[u8]) -> serde_json::Result<Document<S>> {
    serde_json::from_slice(json)
}

impl Resource {
    /// Reads a document of `kind`; findings say what is wrong with it.
    pub(super) fn decode(
        kind: Kind,
        node: &Node,
        default_namespace: &str,
        findings: &mut Vec<Finding>,
    ) -> Option<Self> {
        let (metadata, spec) = decode_kind(kind, node, findings)?;
        let namespace = if metadata.namespace.is_empty() { default_namespace.to_owned() } else { metadata.namespace };
        let id = Id { kind, namespace, name: metadata.name };
        Some(Self { id, labels: metadata.labels, annotations: metadata.annotations, spec })
    }

    /// Reads what the store holds under the key of `id`.
    pub(crate) fn from_json(id: &Id, json: &[u8]) -> Result<Self, UnreadableResource> {
        let (metadata, spec) = read_kind(id.kind, json)?;
        let said = Id { kind: id.kind, namespace: metadata.namespace, name: metadata.name };
        if said != *id {
            return Err(UnreadableResource::OtherName(said));
        }
        Ok(Self { id: said, labels: metadata.labels, annotations: metadata.annotations, spec })
    }

    /// The canonical JSON that the store holds.
    pub(crate) fn to_json(&self) -> String {
        let metadata = Metadata {
            name: self.id.name.clone(),
            namespace: self.id.namespace.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
        };
        let kind = self.id.kind;
        let document = Document { api_version: kind.api_version(), kind: kind.name().to_owned(), metadata, spec: () };
        self.spec.to_json(document).expect("structs of text, numbers and text-keyed maps serialize")
    }
}
