//! Routes: what a virtual service's entries say, in Envoy's words.

use std::collections::{BTreeMap, HashMap};

use proto::{
    envoy::{
        config::{
            core::v3::{
                DataSource, HeaderValue, HeaderValueOption, data_source, header_value_option::HeaderAppendAction,
            },
            route::v3::{
                DirectResponseAction, HeaderMatcher, QueryParameterMatcher, RedirectAction, Route, RouteAction,
                RouteMatch, WeightedCluster,
                header_matcher::HeaderMatchSpecifier,
                query_parameter_matcher::QueryParameterMatchSpecifier,
                redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
                route,
                route_action::{ClusterSpecifier, HostRewriteSpecifier},
                route_match::PathSpecifier,
                weighted_cluster::{ClusterWeight, cluster_weight},
            },
        },
        r#type::matcher::v3::RegexMatchAndSubstitute,
    },
    google::protobuf::Any,
};

use super::{
    fault::{FAULT_FILTER, fault},
    names::outbound_cluster,
    retry::retry_policy,
    wire::{any, boolean, duration, number, regex, string_matcher},
};
use crate::{
    mesh::{Catalog, full_name, selects},
    model::{
        StringMatch,
        virtual_service::{
            Destination, HeaderOperations, Headers, HttpDestination, HttpMatch, HttpRedirect, HttpRoute, is_authority,
        },
    },
};

/// What decides which entries of a virtual service apply, and what their destinations mean.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) catalog: &'a Catalog,
    /// The namespace of the virtual service: short names are its own.
    pub(super) owner: &'a str,
    /// The gateway that requests come in by, `NAMESPACE/NAME`, or `mesh`.
    pub(super) gateway: &'a str,
    /// The port that requests were sent to.
    pub(super) port: u16,
    /// The client's side: a sidecar's namespace and labels.
    pub(super) namespace: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
}

/// The routes of a virtual service, up to and with the first that takes every request.
pub(super) fn http_routes(entries: &[HttpRoute], context: Context<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for entry in entries {
        if entry.r#match.is_empty() {
            routes.push(http_route(entry, None, context));
            return routes;
        }
        for matched in entry.r#match.iter().filter(|matched| applies(matched, context)) {
            routes.push(http_route(entry, Some(matched), context));
        }
    }
    routes
}

/// The one route of a port that no virtual service speaks of.
pub(super) fn default_route(cluster: String) -> Route {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        timeout: Some(proto::google::protobuf::Duration::default()),
        retry_policy: retry_policy(None),
        ..Default::default()
    };
    Route {
        name: "default".to_owned(),
        r#match: Some(every_path()),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    }
}

fn every_path() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

/// Whether a match can fit at all: its gateway, port and client are known before any request.
fn applies(matched: &HttpMatch, context: Context<'_>) -> bool {
    (matched.gateways.is_empty() || names_gateway(&matched.gateways, context))
        && (matched.port == 0 || matched.port == u32::from(context.port))
        && (matched.source_namespace.is_empty() || matched.source_namespace == context.namespace)
        && selects(&matched.source_labels, context.labels)
}

pub(super) fn names_gateway(gateways: &[String], context: Context<'_>) -> bool {
    gateways.iter().any(|name| gateway_name(name, context.owner) == context.gateway)
}

/// A gateway as `NAMESPACE/NAME`, or `mesh`.
pub(super) fn gateway_name(name: &str, owner: &str) -> String {
    if name == crate::mesh::MESH {
        return name.to_owned();
    }
    let id = crate::mesh::gateway_id(name, owner);
    format!("{}/{}", id.namespace, id.name)
}

fn http_route(entry: &HttpRoute, matched: Option<&HttpMatch>, context: Context<'_>) -> Route {
    let name = if entry.name.is_empty() { "default" } else { &entry.name };
    let name = match matched.map(|matched| matched.name.as_str()) {
        Some(part) if !part.is_empty() => format!("{name}.{part}"),
        _ => name.to_owned(),
    };
    let action = if let Some(redirect) = &entry.redirect {
        route::Action::Redirect(redirect_action(redirect))
    } else if let Some(response) = &entry.direct_response {
        let body = response.body.as_ref().and_then(|body| body.string.clone());
        let body = body.map(|text| DataSource {
            specifier: Some(data_source::Specifier::InlineString(text)),
            ..Default::default()
        });
        route::Action::DirectResponse(DirectResponseAction { status: response.status, body, ..Default::default() })
    } else {
        route::Action::Route(route_action(entry, context))
    };
    let edits = Edits::of(entry.headers.as_ref());
    Route {
        name,
        r#match: Some(matched.map_or_else(every_path, route_match)),
        action: Some(action),
        typed_per_filter_config: filter_config(entry),
        request_headers_to_add: edits.request_add,
        request_headers_to_remove: edits.request_remove,
        response_headers_to_add: edits.response_add,
        response_headers_to_remove: edits.response_remove,
        ..Default::default()
    }
}

fn filter_config(entry: &HttpRoute) -> HashMap<String, Any> {
    let fault = entry.fault.as_ref().map(|spec| (FAULT_FILTER.to_owned(), any(&fault(spec))));
    fault.into_iter().collect()
}

fn route_match(matched: &HttpMatch) -> RouteMatch {
    let path = match matched.uri.as_ref() {
        Some(StringMatch { exact: Some(path), .. }) => PathSpecifier::Path(path.clone()),
        Some(StringMatch { prefix: Some(prefix), .. }) => PathSpecifier::Prefix(prefix.clone()),
        Some(StringMatch { regex: Some(text), .. }) => PathSpecifier::SafeRegex(regex(text)),
        _ => PathSpecifier::Prefix("/".to_owned()),
    };
    // Envoy refuses case folding on regular expressions: there the pattern itself says it.
    let path = match path {
        PathSpecifier::SafeRegex(_) if matched.ignore_uri_case => {
            let text = matched.uri.as_ref().and_then(|uri| uri.regex.as_deref()).unwrap_or_default();
            PathSpecifier::SafeRegex(regex(&format!("(?i){text}")))
        }
        path => path,
    };
    let is_regex = matches!(path, PathSpecifier::SafeRegex(_));
    RouteMatch {
        path_specifier: Some(path),
        case_sensitive: (matched.ignore_uri_case && !is_regex).then(|| boolean(false)).flatten(),
        headers: header_matchers(matched),
        query_parameters: matched.query_params.iter().map(|(name, value)| query_matcher(name, value)).collect(),
        ..Default::default()
    }
}

fn header_matchers(matched: &HttpMatch) -> Vec<HeaderMatcher> {
    let pseudo = [(":scheme", &matched.scheme), (":method", &matched.method), (":authority", &matched.authority)];
    let pseudo = pseudo.into_iter().filter_map(|(name, value)| Some(header_matcher(name, value.as_ref()?)));
    let with = matched.headers.iter().map(|(name, value)| header_matcher(name, value));
    let without = matched.without_headers.iter().map(|(name, value)| HeaderMatcher {
        invert_match: true,
        treat_missing_header_as_empty: string_matcher(value).is_some(),
        ..header_matcher(name, value)
    });
    pseudo.chain(with).chain(without).collect()
}

fn header_matcher(name: &str, value: &StringMatch) -> HeaderMatcher {
    let specifier = match string_matcher(value) {
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    HeaderMatcher { name: name.to_ascii_lowercase(), header_match_specifier: Some(specifier), ..Default::default() }
}

fn query_matcher(name: &str, value: &StringMatch) -> QueryParameterMatcher {
    let specifier = match string_matcher(value) {
        Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
        None => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) }
}

fn route_action(entry: &HttpRoute, context: Context<'_>) -> RouteAction {
    let rewrite = entry.rewrite.as_ref();
    let regex_rewrite = rewrite.and_then(|rewrite| rewrite.uri_regex_rewrite.as_ref()).map(|rewrite| {
        RegexMatchAndSubstitute { pattern: Some(regex(&rewrite.r#match)), substitution: rewrite.rewrite.clone() }
    });
    // With a fault, the caller is to feel it: neither a timeout nor a retry hides it. Source: Istio.
    let steady = entry.fault.is_none();
    let timeout = entry.timeout.filter(|_| steady).map(|span| duration(span.0)).unwrap_or_default();
    let authority = rewrite.map(|rewrite| rewrite.authority.clone()).filter(|authority| !authority.is_empty());
    let authority = authority.or_else(|| set_authority(entry.headers.as_ref()));
    RouteAction {
        cluster_specifier: Some(cluster_specifier(&entry.route, context)),
        prefix_rewrite: rewrite.map(|rewrite| rewrite.uri.clone()).unwrap_or_default(),
        regex_rewrite,
        host_rewrite_specifier: authority.map(HostRewriteSpecifier::HostRewriteLiteral),
        timeout: Some(timeout),
        retry_policy: if steady { retry_policy(entry.retries.as_ref()) } else { None },
        ..Default::default()
    }
}

/// One destination is named; several are weighted, those of weight 0 left out.
fn cluster_specifier(destinations: &[HttpDestination], context: Context<'_>) -> ClusterSpecifier {
    let plain = |to: &HttpDestination| to.headers.is_none();
    if let [only] = destinations
        && plain(only)
    {
        return ClusterSpecifier::Cluster(destination_cluster(only.destination.as_ref(), context));
    }
    let single = destinations.len() == 1;
    let clusters = destinations.iter().filter(|to| single || to.weight > 0);
    let clusters = clusters.map(|to| weighted(to, if single { 1 } else { to.weight }, context)).collect();
    ClusterSpecifier::WeightedClusters(WeightedCluster { clusters, ..Default::default() })
}

fn weighted(to: &HttpDestination, weight: u32, context: Context<'_>) -> ClusterWeight {
    let edits = Edits::of(to.headers.as_ref());
    let authority = set_authority(to.headers.as_ref());
    ClusterWeight {
        name: destination_cluster(to.destination.as_ref(), context),
        weight: number(weight),
        request_headers_to_add: edits.request_add,
        request_headers_to_remove: edits.request_remove,
        response_headers_to_add: edits.response_add,
        response_headers_to_remove: edits.response_remove,
        host_rewrite_specifier: authority.map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    }
}

/// The cluster that a destination means: its port, else the host's only one, else the one that the request was for.
pub(super) fn destination_cluster(destination: Option<&Destination>, context: Context<'_>) -> String {
    let Some(destination) = destination else { return String::new() };
    let name = full_name(&destination.host, context.owner);
    let ports = context.catalog.find(&name, context.owner).map(|host| &host.ports[..]).unwrap_or_default();
    let named = destination.port.as_ref().and_then(|port| u16::try_from(port.number).ok());
    let port = named.unwrap_or(match ports {
        [only] => only.number,
        _ => context.port,
    });
    outbound_cluster(port, &destination.subset, &name)
}

fn redirect_action(redirect: &HttpRedirect) -> RedirectAction {
    let path = if !redirect.uri.is_empty() {
        Some(PathRewriteSpecifier::PathRedirect(redirect.uri.clone()))
    } else if redirect.prefix_rewrite.is_empty() {
        None
    } else {
        Some(PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone()))
    };
    let scheme = Some(redirect.scheme.clone()).filter(|scheme| !scheme.is_empty());
    let code = match redirect.redirect_code {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: redirect.port,
        response_code: code.into(),
        scheme_rewrite_specifier: scheme.map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        ..Default::default()
    }
}

/// Header edits in Envoy's form.
#[derive(Default)]
struct Edits {
    request_add: Vec<HeaderValueOption>,
    request_remove: Vec<String>,
    response_add: Vec<HeaderValueOption>,
    response_remove: Vec<String>,
}

impl Edits {
    fn of(headers: Option<&Headers>) -> Self {
        let Some(Headers { request, response }) = headers else { return Self::default() };
        let removed = |operations: &Option<HeaderOperations>| {
            operations.as_ref().map(|operations| operations.remove.clone()).unwrap_or_default()
        };
        Self {
            request_add: additions(request.as_ref()),
            request_remove: removed(request),
            response_add: additions(response.as_ref()),
            response_remove: removed(response),
        }
    }
}

fn additions(operations: Option<&HeaderOperations>) -> Vec<HeaderValueOption> {
    let Some(operations) = operations else { return Vec::new() };
    let option = |(key, value): (&String, &String), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue { key: key.clone(), value: value.clone(), ..Default::default() }),
        append_action: action.into(),
        ..Default::default()
    };
    let set = operations.set.iter().filter(|(name, _)| !is_authority(name));
    let set = set.map(|pair| option(pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations.add.iter().map(|pair| option(pair, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

/// Setting the authority rewrites it; Envoy takes it for no header.
fn set_authority(headers: Option<&Headers>) -> Option<String> {
    let set = &headers?.request.as_ref()?.set;
    set.iter().find(|(name, _)| is_authority(name)).map(|(_, value)| value.clone())
}
