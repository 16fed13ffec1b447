//! Istio's `DestinationRule`.

use std::collections::BTreeMap;

use super::{
    GoDuration,
    field::{choice, message},
};

message! {
    /// How a host's workloads are reached, and which subsets they form.
    DestinationRule {
        host: String,
        traffic_policy: Option<TrafficPolicy>,
        subsets: Vec<Subset>,
        export_to: Vec<String>,
    }
}

message! {
    Subset {
        name: String,
        labels: BTreeMap<String, String>,
        traffic_policy: Option<TrafficPolicy>,
    }
}

message! {
    TrafficPolicy {
        load_balancer: Option<LoadBalancer>,
        connection_pool: Option<ConnectionPool>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTls>,
        /// Each replaces the whole policy for its port.
        port_level_settings: Vec<PortPolicy>,
    }
}

message! {
    PortPolicy {
        port: Option<super::virtual_service::PortSelector>,
        load_balancer: Option<LoadBalancer>,
        connection_pool: Option<ConnectionPool>,
        outlier_detection: Option<OutlierDetection>,
        tls: Option<ClientTls>,
    }
}

message! {
    LoadBalancer {
        simple: SimpleLb,
    }
}

choice! {
    SimpleLb {
        Unspecified = "UNSPECIFIED",
        LeastConn = "LEAST_CONN",
        LeastRequest = "LEAST_REQUEST",
        Random = "RANDOM",
        RoundRobin = "ROUND_ROBIN",
    }
}

message! {
    ConnectionPool {
        tcp: Option<TcpPool>,
        http: Option<HttpPool>,
    }
}

message! {
    TcpPool {
        max_connections: u32,
        connect_timeout: Option<GoDuration>,
        tcp_keepalive: Option<TcpKeepalive>,
    }
}

message! {
    TcpKeepalive {
        probes: u32,
        time: Option<GoDuration>,
        interval: Option<GoDuration>,
    }
}

message! {
    HttpPool {
        http1_max_pending_requests: u32,
        http2_max_requests: u32,
        max_requests_per_connection: u32,
        max_retries: u32,
        idle_timeout: Option<GoDuration>,
        h2_upgrade_policy: H2Upgrade,
    }
}

choice! {
    H2Upgrade { Default = "DEFAULT", DoNotUpgrade = "DO_NOT_UPGRADE", Upgrade = "UPGRADE", }
}

message! {
    OutlierDetection {
        consecutive_5xx_errors: Option<u32>,
        /// Another name of the same, from before.
        consecutive_errors: u32,
        consecutive_gateway_errors: Option<u32>,
        interval: Option<GoDuration>,
        base_ejection_time: Option<GoDuration>,
        max_ejection_percent: u32,
        min_health_percent: u32,
    }
}

message! {
    ClientTls {
        mode: ClientTlsMode,
        /// Identities that an endpoint may have, as URIs; empty means those of the endpoints' accounts.
        subject_alt_names: Vec<String>,
        sni: String,
    }
}

choice! {
    ClientTlsMode { Disable = "DISABLE", IstioMutual = "ISTIO_MUTUAL", }
}
