//! Services, and entries for what is not a Service.

use std::net::IpAddr;

use super::check::{Check, is_dns_name};
use crate::{
    mesh::Protocol,
    model::{
        service::{Service, TargetPort},
        service_entry::{Resolution, ServiceEntry, WorkloadEntry},
    },
};

pub(super) fn service(check: &mut Check, service: &Service) {
    check.labels("spec.selector", &service.selector);
    if service.ports.is_empty() {
        check.issue("spec.ports", "at least one port is needed", "");
    }
    let several = service.ports.len() > 1;
    let ports = || service.ports.iter();
    unique_ports(check, ports().map(|port| port.port), ports().map(|port| &*port.name));
    for (index, port) in service.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        check.port(format_args!("{field}.port"), port.port);
        if several && port.name.is_empty() {
            check.issue(format_args!("{field}.name"), "one of several ports needs a name", "for example \"http\"");
        }
        match &port.target_port {
            Some(TargetPort::Number(number)) => check.port(format_args!("{field}.targetPort"), *number),
            Some(TargetPort::Name(name)) => port_name(check, &format!("{field}.targetPort"), name),
            None => {}
        }
        if !port.app_protocol.is_empty() {
            protocol(check, &format!("{field}.appProtocol"), &port.app_protocol);
        }
    }
}

pub(super) fn service_entry(check: &mut Check, entry: &ServiceEntry) {
    check.hosts("spec.hosts", &entry.hosts);
    check.export_to("spec.exportTo", &entry.export_to);
    for (index, host) in entry.hosts.iter().enumerate() {
        if !host.contains('.') || host == "*" {
            let message = format!("{host:?} must be written in full, with a dot");
            check.issue(format_args!("spec.hosts[{index}]"), message, "");
        }
    }
    entry_ports(check, entry);
    if entry.resolution == Resolution::Unset {
        let message = "the default resolution, NONE, is not supported yet";
        check.issue("spec.resolution", message, "use STATIC, DNS or DNS_ROUND_ROBIN");
    }
    if entry.workload_selector.is_some() && !entry.endpoints.is_empty() {
        check.issue("spec.endpoints", "endpoints and workloadSelector exclude each other", "keep one of them");
    }
    if let Some(selector) = &entry.workload_selector {
        check.labels("spec.workloadSelector.labels", &selector.labels);
        if entry.resolution != Resolution::Static {
            check.issue("spec.resolution", "workloadSelector needs resolution STATIC", "use STATIC");
        }
    }
    resolvable(check, entry);
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        workload(check, &format!("spec.endpoints[{index}]"), endpoint, entry.resolution != Resolution::Static);
    }
    for (index, name) in entry.subject_alt_names.iter().enumerate() {
        identity(check, &format!("spec.subjectAltNames[{index}]"), name);
    }
}

fn entry_ports(check: &mut Check, entry: &ServiceEntry) {
    if entry.ports.is_empty() {
        check.issue("spec.ports", "at least one port is needed", "");
    }
    let ports = || entry.ports.iter();
    unique_ports(check, ports().map(|port| port.number), ports().map(|port| &*port.name));
    for (index, port) in entry.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        check.port(format_args!("{field}.number"), port.number);
        if port.target_port != 0 {
            check.port(format_args!("{field}.targetPort"), port.target_port);
        }
        port_name(check, &format!("{field}.name"), &port.name);
        if !port.protocol.is_empty() {
            protocol(check, &format!("{field}.protocol"), &port.protocol);
        }
    }
}

/// DNS needs a name to ask for, and asks for one name only where the first answer counts.
fn resolvable(check: &mut Check, entry: &ServiceEntry) {
    if matches!(entry.resolution, Resolution::Unset | Resolution::Static) {
        return;
    }
    let wildcard = entry.hosts.iter().position(|host| host.starts_with('*'));
    if let (Some(index), true) = (wildcard, entry.endpoints.is_empty()) {
        let message = "a wildcard can not be asked from DNS";
        check.issue(format_args!("spec.hosts[{index}]"), message, "list endpoints, or name the host");
    }
    if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
        check.issue("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint", "use DNS");
    }
}

pub(super) fn workload_entry(check: &mut Check, entry: &WorkloadEntry) {
    workload(check, "spec", entry, false);
}

fn workload(check: &mut Check, field: &str, entry: &WorkloadEntry, by_dns: bool) {
    let address = format!("{field}.address");
    if by_dns && entry.address.parse::<IpAddr>().is_err() {
        if !is_dns_name(&entry.address) {
            check.issue(address, format!("{:?} is neither an IP address nor a DNS name", entry.address), "");
        }
    } else {
        check.ip(address, &entry.address);
    }
    check.labels(format_args!("{field}.labels"), &entry.labels);
    for (name, port) in &entry.ports {
        port_name(check, &format!("{field}.ports.{name}"), name);
        check.port(format_args!("{field}.ports.{name}"), *port);
    }
    if entry.locality.split('/').count() > 3 {
        check.issue(format_args!("{field}.locality"), "a locality is REGION/ZONE/SUBZONE", "");
    }
    if !entry.service_account.is_empty() && types::ServiceAccount::parse(&entry.service_account).is_err() {
        let message = format!("{:?} is no service account", entry.service_account);
        check.issue(format_args!("{field}.serviceAccount"), message, "");
    }
}

/// An identity that an endpoint may have: a URI. Without one, nothing would match it.
pub(super) fn identity(check: &mut Check, field: &str, name: &str) {
    if !name.starts_with("spiffe://") {
        check.issue(field, format!("{name:?} is no SPIFFE ID"), "spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT");
    }
}

fn unique_ports<'a>(check: &mut Check, numbers: impl Iterator<Item = u32>, names: impl Iterator<Item = &'a str>) {
    let (mut seen, mut called) = (Vec::new(), Vec::new());
    for (index, (number, name)) in numbers.zip(names).enumerate() {
        if seen.contains(&number) {
            check.issue(format_args!("spec.ports[{index}]"), format!("port {number} is given twice"), "keep one");
        }
        if !name.is_empty() && called.contains(&name) {
            let message = format!("port name {name:?} is given twice");
            check.issue(format_args!("spec.ports[{index}].name"), message, "");
        }
        seen.push(number);
        called.push(name);
    }
}

fn port_name(check: &mut Check, field: &str, name: &str) {
    if !is_dns_name(name) || name.contains('.') {
        check.issue(field, format!("{name:?} is no port name: it takes a-z, 0-9 and '-'"), "");
    }
}

fn protocol(check: &mut Check, field: &str, text: &str) {
    if Protocol::parse(text).is_none() {
        let message = format!("protocol {text:?} is not supported yet");
        check.issue(field, message, "use http, http2, grpc, tcp or tls");
    }
}
