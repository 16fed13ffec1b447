//! When a request is tried again.

use proto::envoy::{
    config::route::v3::{
        RetryPolicy,
        retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate},
    },
    extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
};

use super::wire::{any, duration, number};
use crate::model::virtual_service::HttpRetry;

/// Unless a route says otherwise, only what can not have been processed is sent again. Istio's own default also retries
/// some that may have been.
const RETRY_ON: &str = "connect-failure,refused-stream,reset-before-request";
const ATTEMPTS: u32 = 2;
/// How often another host is looked for before one that was tried is tried again.
const HOST_ATTEMPTS: i64 = 5;

/// What a route says of retries, or the default.
pub(super) fn retry_policy(retry: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let Some(retry) = retry else { return Some(policy(ATTEMPTS, RETRY_ON.to_owned(), Vec::new())) };
    if retry.attempts == 0 {
        return None;
    }
    let (retry_on, codes) = conditions(&retry.retry_on);
    let mut policy = policy(retry.attempts, retry_on, codes);
    policy.per_try_timeout = retry.per_try_timeout.filter(|span| !span.0.is_zero()).map(|span| duration(span.0));
    policy.retry_back_off =
        retry.backoff.map(|span| RetryBackOff { base_interval: Some(duration(span.0)), max_interval: None });
    if retry.retry_ignore_previous_hosts == Some(false) {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
    Some(policy)
}

/// A retry for the way into the workload: its connection may have been closed while idle.
pub(super) fn inbound_retry_policy() -> RetryPolicy {
    RetryPolicy { retry_on: "reset-before-request".to_owned(), num_retries: number(ATTEMPTS), ..Default::default() }
}

fn policy(attempts: u32, retry_on: String, retriable_status_codes: Vec<u32>) -> RetryPolicy {
    let previous_hosts = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
    };
    RetryPolicy {
        retry_on,
        num_retries: number(attempts),
        retriable_status_codes,
        retry_host_predicate: vec![previous_hosts],
        host_selection_retry_max_attempts: HOST_ATTEMPTS,
        ..Default::default()
    }
}

/// Splits conditions from status codes, which Envoy takes apart.
fn conditions(retry_on: &str) -> (String, Vec<u32>) {
    let parts: Vec<_> = retry_on.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    let codes: Vec<u32> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    let mut names: Vec<_> = parts.into_iter().filter(|part| part.parse::<u32>().is_err()).collect();
    if names.is_empty() && codes.is_empty() {
        return (RETRY_ON.to_owned(), codes);
    }
    if !codes.is_empty() && !names.contains(&"retriable-status-codes") {
        names.push("retriable-status-codes");
    }
    (names.join(","), codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_codes_are_told_apart() {
        for (text, names, codes) in [
            ("", RETRY_ON, vec![]),
            ("5xx, reset", "5xx,reset", vec![]),
            ("503,gateway-error", "gateway-error,retriable-status-codes", vec![503]),
            ("503,504,retriable-status-codes", "retriable-status-codes", vec![503, 504]),
        ] {
            assert_eq!(conditions(text), (names.to_owned(), codes), "{text}");
        }
    }
}
