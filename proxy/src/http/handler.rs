//! From a client's request to its answer: normalize, route, pass through the layers.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    body::{Meter, RequestBody, ResponseBody},
    connection::HttpConnection,
    exchange::{Exchange, Notes, Outcome, subject},
    headers::{set_forwarded, strip_hop_by_hop, upgrade},
    layers::{self, Handle},
    normalize::{Rules, normalize},
    reply::{Failure, plain},
    report::Report,
    upgrade::mark,
};
use crate::config::{Action, Forward, Redirect, Route, RouteTable, Routes, Snapshot, is_grpc, to_https};

const UPSTREAM_TIME: &str = "x-envoy-upstream-service-time";

/// Serves one request.
pub(crate) async fn handle(connection: Arc<HttpConnection>, request: Request<Incoming>) -> Response<ResponseBody> {
    let direction = connection.config.direction;
    let telemetry = &connection.shared.telemetry;
    let active = connection.activity.begin();
    let mut report = Report::begin(telemetry, connection.worker, direction, &connection.peer, &request, active);
    let (grpc, http1) = (is_grpc(request.headers()), request.version() != Version::HTTP_2);
    let mut response = match answer(&connection, request, &mut report).await {
        Ok(response) => response,
        Err(failure) => {
            tracing::debug!(?failure, "request not forwarded");
            report.flag(failure.flags());
            failure.reply(grpc)
        }
    };
    if connection.drains() && http1 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    report.answered(response.status(), response.headers());
    if response.body().is_end_stream() {
        report.complete();
    }
    response.map(|body| body.report(report))
}

async fn answer(connection: &Arc<HttpConnection>, request: Request<Incoming>, report: &mut Report) -> Outcome {
    let (mut parts, body) = request.into_parts();
    let rules = Rules {
        uri_bytes_max: connection.shared.limits.uri_bytes_max,
        keep_escaped_slashes: connection.config.keep_escaped_slashes,
    };
    normalize(&mut parts, rules).map_err(Failure::Malformed)?;
    let wants_upgrade = upgrade(&parts.headers).filter(|_| parts.version == Version::HTTP_11);
    strip_hop_by_hop(&mut parts.headers);
    set_forwarded(&mut parts.headers, &connection.config, &connection.peer);
    let meter = (!body.is_end_stream()).then(|| Arc::new(Meter::default()));
    report.accepted(&parts.headers, &connection.peer, meter.as_ref());
    let body = match &meter {
        Some(meter) => RequestBody::Streaming { body, meter: meter.clone() },
        None => RequestBody::Empty,
    };
    let mut request = Request::from_parts(parts, body);

    let scheme = if connection.peer.tls { "https" } else { "http" };
    let snapshot = connection.shared.snapshot.load_full();
    let table = table(&connection.config.routes, &snapshot).ok_or(Failure::NoRoute)?;
    let subject = subject(&request, scheme);
    let host = table.virtual_host(subject.authority).ok_or(Failure::NoRoute)?;
    if host.https_only && !connection.peer.tls {
        return redirect(&to_https(), &request, scheme);
    }
    let count_attempts = host.attempt_count;
    let route = host.route(&subject).ok_or(Failure::NoRoute)?.clone();
    match &route.action {
        Action::Direct(direct) => Ok(finish(&route, plain(direct.status, direct.body.clone()))),
        Action::Redirect(to) => Ok(finish(&route, redirect(to, &request, scheme)?)),
        Action::Forward(forward) => {
            let target = forward.target();
            let cluster = snapshot.clusters.get(&target.cluster).cloned().ok_or(forward.no_cluster);
            let destination = cluster.as_ref().map(|cluster| cluster.party);
            report.routed(&route.name, &target.cluster, destination.unwrap_or_default());
            let client = prepare(connection, &mut request, &route, forward, target, wants_upgrade)?;
            let exchange = Exchange {
                request: Some(request),
                meter,
                replay: None,
                upgrade: client,
                worker: connection.worker,
                listener: connection.config.clone(),
                route: route.clone(),
                cluster,
                timeout: forward.timeout,
                retry: forward.retry.clone(),
                replay_bytes_max: connection.shared.limits.replay_bytes_max,
                count_attempts,
                permit: None,
                tried: Vec::new(),
                notes: Notes::default(),
            };
            let mut response = finish(&route, pass(exchange, report).await?);
            target.response.apply(response.headers_mut());
            Ok(response)
        }
    }
}

fn table<'a>(routes: &'a Routes, snapshot: &'a Snapshot) -> Option<&'a Arc<RouteTable>> {
    match routes {
        Routes::Named(name) => snapshot.routes.get(name),
        Routes::Inline(table) => Some(table),
    }
}

/// Makes the route's changes to the request. Returns the client's side of an upgrade that the request asks for.
fn prepare(
    connection: &HttpConnection,
    request: &mut Request<RequestBody>,
    route: &Route,
    forward: &Forward,
    target: &crate::config::Target,
    wants_upgrade: Option<HeaderValue>,
) -> Result<Option<hyper::upgrade::OnUpgrade>, Failure> {
    target.request.apply(request.headers_mut());
    route.request.apply(request.headers_mut());
    let host = target.host.as_ref().or(target.request.host()).or(forward.host.as_ref()).or(route.request.host());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host.clone());
    }
    if let Some(rewrite) = &forward.path {
        let path = rewrite.apply(request.uri().path());
        let slash = if path.starts_with('/') { "" } else { "/" };
        let target = match request.uri().query() {
            Some(query) => format!("{slash}{path}?{query}"),
            None => format!("{slash}{path}"),
        };
        *request.uri_mut() = target.parse().map_err(|_| Failure::Malformed(super::normalize::Malformed::Target))?;
    }
    let Some(protocol) = wants_upgrade else { return Ok(None) };
    if !connection.config.websocket || !protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return Err(Failure::UpgradeRefused);
    }
    mark(request.headers_mut(), protocol);
    Ok(Some(hyper::upgrade::on(request)))
}

/// Sends the request through the layers of its cluster.
async fn pass(mut exchange: Exchange, report: &mut Report) -> Outcome {
    let started = Instant::now();
    let outcome = layers::stack().handle(&mut exchange).await;
    report.noted(&exchange.notes);
    let mut response = outcome?;
    if exchange.notes.attempts > 0 {
        let time = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        response.headers_mut().insert(UPSTREAM_TIME, HeaderValue::from(time));
    }
    Ok(response)
}

/// Makes the route's changes to the response.
fn finish(route: &Route, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    route.response.apply(response.headers_mut());
    response
}

fn redirect<B>(to: &Redirect, request: &Request<B>, scheme: &str) -> Outcome {
    let subject = subject(request, scheme);
    let location = to.location(subject.scheme, subject.authority, subject.path, subject.query);
    let mut response = plain(to.status, bytes::Bytes::new());
    let location =
        HeaderValue::try_from(location).map_err(|_| Failure::Malformed(super::normalize::Malformed::Target))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}
