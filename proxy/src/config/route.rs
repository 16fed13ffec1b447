//! Route tables: which virtual host, which route, what happens to the request.
//!
//! - A table is immutable; finding a route allocates nothing.
//! - The first route that matches wins, as in Envoy.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use proto::{
    envoy::{
        config::route::v3::{
            Route as WireRoute, RouteConfiguration, RouteMatch as WireMatch, VirtualHost as WireHost,
            route::Action as WireAction, route_match::PathSpecifier, virtual_host::TlsRequirementType,
        },
        extensions::filters::http::fault::v3::HttpFault,
    },
    google::protobuf::Any,
};
use regex::bytes::Regex;

use super::{
    action::{self, Action},
    fault::{FAULT_FILTER, Fault},
    hosts::HostIndex,
    matcher::{HeaderMatch, QueryMatch, Share, Subject, whole_regex},
    mutation::Mutations,
    wire::{Invalid, Within, flag, nothing_left, unpack},
};

/// One route configuration.
#[derive(Debug)]
pub(crate) struct RouteTable {
    pub(crate) name: Arc<str>,
    hosts: HostIndex,
    virtual_hosts: Vec<VirtualHost>,
    ignore_port: bool,
    /// Every xDS cluster that a route may choose.
    pub(crate) clusters: BTreeSet<Arc<str>>,
}

/// The routes of a set of domains.
#[derive(Debug)]
pub(crate) struct VirtualHost {
    /// Plain-text requests are redirected to https.
    pub(crate) https_only: bool,
    /// Upstream learns, in `x-envoy-attempt-count`, which attempt it serves.
    pub(crate) attempt_count: bool,
    routes: Vec<Arc<Route>>,
}

/// A route and all that its table and virtual host add to it.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Arc<str>,
    matcher: RouteMatch,
    pub(crate) action: Action,
    pub(crate) request: Mutations,
    pub(crate) response: Mutations,
    /// In place of the listener's fault filter.
    pub(crate) fault: Option<Fault>,
}

#[derive(Debug)]
struct RouteMatch {
    path: PathMatch,
    ignore_case: bool,
    headers: Vec<HeaderMatch>,
    query: Vec<QueryMatch>,
    share: Option<Share>,
    grpc_only: bool,
}

/// A predicate over the path, without its query string.
#[derive(Clone, Debug)]
pub(crate) enum PathMatch {
    Prefix(Box<str>),
    /// A prefix of whole segments, without a slash at its end.
    Segments(Box<str>),
    Exact(Box<str>),
    Regex(Regex),
}

impl RouteTable {
    pub(crate) fn compile(mut wire: RouteConfiguration) -> Result<Self, Invalid> {
        let outer = Levels {
            request: Mutations::compile(
                mem::take(&mut wire.request_headers_to_add),
                mem::take(&mut wire.request_headers_to_remove),
            )?,
            response: Mutations::compile(
                mem::take(&mut wire.response_headers_to_add),
                mem::take(&mut wire.response_headers_to_remove),
            )?,
            fault: fault(mem::take(&mut wire.typed_per_filter_config))?,
        };
        let mut table = Self {
            name: mem::take(&mut wire.name).into(),
            hosts: HostIndex::default(),
            virtual_hosts: Vec::new(),
            ignore_port: mem::take(&mut wire.ignore_port_in_host_matching),
            clusters: BTreeSet::new(),
        };
        for host in mem::take(&mut wire.virtual_hosts) {
            let name = host.name.clone();
            table.add(host, &outer).within(|| format!("virtual host {name:?}"))?;
        }
        // Routes are checked against clusters at run time either way.
        (wire.validate_clusters, wire.metadata) = (None, None);
        nothing_left(&wire)?;
        Ok(table)
    }

    fn add(&mut self, mut wire: WireHost, outer: &Levels) -> Result<(), Invalid> {
        for domain in mem::take(&mut wire.domains) {
            self.hosts.add(&domain, self.virtual_hosts.len())?;
        }
        let levels = Levels {
            request: Mutations::compile(
                mem::take(&mut wire.request_headers_to_add),
                mem::take(&mut wire.request_headers_to_remove),
            )?
            .then(&outer.request),
            response: Mutations::compile(
                mem::take(&mut wire.response_headers_to_add),
                mem::take(&mut wire.response_headers_to_remove),
            )?
            .then(&outer.response),
            fault: fault(mem::take(&mut wire.typed_per_filter_config))?.or_else(|| outer.fault.clone()),
        };
        let https_only = match TlsRequirementType::try_from(mem::take(&mut wire.require_tls)) {
            Ok(TlsRequirementType::None) => false,
            Ok(TlsRequirementType::All) => true,
            other => return Err(Invalid::Unsupported(format!("VirtualHost.require_tls {other:?}"))),
        };
        let mut host = VirtualHost {
            https_only,
            attempt_count: mem::take(&mut wire.include_request_attempt_count),
            routes: Vec::new(),
        };
        let retry = wire.retry_policy.take();
        for (at, route) in mem::take(&mut wire.routes).into_iter().enumerate() {
            let name = route.name.clone();
            let route = Route::compile(route, &levels, retry.as_ref()).within(|| format!("route {at} {name:?}"))?;
            self.clusters.extend(route.action.clusters().cloned());
            host.routes.push(Arc::new(route));
        }
        self.virtual_hosts.push(host);
        wire.name.clear();
        wire.metadata = None;
        nothing_left(&wire)
    }

    /// The virtual host of an authority in lower case.
    pub(crate) fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        let host = if self.ignore_port { without_port(authority) } else { authority };
        self.hosts.find(host).map(|at| &self.virtual_hosts[at])
    }
}

impl VirtualHost {
    /// The first route that the request matches.
    pub(crate) fn route(&self, subject: &Subject<'_>) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.matcher.matches(subject))
    }
}

/// The part of an authority before its port.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => authority,
    }
}

/// What outer levels add to a route.
struct Levels {
    request: Mutations,
    response: Mutations,
    fault: Option<Fault>,
}

impl Route {
    fn compile(
        mut wire: WireRoute,
        outer: &Levels,
        retry: Option<&proto::envoy::config::route::v3::RetryPolicy>,
    ) -> Result<Self, Invalid> {
        let matcher = RouteMatch::compile(wire.r#match.take().ok_or(Invalid::Missing("match"))?)?;
        let action = match wire.action.take() {
            Some(WireAction::Route(forward)) => action::forward(forward, &matcher.path, retry)?,
            Some(WireAction::Redirect(redirect)) => action::redirect(redirect, &matcher.path)?,
            Some(WireAction::DirectResponse(direct)) => action::direct(direct)?,
            Some(_) => return Err(Invalid::Unsupported("a route action that neither routes nor answers".to_owned())),
            None => return Err(Invalid::Missing("action")),
        };
        let route = Self {
            name: mem::take(&mut wire.name).into(),
            matcher,
            action,
            request: Mutations::compile(
                mem::take(&mut wire.request_headers_to_add),
                mem::take(&mut wire.request_headers_to_remove),
            )?
            .then(&outer.request),
            response: Mutations::compile(
                mem::take(&mut wire.response_headers_to_add),
                mem::take(&mut wire.response_headers_to_remove),
            )?
            .then(&outer.response),
            fault: fault(mem::take(&mut wire.typed_per_filter_config))?.or_else(|| outer.fault.clone()),
        };
        // Names for people and traces; nothing depends on them here.
        (wire.metadata, wire.decorator) = (None, None);
        wire.stat_prefix.clear();
        nothing_left(&wire)?;
        Ok(route)
    }
}

fn fault(mut overrides: HashMap<String, Any>) -> Result<Option<Fault>, Invalid> {
    let fault = overrides.remove(FAULT_FILTER);
    if let Some(name) = overrides.keys().next() {
        return Err(Invalid::Unsupported(format!("typed_per_filter_config of {name:?}")));
    }
    fault.map(|any| Fault::compile(unpack::<HttpFault>(&any)?)).transpose()
}

impl RouteMatch {
    fn compile(mut wire: WireMatch) -> Result<Self, Invalid> {
        let share = wire.runtime_fraction.take();
        let share = share.map(|fraction| Share::compile(fraction.default_value.unwrap_or_default())).transpose()?;
        let case_sensitive = wire.case_sensitive.take();
        let matcher = Self {
            path: PathMatch::compile(wire.path_specifier.take().ok_or(Invalid::Missing("path_specifier"))?)?,
            ignore_case: case_sensitive.is_some() && !flag(case_sensitive),
            headers: mem::take(&mut wire.headers).into_iter().map(HeaderMatch::compile).collect::<Result<_, _>>()?,
            query: mem::take(&mut wire.query_parameters)
                .into_iter()
                .map(QueryMatch::compile)
                .collect::<Result<_, _>>()?,
            share,
            grpc_only: wire.grpc.take().is_some(),
        };
        nothing_left(&wire)?;
        Ok(matcher)
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.path.matches(subject.path, self.ignore_case)
            && (!self.grpc_only || is_grpc(subject.headers))
            && self.headers.iter().all(|header| header.matches(subject))
            && self.query.iter().all(|query| query.matches(subject.query))
            && self.share.is_none_or(Share::draw)
    }
}

/// Whether a message's content type is gRPC's.
pub(crate) fn is_grpc(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

impl PathMatch {
    fn compile(wire: PathSpecifier) -> Result<Self, Invalid> {
        Ok(match wire {
            PathSpecifier::Prefix(prefix) => Self::Prefix(prefix.into()),
            PathSpecifier::Path(path) => Self::Exact(path.into()),
            PathSpecifier::PathSeparatedPrefix(prefix) => Self::Segments(prefix.into()),
            PathSpecifier::SafeRegex(regex) => Self::Regex(whole_regex(regex)?),
            PathSpecifier::ConnectMatcher(_) => return Err(Invalid::Unsupported("connect_matcher".to_owned())),
            PathSpecifier::PathMatchPolicy(_) => return Err(Invalid::Unsupported("path_match_policy".to_owned())),
        })
    }

    fn matches(&self, path: &str, ignore_case: bool) -> bool {
        let same = |a: &[u8], b: &[u8]| if ignore_case { a.eq_ignore_ascii_case(b) } else { a == b };
        let starts =
            |prefix: &str| path.as_bytes().get(..prefix.len()).is_some_and(|start| same(start, prefix.as_bytes()));
        match self {
            Self::Prefix(prefix) => starts(prefix),
            Self::Segments(prefix) => starts(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/')),
            Self::Exact(exact) => same(path.as_bytes(), exact.as_bytes()),
            Self::Regex(regex) => regex.is_match(path.as_bytes()),
        }
    }

    /// How much of a matching path the match consumed: what a prefix rewrite replaces.
    pub(crate) fn consumed(&self, path: &str) -> usize {
        match self {
            Self::Prefix(prefix) | Self::Segments(prefix) => prefix.len(),
            Self::Exact(_) | Self::Regex(_) => path.len(),
        }
    }
}
