//! Envoy's bootstrap file: who it is, its certificate, and where its configuration comes from.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    Envoy,
    identity::{SERVER, Svid},
};

/// The two forms of xDS.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Delta,
    StateOfTheWorld,
}

pub(super) struct Bootstrap<'a> {
    pub(super) protocol: Protocol,
    pub(super) server: SocketAddr,
    /// The app that it stands beside.
    pub(super) app: SocketAddr,
    pub(super) envoy: &'a Envoy,
    pub(super) svid: &'a Svid,
}

impl Bootstrap<'_> {
    /// Envoy reads JSON as it reads YAML.
    pub(super) fn json(&self) -> Value {
        let api_type = match self.protocol {
            Protocol::Delta => "DELTA_GRPC",
            Protocol::StateOfTheWorld => "GRPC",
        };
        let from_ads = json!({ "resource_api_version": "V3", "ads": {} });
        json!({
            "node": self.node(),
            "admin": { "address": socket_address(self.envoy.admin) },
            "dynamic_resources": {
                "ads_config": {
                    "api_type": api_type,
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{ "envoy_grpc": { "cluster_name": "mesh" } }],
                },
                "lds_config": from_ads.clone(),
                "cds_config": from_ads,
            },
            "static_resources": { "secrets": self.secrets(), "clusters": [self.mesh_cluster()] },
        })
    }

    fn node(&self) -> Value {
        json!({
            "id": "sidecar~127.0.0.1~envoy.default~default.svc.cluster.local",
            "cluster": "reviews.default",
            "metadata": {
                "NAME": "envoy",
                "NAMESPACE": "default",
                "SERVICE_ACCOUNT": super::ACCOUNT,
                "LABELS": { "app": "reviews", "version": "v1" },
                "CLUSTER_ID": "cluster.local",
                "HTTP_PROXY_PORT": self.envoy.outbound.port().to_string(),
                "MESHSTORE_INBOUND": [{
                    "name": "http",
                    "protocol": "http",
                    "bind": self.envoy.inbound.ip().to_string(),
                    "port": self.envoy.inbound.port(),
                    "app_port": self.app.port(),
                }],
            },
        })
    }

    /// The names under which the mesh's configuration refers to them.
    fn secrets(&self) -> Value {
        let inline = |text: &str| json!({ "inline_string": text });
        json!([
            { "name": "default", "tls_certificate": {
                "certificate_chain": inline(&self.svid.chain), "private_key": inline(&self.svid.key),
            } },
            { "name": "ROOTCA", "validation_context": { "trusted_ca": inline(&self.svid.roots) } },
        ])
    }

    /// The server, by mutual TLS 1.3: it knows Envoy by its certificate, and Envoy it by its SPIFFE ID.
    fn mesh_cluster(&self) -> Value {
        let server = json!({ "san_type": "URI", "matcher": { "exact": SERVER } });
        json!({
            "name": "mesh",
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": {
                "cluster_name": "mesh",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(self.server) } }] }],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": {
                        "alpn_protocols": ["h2"],
                        "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
                        "tls_certificate_sds_secret_configs": [{ "name": "default" }],
                        "combined_validation_context": {
                            "default_validation_context": { "match_typed_subject_alt_names": [server] },
                            "validation_context_sds_secret_config": { "name": "ROOTCA" },
                        },
                    },
                },
            },
        })
    }
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
