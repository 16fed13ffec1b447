//! What the proxy tells the server about itself, by Istio's names.

use std::collections::HashMap;

use proto::{
    envoy::config::core::v3::{Node, node::UserAgentVersionType},
    google::protobuf::{ListValue, Struct, Value, value::Kind},
};

use crate::settings::{Config, InboundPort, Role, TcpOutbound};

/// The node of every stream.
pub(crate) fn node(config: &Config) -> Node {
    let role = match config.role {
        Role::Sidecar => "sidecar",
        Role::Gateway => "router",
    };
    let (name, namespace) = (&config.name, &config.namespace);
    let app = config.labels.get("app").unwrap_or(name);
    Node {
        id: format!("{role}~{}~{name}.{namespace}~{namespace}.svc.cluster.local", config.address),
        cluster: format!("{app}.{namespace}"),
        metadata: Some(metadata(config)),
        user_agent_name: "meshstore-proxy".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").to_owned())),
        ..Node::default()
    }
}

fn metadata(config: &Config) -> Struct {
    let labels = config.labels.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let mut fields = HashMap::from([
        ("NAME".to_owned(), text(&config.name)),
        ("NAMESPACE".to_owned(), text(config.namespace.as_str())),
        ("SERVICE_ACCOUNT".to_owned(), text(config.service_account.as_str())),
        ("LABELS".to_owned(), object(labels)),
        ("INSTANCE_IPS".to_owned(), text(&config.address.to_string())),
    ]);
    if let Some(port) = config.http_outbound {
        fields.insert("HTTP_PROXY_PORT".to_owned(), text(&port.to_string()));
    }
    if !config.inbound.is_empty() {
        fields.insert("MESHSTORE_INBOUND".to_owned(), list(config.inbound.iter().map(inbound)));
    }
    if !config.tcp_outbound.is_empty() {
        fields.insert("MESHSTORE_TCP_OUTBOUND".to_owned(), list(config.tcp_outbound.iter().map(tcp_outbound)));
    }
    Struct { fields }
}

fn inbound(port: &InboundPort) -> Value {
    object(HashMap::from([
        ("name".to_owned(), text(&port.name)),
        ("protocol".to_owned(), text(&port.protocol)),
        ("bind".to_owned(), text(&port.bind.ip().to_string())),
        ("port".to_owned(), number(port.bind.port())),
        ("app_port".to_owned(), number(port.app_port)),
    ]))
}

fn tcp_outbound(listener: &TcpOutbound) -> Value {
    object(HashMap::from([
        ("bind".to_owned(), text(&listener.bind.ip().to_string())),
        ("port".to_owned(), number(listener.bind.port())),
        ("host".to_owned(), text(&listener.host)),
        ("service_port".to_owned(), number(listener.service_port)),
    ]))
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn number(number: u16) -> Value {
    Value { kind: Some(Kind::NumberValue(number.into())) }
}

fn object(fields: HashMap<String, Value>) -> Value {
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values: values.collect() })) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_as_istio_names_it() {
        let labels = [("app".to_owned(), "reviews".to_owned())].into();
        let config = Config { name: "reviews-v1".to_owned(), labels, http_outbound: Some(15001), ..Config::default() };
        let node = node(&config);
        assert_eq!(node.id, "sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local");
        assert_eq!(node.cluster, "reviews.default");
        let fields = node.metadata.expect("metadata").fields;
        assert_eq!(fields["HTTP_PROXY_PORT"], text("15001"));
        assert!(!fields.contains_key("MESHSTORE_INBOUND"));
    }
}
