//! What a route does with a request: forward it, redirect it, or answer it.

use std::{borrow::Cow, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use proto::envoy::{
    config::{
        core::v3::{DataSource, data_source::Specifier},
        route::v3::{
            DirectResponseAction, RedirectAction, RetryPolicy as WireRetry, RouteAction, WeightedCluster,
            redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier},
            route_action::{ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration},
            weighted_cluster::cluster_weight::HostRewriteSpecifier as WeightHostRewrite,
        },
    },
    r#type::matcher::v3::RegexMatchAndSubstitute,
};
use regex::bytes::Regex;

use super::{
    cluster::route_timeout,
    matcher::part_regex,
    mutation::Mutations,
    retry::RetryPolicy,
    route::PathMatch,
    wire::{Invalid, duration, flag, nothing_left, number},
};

/// Largest body of a direct response, bytes: Envoy's default.
const DIRECT_BODY_BYTES_MAX: usize = 4_096;

/// What a route does.
#[derive(Debug)]
pub(crate) enum Action {
    Forward(Box<Forward>),
    Redirect(Redirect),
    Direct(Direct),
}

/// Sends the request to a cluster.
#[derive(Debug)]
pub(crate) struct Forward {
    targets: Targets,
    /// Covers all attempts and the whole response.
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    pub(crate) path: Option<PathRewrite>,
    pub(crate) host: Option<HeaderValue>,
    /// The answer when the cluster does not exist.
    pub(crate) no_cluster: StatusCode,
}

/// A cluster, and what choosing it changes.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) cluster: Arc<str>,
    pub(crate) request: Mutations,
    pub(crate) response: Mutations,
    pub(crate) host: Option<HeaderValue>,
}

#[derive(Debug)]
enum Targets {
    One(Target),
    /// Each with the sum of the weights up to and with its own; the total is not 0.
    Weighted {
        targets: Vec<(u64, Target)>,
        total: u64,
    },
}

/// A change of the path; the query string stays.
#[derive(Clone, Debug)]
pub(crate) enum PathRewrite {
    /// What the route's match consumed becomes this.
    Consumed {
        by: PathMatch,
        to: Box<str>,
    },
    Regex {
        pattern: Regex,
        to: Box<str>,
    },
}

/// Answers with a redirect.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(crate) status: StatusCode,
    scheme: Option<Box<str>>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<RedirectPath>,
    strip_query: bool,
}

#[derive(Debug)]
enum RedirectPath {
    /// May carry a query string of its own, which then replaces the request's.
    Whole(Box<str>),
    Rewrite(PathRewrite),
}

/// Answers by itself.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Action {
    /// Every cluster that may be chosen.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        let (one, many) = match self {
            Self::Forward(forward) => match &forward.targets {
                Targets::One(target) => (Some(target), &[][..]),
                Targets::Weighted { targets, .. } => (None, &targets[..]),
            },
            Self::Redirect(_) | Self::Direct(_) => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().map(|(_, target)| target)).map(|target| &target.cluster)
    }
}

impl Forward {
    /// Draws a target by weight.
    pub(crate) fn target(&self) -> &Target {
        match &self.targets {
            Targets::One(target) => target,
            Targets::Weighted { targets, total } => {
                let drawn = rand::random_range(0..*total);
                let at = targets.partition_point(|(sum, _)| *sum <= drawn);
                &targets[at].1
            }
        }
    }
}

impl PathRewrite {
    pub(crate) fn apply<'a>(&self, path: &'a str) -> Cow<'a, str> {
        match self {
            Self::Consumed { by, to } => Cow::Owned(format!("{to}{}", &path[by.consumed(path).min(path.len())..])),
            Self::Regex { pattern, to } => match pattern.replace_all(path.as_bytes(), to.as_bytes()) {
                Cow::Borrowed(_) => Cow::Borrowed(path),
                Cow::Owned(bytes) => String::from_utf8(bytes).map_or(Cow::Borrowed(path), Cow::Owned),
            },
        }
    }
}

impl Redirect {
    /// The `location` of a request's redirect.
    pub(crate) fn location(&self, scheme: &str, authority: &str, path: &str, query: Option<&str>) -> String {
        let host = self.host.as_deref().unwrap_or_else(|| super::route::without_port(authority));
        let port = match self.port {
            Some(port) => format!(":{port}"),
            // A change of scheme drops the old scheme's port; a change of host names its own.
            None if self.scheme.is_some() || self.host.is_some() => String::new(),
            None => authority[super::route::without_port(authority).len()..].to_owned(),
        };
        let rewritten = match &self.path {
            None => Cow::Borrowed(path),
            Some(RedirectPath::Whole(whole)) => Cow::Borrowed(&**whole),
            Some(RedirectPath::Rewrite(rewrite)) => rewrite.apply(path),
        };
        let query = query.filter(|_| !self.strip_query && !rewritten.contains('?'));
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}://{host}{port}{rewritten}{query}", self.scheme.as_deref().unwrap_or(scheme))
    }
}

/// Reads a forwarding action; `outer_retry` is the virtual host's policy.
pub(crate) fn forward(
    mut wire: RouteAction,
    matched: &PathMatch,
    outer_retry: Option<&WireRetry>,
) -> Result<Action, Invalid> {
    let targets = match wire.cluster_specifier.take().ok_or(Invalid::Missing("cluster_specifier"))? {
        ClusterSpecifier::Cluster(name) => Targets::One(Target {
            cluster: name.into(),
            request: Mutations::default(),
            response: Mutations::default(),
            host: None,
        }),
        ClusterSpecifier::WeightedClusters(weighted) => weighted_targets(weighted)?,
        _ => return Err(Invalid::Unsupported("a cluster specifier other than a name or weights".to_owned())),
    };
    let host = match wire.host_rewrite_specifier.take() {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(host_value(&host)?),
        Some(_) => return Err(Invalid::Unsupported("a host rewrite that is not literal".to_owned())),
    };
    let retry = wire.retry_policy.take().or_else(|| outer_retry.cloned());
    let no_cluster = match mem::take(&mut wire.cluster_not_found_response_code) {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        1 => StatusCode::NOT_FOUND,
        2 => StatusCode::INTERNAL_SERVER_ERROR,
        other => return Err(Invalid::bad("cluster_not_found_response_code", other)),
    };
    no_stream_limit(wire.max_stream_duration.take())?;
    let forward = Forward {
        targets,
        timeout: route_timeout(wire.timeout.take())?,
        retry: retry.map(RetryPolicy::compile).transpose()?.filter(|policy| policy.retries > 0).map(Arc::new),
        path: path_rewrite(mem::take(&mut wire.prefix_rewrite), wire.regex_rewrite.take(), matched)?,
        host,
        no_cluster,
    };
    nothing_left(&wire)?;
    Ok(Action::Forward(Box::new(forward)))
}

#[expect(deprecated, reason = "a total that differs from the sum must be refused, not overlooked")]
fn weighted_targets(mut wire: WeightedCluster) -> Result<Targets, Invalid> {
    let (mut targets, mut total) = (Vec::new(), 0_u64);
    for mut cluster in mem::take(&mut wire.clusters) {
        total += u64::from(number(cluster.weight.take()).ok_or(Invalid::Missing("weight"))?);
        let target = Target {
            cluster: mem::take(&mut cluster.name).into(),
            request: Mutations::compile(
                mem::take(&mut cluster.request_headers_to_add),
                mem::take(&mut cluster.request_headers_to_remove),
            )?,
            response: Mutations::compile(
                mem::take(&mut cluster.response_headers_to_add),
                mem::take(&mut cluster.response_headers_to_remove),
            )?,
            host: match cluster.host_rewrite_specifier.take() {
                None => None,
                Some(WeightHostRewrite::HostRewriteLiteral(host)) => Some(host_value(&host)?),
            },
        };
        nothing_left(&cluster)?;
        targets.push((total, target));
    }
    // Deprecated in Envoy, where it must equal the sum.
    if number(wire.total_weight.take()).is_some_and(|stated| u64::from(stated) != total) || total == 0 {
        return Err(Invalid::bad("total_weight", "is 0 or not the sum of the weights"));
    }
    wire.runtime_key_prefix.clear();
    nothing_left(&wire)?;
    Ok(Targets::Weighted { targets, total })
}

fn host_value(host: &str) -> Result<HeaderValue, Invalid> {
    HeaderValue::from_str(host).map_err(|error| Invalid::bad("host_rewrite_literal", error))
}

/// Istio writes this message with zeros, which limit nothing.
fn no_stream_limit(wire: Option<MaxStreamDuration>) -> Result<(), Invalid> {
    let wire = wire.unwrap_or_default();
    for limit in [wire.max_stream_duration, wire.grpc_timeout_header_max, wire.grpc_timeout_header_offset] {
        if limit.map(|limit| duration("max_stream_duration", limit)).transpose()?.is_some_and(|limit| !limit.is_zero())
        {
            return Err(Invalid::Unsupported("RouteAction.max_stream_duration".to_owned()));
        }
    }
    Ok(())
}

fn path_rewrite(
    prefix: String,
    regex: Option<RegexMatchAndSubstitute>,
    matched: &PathMatch,
) -> Result<Option<PathRewrite>, Invalid> {
    match (prefix.is_empty(), regex) {
        (true, None) => Ok(None),
        (false, None) => Ok(Some(PathRewrite::Consumed { by: matched.clone(), to: prefix.into() })),
        (true, Some(regex)) => Ok(Some(regex_rewrite(regex)?)),
        (false, Some(_)) => Err(Invalid::bad("regex_rewrite", "stands beside a prefix rewrite")),
    }
}

fn regex_rewrite(wire: RegexMatchAndSubstitute) -> Result<PathRewrite, Invalid> {
    let pattern = part_regex(wire.pattern.ok_or(Invalid::Missing("pattern"))?)?;
    Ok(PathRewrite::Regex { pattern, to: substitution(&wire.substitution)?.into() })
}

/// From RE2's `\1` to this library's `${1}`.
fn substitution(re2: &str) -> Result<String, Invalid> {
    let mut text = String::with_capacity(re2.len());
    let mut chars = re2.chars();
    while let Some(char) = chars.next() {
        match char {
            '$' => text.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => text.extend(["${", digit.to_string().as_str(), "}"]),
                Some('\\') => text.push('\\'),
                _ => return Err(Invalid::bad("substitution", "ends in a stray backslash")),
            },
            other => text.push(other),
        }
    }
    Ok(text)
}

/// Reads a redirect.
pub(crate) fn redirect(mut wire: RedirectAction, matched: &PathMatch) -> Result<Action, Invalid> {
    let status = match mem::take(&mut wire.response_code) {
        0 => StatusCode::MOVED_PERMANENTLY,
        1 => StatusCode::FOUND,
        2 => StatusCode::SEE_OTHER,
        3 => StatusCode::TEMPORARY_REDIRECT,
        4 => StatusCode::PERMANENT_REDIRECT,
        other => return Err(Invalid::bad("response_code", other)),
    };
    let scheme: Option<Box<str>> = match wire.scheme_rewrite_specifier.take() {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.into()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let path = match wire.path_rewrite_specifier.take() {
        None => None,
        Some(PathRewriteSpecifier::PathRedirect(path)) => Some(RedirectPath::Whole(path.into())),
        Some(PathRewriteSpecifier::PrefixRewrite(to)) => {
            Some(RedirectPath::Rewrite(PathRewrite::Consumed { by: matched.clone(), to: to.into() }))
        }
        Some(PathRewriteSpecifier::RegexRewrite(regex)) => Some(RedirectPath::Rewrite(regex_rewrite(regex)?)),
        Some(_) => return Err(Invalid::Unsupported("a redirect path by format string".to_owned())),
    };
    let redirect = Redirect {
        status,
        scheme,
        host: Some(mem::take(&mut wire.host_redirect)).filter(|host| !host.is_empty()).map(Into::into),
        port: match mem::take(&mut wire.port_redirect) {
            0 => None,
            port => Some(u16::try_from(port).map_err(|error| Invalid::bad("port_redirect", error))?),
        },
        path,
        strip_query: mem::take(&mut wire.strip_query),
    };
    nothing_left(&wire)?;
    Ok(Action::Redirect(redirect))
}

/// Reads a direct response.
pub(crate) fn direct(mut wire: DirectResponseAction) -> Result<Action, Invalid> {
    let status = u16::try_from(mem::take(&mut wire.status)).map_err(|error| Invalid::bad("status", error))?;
    let status = StatusCode::from_u16(status).map_err(|error| Invalid::bad("status", error))?;
    let body = inline(wire.body.take())?;
    if body.len() > DIRECT_BODY_BYTES_MAX {
        return Err(Invalid::bad("body", format!("is longer than {DIRECT_BODY_BYTES_MAX} bytes")));
    }
    nothing_left(&wire)?;
    Ok(Action::Direct(Direct { status, body }))
}

fn inline(source: Option<DataSource>) -> Result<Bytes, Invalid> {
    match source.and_then(|source| source.specifier) {
        None => Ok(Bytes::new()),
        Some(Specifier::InlineString(text)) => Ok(text.into()),
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.into()),
        Some(_) => Err(Invalid::Unsupported("a direct response from a file or the environment".to_owned())),
    }
}

/// The redirect that a virtual host with `require_tls` gives to plain text.
pub(crate) fn to_https() -> Redirect {
    Redirect {
        status: StatusCode::MOVED_PERMANENTLY,
        scheme: Some("https".into()),
        host: None,
        port: None,
        path: None,
        strip_query: false,
    }
}

/// Whether an optional flag of the wire is set to true; re-read here for upgrades.
pub(crate) fn enabled(wire: Option<proto::google::protobuf::BoolValue>) -> bool {
    wire.is_none() || flag(wire)
}
