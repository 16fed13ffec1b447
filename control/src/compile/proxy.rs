//! Who asks: a proxy, as its xDS node describes it.
//!
//! - What is read here came from the peer. Its namespace and account are believed only because `ads` compares them with
//!   the certificate; the rest shapes nothing but the proxy's own configuration.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{
    envoy::config::core::v3::Node,
    google::protobuf::{Struct, Value, value::Kind},
};

/// Most listeners of one sort that a proxy may ask for.
const LISTENERS_MAX: usize = 256;

/// Where a proxy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Beside a workload.
    Sidecar,
    /// At an edge of the mesh.
    Gateway,
}

/// A proxy, as far as its configuration depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The port of the HTTP proxy for outbound requests, on loopback.
    pub(crate) http_proxy_port: Option<u16>,
    pub(crate) inbound: Vec<Inbound>,
    pub(crate) tcp_outbound: Vec<TcpOutbound>,
}

/// A listener in front of a port of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inbound {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) bind: IpAddr,
    pub(crate) port: u16,
    pub(crate) app_port: u16,
}

/// A listener whose connections go to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpOutbound {
    pub(crate) bind: IpAddr,
    pub(crate) port: u16,
    pub(crate) host: String,
    pub(crate) service_port: u16,
}

/// What is wrong with a node, in words for its operator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("node: {0}")]
pub(crate) struct NodeError(String);

impl Proxy {
    /// Reads Istio's node: `TYPE~IP~NAME.NAMESPACE~DOMAIN` and its metadata.
    pub(crate) fn of_node(node: &Node) -> Result<Self, NodeError> {
        let error = |text: &str| NodeError(text.to_owned());
        let empty = Struct::default();
        let metadata = node.metadata.as_ref().unwrap_or(&empty);
        let mut parts = node.id.split('~');
        let role = match parts.next() {
            Some("sidecar") => Role::Sidecar,
            Some("router") => Role::Gateway,
            _ => return Err(error("the id must start with sidecar~ or router~")),
        };
        let text = |name| metadata.fields.get(name).and_then(as_text);
        let http_proxy_port = metadata.fields.get("HTTP_PROXY_PORT").map(as_port);
        Ok(Self {
            id: node.id.clone(),
            role,
            namespace: text("NAMESPACE").ok_or_else(|| error("metadata NAMESPACE is missing"))?.to_owned(),
            service_account: text("SERVICE_ACCOUNT")
                .ok_or_else(|| error("metadata SERVICE_ACCOUNT is missing"))?
                .to_owned(),
            labels: labels(metadata),
            http_proxy_port: http_proxy_port
                .map(|port| port.ok_or_else(|| error("HTTP_PROXY_PORT is no port")))
                .transpose()?,
            inbound: listeners(metadata, "MESHSTORE_INBOUND", inbound)?,
            tcp_outbound: listeners(metadata, "MESHSTORE_TCP_OUTBOUND", tcp_outbound)?,
        })
    }
}

fn labels(metadata: &Struct) -> BTreeMap<String, String> {
    let Some(Kind::StructValue(labels)) = metadata.fields.get("LABELS").and_then(|value| value.kind.as_ref()) else {
        return BTreeMap::new();
    };
    let pairs = labels.fields.iter().filter_map(|(key, value)| Some((key.clone(), as_text(value)?.to_owned())));
    pairs.collect()
}

fn listeners<T>(metadata: &Struct, name: &str, read: fn(&Struct) -> Option<T>) -> Result<Vec<T>, NodeError> {
    let items = match metadata.fields.get(name).and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => return Ok(Vec::new()),
        Some(Kind::ListValue(list)) if list.values.len() <= LISTENERS_MAX => &list.values,
        Some(_) => return Err(NodeError(format!("{name} is no list of at most {LISTENERS_MAX}"))),
    };
    let one = |value: &Value| match &value.kind {
        Some(Kind::StructValue(fields)) => read(fields),
        _ => None,
    };
    let malformed = |index| NodeError(format!("{name}[{index}] is malformed"));
    items.iter().enumerate().map(|(index, item)| one(item).ok_or_else(|| malformed(index))).collect()
}

fn inbound(fields: &Struct) -> Option<Inbound> {
    let text = |name: &str| fields.fields.get(name).and_then(as_text).unwrap_or_default().to_owned();
    let port = |name: &str| fields.fields.get(name).and_then(as_port);
    Some(Inbound {
        name: text("name"),
        protocol: text("protocol"),
        bind: text("bind").parse().ok()?,
        port: port("port")?,
        app_port: port("app_port")?,
    })
}

fn tcp_outbound(fields: &Struct) -> Option<TcpOutbound> {
    let text = |name: &str| fields.fields.get(name).and_then(as_text).map(str::to_owned);
    let port = |name: &str| fields.fields.get(name).and_then(as_port);
    let (bind, host) = (text("bind")?.parse().ok()?, text("host")?);
    Some(TcpOutbound { bind, port: port("port")?, host, service_port: port("service_port")? })
}

fn as_text(value: &Value) -> Option<&str> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

/// A port as a number or, as Istio writes it, as text.
fn as_port(value: &Value) -> Option<u16> {
    let port = match &value.kind {
        Some(Kind::StringValue(text)) => text.parse().ok()?,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
        Some(Kind::NumberValue(number)) if (1.0..=65535.0).contains(number) && number.fract() == 0.0 => *number as u16,
        _ => return None,
    };
    Some(port).filter(|port| *port != 0)
}
