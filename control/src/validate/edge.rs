//! Gateways and peer authentication, each by itself.

use super::check::Check;
use crate::{
    mesh::ROOT_NAMESPACE,
    model::{
        Id,
        gateway::{Gateway, GatewayProtocol, Server},
        peer_authentication::PeerAuthentication,
    },
};

pub(super) fn gateway(check: &mut Check, gateway: &Gateway) {
    check.labels("spec.selector", &gateway.selector);
    if gateway.servers.is_empty() {
        check.issue("spec.servers", "at least one server is needed", "");
    }
    for (index, one) in gateway.servers.iter().enumerate() {
        server(check, &format!("spec.servers[{index}]"), one);
    }
}

fn server(check: &mut Check, field: &str, server: &Server) {
    match &server.port {
        None => check.issue(field, "a port is needed", ""),
        Some(port) => {
            check.port(format_args!("{field}.port.number"), port.number);
            if port.protocol == GatewayProtocol::Unset {
                check.issue(
                    format_args!("{field}.port.protocol"),
                    "a protocol is needed",
                    "use HTTP, HTTP2, GRPC or TCP",
                );
            }
        }
    }
    if !server.bind.is_empty() {
        check.ip(format_args!("{field}.bind"), &server.bind);
    }
    if server.hosts.is_empty() {
        check.issue(format_args!("{field}.hosts"), "at least one host is needed", "use \"*\" for every host");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        let field = format!("{field}.hosts[{index}]");
        let (namespace, host) = host.split_once('/').unwrap_or(("*", host));
        if !matches!(namespace, "*" | ".") && types::Namespace::parse(namespace).is_err() {
            check.issue(&field, format!("{namespace:?} is no namespace"), "NAMESPACE/HOST, \"*/HOST\" or \"./HOST\"");
        }
        check.host(field, host);
    }
}

pub(super) fn peer_authentication(check: &mut Check, id: &Id, policy: &PeerAuthentication) {
    let selector = policy.selector.as_ref().filter(|selector| !selector.match_labels.is_empty());
    if let Some(selector) = selector {
        check.labels("spec.selector.matchLabels", &selector.match_labels);
        if id.namespace == ROOT_NAMESPACE {
            let message = format!("in {ROOT_NAMESPACE} a policy holds for the whole mesh, so it takes no selector");
            check.issue("spec.selector", message, "move it to the workload's namespace");
        }
    }
    if selector.is_none() && !policy.port_level_mtls.is_empty() {
        check.issue("spec.portLevelMtls", "portLevelMtls needs a selector", "select the workload");
    }
    for port in policy.port_level_mtls.keys() {
        check.port(format_args!("spec.portLevelMtls.{port}"), *port);
    }
}
