//! The end of the path: an endpoint is chosen and the request sent.

use std::time::Instant;

use http::{HeaderValue, StatusCode};

use super::Handle;
use crate::{
    http::{
        body::ResponseBody,
        exchange::{Exchange, Outcome},
        headers::strip_hop_by_hop,
        reply::Failure,
        upgrade,
    },
    upstream::{Resource, SendFailure, Sent, send},
};

const ATTEMPT_COUNT: &str = "x-envoy-attempt-count";

pub(crate) struct Balance;

impl Handle for Balance {
    async fn handle(&self, exchange: &mut Exchange) -> Outcome {
        let cluster = exchange.cluster.clone().map_err(Failure::NoCluster)?;
        let avoid = exchange.retry.as_ref().is_some_and(|policy| policy.avoid_tried.is_some());
        let endpoint = cluster
            .balancer
            .pick(Instant::now(), |endpoint| avoid && exchange.tried.contains(&endpoint.address))
            .ok_or(Failure::NoHealthy)?
            .clone();
        let Some(mut request) = exchange.request.take() else { return Err(Failure::Reset) };
        let permit = exchange.permit.take();
        let permit = permit.unwrap_or_else(|| cluster.breakers.acquire_regardless(Resource::Requests));
        if avoid {
            exchange.tried.push(endpoint.address);
        }
        let begun = exchange.begin_attempt(endpoint.address);
        if exchange.count_attempts {
            request.headers_mut().insert(ATTEMPT_COUNT, HeaderValue::from(exchange.notes.attempts));
        }
        let meter = exchange.meter.clone();
        match send(&cluster, &endpoint, exchange.worker, request, permit, meter).await {
            Ok(sent) => {
                exchange.notes.party = Some(sent.party);
                exchange.notes.upstream = Some(sent.address);
                exchange.notes.upstream_time = Some(begun.elapsed());
                Ok(respond(exchange, sent))
            }
            Err(failure) => Err(keep(exchange, failure)),
        }
    }
}

fn respond(exchange: &mut Exchange, mut sent: Sent) -> http::Response<ResponseBody> {
    let switching = sent.response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switching && let Some(client) = exchange.upgrade.take() {
        let protocol = sent.response.headers().get(http::header::UPGRADE).cloned();
        upgrade::tunnel(client, &mut sent.response, sent.lease);
        let (mut parts, _) = sent.response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        if let Some(protocol) = protocol {
            upgrade::mark(&mut parts.headers, protocol);
        }
        return http::Response::from_parts(parts, ResponseBody::full(bytes::Bytes::new()));
    }
    let (mut parts, body) = sent.response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    // Each hop has its own version of HTTP.
    parts.version = http::Version::default();
    http::Response::from_parts(parts, ResponseBody::upstream(body, sent.lease))
}

/// Keeps a request that was not sent for another attempt.
fn keep(exchange: &mut Exchange, failure: SendFailure) -> Failure {
    let (request, failure) = match failure {
        SendFailure::Overflow(request) => (Some(request), Failure::Overflow),
        SendFailure::Connect(request, failure) => (Some(request), Failure::Connect(failure)),
        SendFailure::Unsent(request) => (Some(request), Failure::Unsent),
        SendFailure::Refused => (None, Failure::RefusedStream),
        SendFailure::Reset(error) => {
            tracing::debug!(%error, "upstream ended the request");
            (None, Failure::Reset)
        }
    };
    exchange.request = request;
    failure
}
