//! Destination rules, each by itself.

use super::{check::Check, entries::identity};
use crate::model::destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, TrafficPolicy,
};

pub(super) fn destination_rule(check: &mut Check, rule: &DestinationRule) {
    check.host("spec.host", &rule.host);
    check.export_to("spec.exportTo", &rule.export_to);
    policy(check, "spec.trafficPolicy", rule.traffic_policy.as_ref());
    for (index, subset) in rule.subsets.iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        if !super::check::is_dns_name(&subset.name) {
            let message = format!("{:?} is no subset name: it takes a-z, 0-9, '-' and '.'", subset.name);
            check.issue(format_args!("{field}.name"), message, "");
        }
        if rule.subsets[..index].iter().any(|earlier| earlier.name == subset.name) {
            check.issue(format_args!("{field}.name"), format!("subset {:?} is given twice", subset.name), "keep one");
        }
        check.labels(format_args!("{field}.labels"), &subset.labels);
        policy(check, &format!("{field}.trafficPolicy"), subset.traffic_policy.as_ref());
    }
}

fn policy(check: &mut Check, field: &str, policy: Option<&TrafficPolicy>) {
    let Some(TrafficPolicy { load_balancer, connection_pool, outlier_detection, tls, port_level_settings }) = policy
    else {
        return;
    };
    parts(check, field, load_balancer.as_ref(), connection_pool.as_ref(), outlier_detection.as_ref(), tls.as_ref());
    for (index, port) in port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{index}]");
        match &port.port {
            Some(port) => check.port(format_args!("{field}.port.number"), port.number),
            None => check.issue(&field, "a port is needed", ""),
        }
        let (pool, outliers) = (port.connection_pool.as_ref(), port.outlier_detection.as_ref());
        parts(check, &field, port.load_balancer.as_ref(), pool, outliers, port.tls.as_ref());
    }
}

fn parts(
    check: &mut Check,
    field: &str,
    _balancer: Option<&LoadBalancer>,
    pool: Option<&ConnectionPool>,
    outliers: Option<&OutlierDetection>,
    tls: Option<&ClientTls>,
) {
    if let Some(tcp) = pool.and_then(|pool| pool.tcp.as_ref()) {
        check.span(format_args!("{field}.connectionPool.tcp.connectTimeout"), tcp.connect_timeout);
        if let Some(keepalive) = &tcp.tcp_keepalive {
            let field = format!("{field}.connectionPool.tcp.tcpKeepalive");
            whole_seconds(check, &format!("{field}.time"), keepalive.time);
            whole_seconds(check, &format!("{field}.interval"), keepalive.interval);
        }
    }
    if let Some(http) = pool.and_then(|pool| pool.http.as_ref()) {
        check.span(format_args!("{field}.connectionPool.http.idleTimeout"), http.idle_timeout);
    }
    if let Some(outliers) = outliers {
        let field = format!("{field}.outlierDetection");
        check.span(format_args!("{field}.interval"), outliers.interval);
        check.span(format_args!("{field}.baseEjectionTime"), outliers.base_ejection_time);
        let percentages =
            [("maxEjectionPercent", outliers.max_ejection_percent), ("minHealthPercent", outliers.min_health_percent)];
        for (name, percent) in percentages {
            if percent > 100 {
                check.issue(format_args!("{field}.{name}"), "use 0 to 100", "");
            }
        }
    }
    if let Some(tls) = tls {
        for (index, name) in tls.subject_alt_names.iter().enumerate() {
            identity(check, &format!("{field}.tls.subjectAltNames[{index}]"), name);
        }
        if tls.mode == ClientTlsMode::Disable && (!tls.sni.is_empty() || !tls.subject_alt_names.is_empty()) {
            check.issue(format_args!("{field}.tls"), "sni and subjectAltNames need a mode that uses TLS", "");
        }
    }
}

/// The kernel takes keep-alive times in seconds.
fn whole_seconds(check: &mut Check, field: &str, span: Option<crate::model::GoDuration>) {
    check.span(field, span);
    if span.is_some_and(|span| span.0.subsec_nanos() != 0) {
        check.issue(field, "use whole seconds", "");
    }
}
