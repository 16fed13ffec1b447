//! Istio's `Gateway`.

use std::collections::BTreeMap;

use super::field::{choice, message};

message! {
    /// What the gateway proxies that `selector` picks listen for.
    Gateway {
        /// Labels that a proxy must all have; empty selects every gateway.
        selector: BTreeMap<String, String>,
        servers: Vec<Server>,
    }
}

message! {
    Server {
        port: Option<Port>,
        /// The address to listen on; empty means every one.
        bind: String,
        /// `HOST`, or `NAMESPACE/HOST` where the namespace limits which `VirtualService`s may bind.
        hosts: Vec<String>,
        name: String,
    }
}

message! {
    Port {
        number: u32,
        protocol: GatewayProtocol,
        name: String,
    }
}

choice! {
    /// `Unset` can not be written.
    GatewayProtocol { Unset = "", Http = "HTTP", Http2 = "HTTP2", Grpc = "GRPC", Tcp = "TCP", }
}
