//! Virtual services, each by itself.

use std::collections::BTreeMap;

use super::check::Check;
use crate::model::{
    StringMatch,
    virtual_service::{
        Destination, HeaderOperations, Headers, HttpFault, HttpMatch, HttpRetry, HttpRoute, TcpRoute, VirtualService,
        grpc_status, is_authority,
    },
};

/// Most retries of a request.
const ATTEMPTS_MAX: u32 = 100;
/// Conditions under which Envoy can retry, by their names.
const RETRY_CONDITIONS: &[&str] = &[
    "5xx",
    "cancelled",
    "connect-failure",
    "deadline-exceeded",
    "envoy-ratelimited",
    "gateway-error",
    "http3-post-connect-failure",
    "internal",
    "refused-stream",
    "reset",
    "reset-before-request",
    "resource-exhausted",
    "retriable-4xx",
    "retriable-headers",
    "retriable-status-codes",
    "unavailable",
];

pub(super) fn virtual_service(check: &mut Check, service: &VirtualService) {
    check.hosts("spec.hosts", &service.hosts);
    check.export_to("spec.exportTo", &service.export_to);
    if service.http.is_empty() && service.tcp.is_empty() {
        check.issue("spec", "an http or tcp entry is needed", "");
    }
    for (index, route) in service.http.iter().enumerate() {
        http_route(check, &format!("spec.http[{index}]"), route);
    }
    for (index, route) in service.tcp.iter().enumerate() {
        tcp_route(check, &format!("spec.tcp[{index}]"), route);
    }
}

fn http_route(check: &mut Check, field: &str, route: &HttpRoute) {
    for (index, matched) in route.r#match.iter().enumerate() {
        http_match(check, &format!("{field}.match[{index}]"), matched);
    }
    action(check, field, route);
    weights(check, field, &route.route.iter().map(|to| to.weight).collect::<Vec<_>>());
    for (index, to) in route.route.iter().enumerate() {
        destination(check, &format!("{field}.route[{index}].destination"), to.destination.as_ref());
        headers(check, &format!("{field}.route[{index}].headers"), to.headers.as_ref());
    }
    headers(check, &format!("{field}.headers"), route.headers.as_ref());
    check.span_or_zero(format_args!("{field}.timeout"), route.timeout);
    retries(check, &format!("{field}.retries"), route.retries.as_ref());
    fault(check, &format!("{field}.fault"), route.fault.as_ref());
    rewrite(check, field, route);
}

/// A request is routed, redirected or answered.
fn action(check: &mut Check, field: &str, route: &HttpRoute) {
    let actions = [!route.route.is_empty(), route.redirect.is_some(), route.direct_response.is_some()];
    if actions.into_iter().filter(|set| *set).count() != 1 {
        check.issue(field, "exactly one of route, redirect and directResponse is needed", "");
    }
    if route.route.is_empty() {
        let misplaced = [
            ("rewrite", route.rewrite.is_some()),
            ("timeout", route.timeout.is_some()),
            ("retries", route.retries.is_some()),
            ("fault", route.fault.is_some()),
        ];
        for (name, _) in misplaced.iter().filter(|(_, set)| *set) {
            check.issue(format_args!("{field}.{name}"), format!("{name} needs a route"), "remove it");
        }
    }
    if let Some(redirect) = &route.redirect {
        if !matches!(redirect.redirect_code, 0 | 301 | 302 | 303 | 307 | 308) {
            check.issue(format_args!("{field}.redirect.redirectCode"), "use 301, 302, 303, 307 or 308", "");
        }
        if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
            check.issue(format_args!("{field}.redirect"), "uri and prefixRewrite exclude each other", "keep one");
        }
        if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
            check.issue(format_args!("{field}.redirect.scheme"), "use http or https", "");
        }
        if redirect.port != 0 {
            check.port(format_args!("{field}.redirect.port"), redirect.port);
        }
    }
    if let Some(response) = &route.direct_response
        && !(200..=599).contains(&response.status)
    {
        check.issue(format_args!("{field}.directResponse.status"), "use a status from 200 to 599", "");
    }
}

fn http_match(check: &mut Check, field: &str, matched: &HttpMatch) {
    let parts = [
        ("uri", &matched.uri),
        ("scheme", &matched.scheme),
        ("method", &matched.method),
        ("authority", &matched.authority),
    ];
    for (name, part) in parts {
        if let Some(part) = part {
            check.string_match(format_args!("{field}.{name}"), part, false);
        }
    }
    let maps = [("headers", &matched.headers), ("withoutHeaders", &matched.without_headers)];
    for (name, map) in maps {
        for header in map.keys() {
            check.header_name(format_args!("{field}.{name}.{header}"), header);
        }
        string_matches(check, &format!("{field}.{name}"), map);
    }
    string_matches(check, &format!("{field}.queryParams"), &matched.query_params);
    check.labels(format_args!("{field}.sourceLabels"), &matched.source_labels);
    if matched.port != 0 {
        check.port(format_args!("{field}.port"), matched.port);
    }
}

fn string_matches(check: &mut Check, field: &str, matches: &BTreeMap<String, StringMatch>) {
    for (name, value) in matches {
        check.string_match(format_args!("{field}.{name}"), value, true);
    }
}

/// One destination takes all; of several, some must take something.
fn weights(check: &mut Check, field: &str, weights: &[u32]) {
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    if weights.len() > 1 && sum == 0 {
        check.issue(format_args!("{field}.route"), "the weights of several destinations must not all be 0", "");
    }
    if sum > u64::from(u32::MAX) {
        check.issue(format_args!("{field}.route"), "the weights are too large", "use percentages");
    }
}

fn destination(check: &mut Check, field: &str, destination: Option<&Destination>) {
    let Some(destination) = destination else { return check.issue(field, "a destination is needed", "") };
    if destination.host.starts_with('*') {
        check.issue(format_args!("{field}.host"), "a destination is one host, not a wildcard", "");
    } else {
        check.host(format_args!("{field}.host"), &destination.host);
    }
    if let Some(port) = &destination.port {
        check.port(format_args!("{field}.port.number"), port.number);
    }
}

fn headers(check: &mut Check, field: &str, headers: Option<&Headers>) {
    let Some(Headers { request, response }) = headers else { return };
    operations(check, &format!("{field}.request"), request.as_ref(), true);
    operations(check, &format!("{field}.response"), response.as_ref(), false);
}

fn operations(check: &mut Check, field: &str, operations: Option<&HeaderOperations>, is_request: bool) {
    let Some(HeaderOperations { set, add, remove }) = operations else { return };
    for (name, value) in set {
        let field = format!("{field}.set.{name}");
        if !(is_request && is_authority(name)) {
            header(check, &field, name);
        }
        check.header_value(field, value);
    }
    for (name, value) in add {
        let field = format!("{field}.add.{name}");
        header(check, &field, name);
        check.header_value(field, value);
    }
    for (index, name) in remove.iter().enumerate() {
        header(check, &format!("{field}.remove[{index}]"), name);
    }
}

fn header(check: &mut Check, field: &str, name: &str) {
    if is_authority(name) {
        check.issue(field, format!("{name} can only be set, and on requests only"), "use rewrite.authority");
    } else {
        check.header_name(field, name);
    }
}

fn retries(check: &mut Check, field: &str, retries: Option<&HttpRetry>) {
    let Some(retries) = retries else { return };
    if retries.attempts > ATTEMPTS_MAX {
        check.issue(format_args!("{field}.attempts"), format!("use at most {ATTEMPTS_MAX}"), "");
    }
    check.span_or_zero(format_args!("{field}.perTryTimeout"), retries.per_try_timeout);
    check.span(format_args!("{field}.backoff"), retries.backoff);
    for condition in retries.retry_on.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        let status = condition.parse().is_ok_and(|status: u32| (100..=599).contains(&status));
        if !status && !RETRY_CONDITIONS.contains(&condition) {
            let meant = crate::model::closest(condition, RETRY_CONDITIONS.iter().copied());
            let suggestion = meant.map(|meant| format!("did you mean {meant:?}?")).unwrap_or_default();
            check.issue(format_args!("{field}.retryOn"), format!("unknown condition {condition:?}"), suggestion);
        }
    }
}

fn fault(check: &mut Check, field: &str, fault: Option<&HttpFault>) {
    let Some(fault) = fault else { return };
    if fault.delay.is_none() && fault.abort.is_none() {
        check.issue(field, "a delay or an abort is needed", "");
    }
    if let Some(delay) = &fault.delay {
        let field = format!("{field}.delay");
        check.percentage(format_args!("{field}.percentage.value"), delay.percentage.as_ref());
        if delay.percent > 100 {
            check.issue(format_args!("{field}.percent"), "use 0 to 100", "");
        }
        match delay.fixed_delay {
            Some(span) => check.span(format_args!("{field}.fixedDelay"), Some(span)),
            None => check.issue(&field, "a fixedDelay is needed", ""),
        }
    }
    if let Some(abort) = &fault.abort {
        let field = format!("{field}.abort");
        check.percentage(format_args!("{field}.percentage.value"), abort.percentage.as_ref());
        match (&abort.http_status, &abort.grpc_status) {
            (Some(status), None) if (200..=599).contains(status) => {}
            (Some(_), None) => check.issue(format_args!("{field}.httpStatus"), "use a status from 200 to 599", ""),
            (None, Some(status)) if grpc_status(status).is_some() => {}
            (None, Some(status)) => {
                check.issue(format_args!("{field}.grpcStatus"), format!("{status:?} is no gRPC status"), "");
            }
            _ => check.issue(field, "exactly one of httpStatus and grpcStatus is needed", ""),
        }
    }
}

fn rewrite(check: &mut Check, field: &str, route: &HttpRoute) {
    let Some(rewrite) = &route.rewrite else { return };
    let field = format!("{field}.rewrite");
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        check.issue(&field, "one of uri, authority and uriRegexRewrite is needed", "");
    }
    if !rewrite.uri.is_empty() && !rewrite.uri.starts_with('/') {
        check.issue(format_args!("{field}.uri"), "a path starts with /", format!("/{}", rewrite.uri));
    }
    if let Some(regex) = &rewrite.uri_regex_rewrite {
        check.regex(format_args!("{field}.uriRegexRewrite.match"), &regex.r#match);
        if !rewrite.uri.is_empty() {
            check.issue(&field, "uri and uriRegexRewrite exclude each other", "keep one");
        }
    }
    if !rewrite.authority.is_empty() {
        check.header_value(format_args!("{field}.authority"), &rewrite.authority);
    }
}

fn tcp_route(check: &mut Check, field: &str, route: &TcpRoute) {
    if route.route.is_empty() {
        check.issue(format_args!("{field}.route"), "a destination is needed", "");
    }
    for (index, matched) in route.r#match.iter().enumerate() {
        if matched.port != 0 {
            check.port(format_args!("{field}.match[{index}].port"), matched.port);
        }
        check.labels(format_args!("{field}.match[{index}].sourceLabels"), &matched.source_labels);
    }
    weights(check, field, &route.route.iter().map(|to| to.weight).collect::<Vec<_>>());
    for (index, to) in route.route.iter().enumerate() {
        destination(check, &format!("{field}.route[{index}].destination"), to.destination.as_ref());
    }
}
