//! Another attempt, where the route's policy and the cluster's circuit breaker allow one.

use std::{sync::Arc, time::Duration};

use tower::Layer;

use super::Handle;
use crate::{
    config::RetryPolicy,
    http::{
        exchange::{Exchange, Outcome},
        reply::{Failure, Flags},
    },
    upstream::{Cluster, Permit, Resource},
};

pub(crate) struct RetryLayer;

pub(crate) struct WithRetry<S>(S);

impl<S> Layer<S> for RetryLayer {
    type Service = WithRetry<S>;
    fn layer(&self, inner: S) -> WithRetry<S> {
        WithRetry(inner)
    }
}

impl<S: Handle> Handle for WithRetry<S> {
    async fn handle(&self, exchange: &mut Exchange) -> Outcome {
        let (Some(policy), Ok(cluster)) = (exchange.retry.clone(), exchange.cluster.clone()) else {
            return self.0.handle(exchange).await;
        };
        let replay = policy.needs_replay(cluster.config.protocol);
        if replay {
            exchange.keep_body();
        }
        let mut retrying: Option<Permit> = None;
        for retry in 1.. {
            let spare = exchange.request.as_ref().filter(|_| replay).map(head);
            let outcome = self.0.handle(exchange).await;
            if !asks_for_retry(&policy, &outcome) || exchange.upgrade.is_some() {
                return outcome;
            }
            if retry > policy.retries {
                exchange.notes.flags.add(Flags::RETRY_LIMIT);
                return outcome;
            }
            if !exchange.restore(spare) {
                return outcome;
            }
            // The one before is given back first: a request retries once at a time.
            drop(retrying.take());
            retrying = admit(&cluster);
            if retrying.is_none() {
                return outcome;
            }
            tokio::time::sleep(jittered(policy.back_off(retry))).await;
        }
        Err(Failure::Reset)
    }
}

fn head(request: &http::Request<crate::http::RequestBody>) -> http::request::Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    parts
}

/// Full jitter: anything between nothing and the bound.
fn jittered(bound: Duration) -> Duration {
    bound.mul_f64(rand::random())
}

fn admit(cluster: &Arc<Cluster>) -> Option<Permit> {
    let thresholds = &cluster.config.thresholds;
    let limit = match thresholds.retry_budget {
        None => thresholds.retries,
        Some((percent, at_least)) => {
            let active = cluster.breakers.active(Resource::Requests) + cluster.breakers.active(Resource::Pending);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32, saturating")]
            let share = (f64::from(active) * percent / 100.0) as u32;
            share.max(at_least)
        }
    };
    cluster.breakers.acquire(Resource::Retries, limit)
}

fn asks_for_retry(policy: &RetryPolicy, outcome: &Outcome) -> bool {
    let on = policy.on;
    let any_error = on.any_5xx || on.gateway_error;
    match outcome {
        Ok(response) => {
            let grpc = response.headers().get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
            policy.takes_response(response.status(), grpc)
        }
        Err(Failure::Connect(_)) => any_error || on.reset || on.connect_failure,
        Err(Failure::Unsent) => any_error || on.reset || on.reset_before_request,
        Err(Failure::RefusedStream) => any_error || on.reset || on.refused_stream,
        Err(Failure::Reset | Failure::TryTimeout) => any_error || on.reset,
        Err(_) => false,
    }
}
