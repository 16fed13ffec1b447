//! The names that Istio gives to what it generates; its tools and dashboards know them.

use crate::mesh::Port;

/// The route table of the outbound HTTP proxy.
pub(crate) const HTTP_PROXY_ROUTES: &str = "http_proxy";

/// `outbound|9080|v1|reviews.default.svc.cluster.local`
pub(crate) fn outbound_cluster(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// The same as a server name: `outbound_.9080_.v1_.reviews.default.svc.cluster.local`
pub(crate) fn server_name(port: &Port, subset: &str, host: &str) -> String {
    format!("outbound_.{}_.{subset}_.{host}", port.number)
}

/// `inbound|9080||`, by the port of the workload.
pub(crate) fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// `http.8080`
pub(crate) fn gateway_routes(bind: &str, port: u16) -> String {
    if bind.is_empty() { format!("http.{port}") } else { format!("http.{port}.{bind}") }
}

/// `0.0.0.0_8080`
pub(crate) fn listener(bind: std::net::IpAddr, port: u16) -> String {
    format!("{bind}_{port}")
}
