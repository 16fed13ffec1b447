//! When a request is sent again.

use std::{mem, time::Duration};

use http::StatusCode;
use proto::envoy::config::route::v3::RetryPolicy as WireRetry;

use super::{
    Protocol,
    wire::{Invalid, nothing_left, number, optional_duration},
};

/// Envoy's defaults: attempts after the first, base interval, and the longest interval as a multiple of the base.
const RETRIES: u32 = 1;
const BASE_INTERVAL: Duration = Duration::from_millis(25);
const MAX_INTERVAL_FACTOR: u32 = 10;
const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";

/// A route's retry policy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RetryPolicy {
    /// Attempts after the first.
    pub(crate) retries: u32,
    pub(crate) on: RetryOn,
    pub(crate) statuses: Vec<StatusCode>,
    pub(crate) per_try_timeout: Option<Duration>,
    pub(crate) base_interval: Duration,
    pub(crate) max_interval: Duration,
    /// Endpoints that failed this request are avoided; so often is another drawn.
    pub(crate) avoid_tried: Option<u32>,
}

/// What a retry answers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent word of Envoy's retry_on list")]
pub(crate) struct RetryOn {
    pub(crate) connect_failure: bool,
    pub(crate) refused_stream: bool,
    pub(crate) reset: bool,
    pub(crate) reset_before_request: bool,
    pub(crate) any_5xx: bool,
    pub(crate) gateway_error: bool,
    pub(crate) retriable_4xx: bool,
    pub(crate) retriable_status_codes: bool,
    /// Bit N: gRPC status N in the response's headers.
    pub(crate) grpc: u32,
}

impl RetryPolicy {
    pub(crate) fn compile(mut wire: WireRetry) -> Result<Self, Invalid> {
        let (on, mut statuses) = RetryOn::parse(&mem::take(&mut wire.retry_on))?;
        for code in mem::take(&mut wire.retriable_status_codes) {
            statuses.push(status(code)?);
        }
        let back_off = wire.retry_back_off.take().unwrap_or_default();
        let base_interval = optional_duration("base_interval", back_off.base_interval)?.unwrap_or(BASE_INTERVAL);
        let max_interval = optional_duration("max_interval", back_off.max_interval)?;
        let policy = Self {
            retries: number(wire.num_retries.take()).unwrap_or(RETRIES),
            on,
            statuses,
            per_try_timeout: optional_duration("per_try_timeout", wire.per_try_timeout.take())?,
            base_interval,
            max_interval: max_interval.unwrap_or(base_interval * MAX_INTERVAL_FACTOR).max(base_interval),
            avoid_tried: avoid_tried(&mut wire)?,
        };
        nothing_left(&wire)?;
        Ok(policy)
    }

    /// The longest wait before retry number `retry`, counted from 1; the wait is drawn between 0 and this.
    pub(crate) fn back_off(&self, retry: u32) -> Duration {
        let factor = 1_u32.checked_shl(retry.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
        self.base_interval.saturating_mul(factor).min(self.max_interval)
    }

    /// Whether it may ask for a request again that was, in part or wholly, sent.
    pub(crate) fn needs_replay(&self, protocol: Protocol) -> bool {
        let only_unsent = RetryOn {
            connect_failure: self.on.connect_failure,
            reset_before_request: self.on.reset_before_request,
            // Only HTTP/2 has streams to refuse.
            refused_stream: self.on.refused_stream && protocol == Protocol::Http1,
            ..RetryOn::default()
        };
        self.on != only_unsent
    }

    /// Whether a response with this status, and gRPC status if it has one, is to be tried again.
    pub(crate) fn takes_response(&self, status: StatusCode, grpc: Option<u32>) -> bool {
        let on = self.on;
        (on.any_5xx && status.is_server_error())
            || (on.gateway_error && matches!(status.as_u16(), 502..=504))
            || (on.retriable_4xx && status == StatusCode::CONFLICT)
            || (on.retriable_status_codes && self.statuses.contains(&status))
            || grpc.is_some_and(|grpc| grpc < 32 && on.grpc & (1 << grpc) != 0)
    }
}

impl RetryOn {
    /// Reads the comma-separated list; a bare number is a retriable status code, as Istio writes it.
    fn parse(list: &str) -> Result<(Self, Vec<StatusCode>), Invalid> {
        let (mut on, mut statuses) = (Self::default(), Vec::new());
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "connect-failure" => on.connect_failure = true,
                "refused-stream" => on.refused_stream = true,
                "reset" => on.reset = true,
                "reset-before-request" => on.reset_before_request = true,
                "5xx" => on.any_5xx = true,
                "gateway-error" => on.gateway_error = true,
                "retriable-4xx" => on.retriable_4xx = true,
                "retriable-status-codes" => on.retriable_status_codes = true,
                "cancelled" => on.grpc |= 1 << 1,
                "deadline-exceeded" => on.grpc |= 1 << 4,
                "resource-exhausted" => on.grpc |= 1 << 8,
                "internal" => on.grpc |= 1 << 13,
                "unavailable" => on.grpc |= 1 << 14,
                number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    statuses.push(status(number.parse().map_err(|error| Invalid::bad("retry_on", error))?)?);
                    on.retriable_status_codes = true;
                }
                other => return Err(Invalid::Unsupported(format!("retry_on {other:?}"))),
            }
        }
        Ok((on, statuses))
    }
}

fn status(code: u32) -> Result<StatusCode, Invalid> {
    let code = u16::try_from(code).map_err(|error| Invalid::bad("status code", error))?;
    StatusCode::from_u16(code).map_err(|error| Invalid::bad("status code", error))
}

fn avoid_tried(wire: &mut WireRetry) -> Result<Option<u32>, Invalid> {
    let attempts = mem::take(&mut wire.host_selection_retry_max_attempts);
    let mut avoid = None;
    for predicate in mem::take(&mut wire.retry_host_predicate) {
        if predicate.name != PREVIOUS_HOSTS {
            return Err(Invalid::Unsupported(format!("retry_host_predicate {:?}", predicate.name)));
        }
        avoid = Some(u32::try_from(attempts.max(1)).map_err(|error| Invalid::bad("attempts", error))?);
    }
    Ok(avoid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retry_on: &str) -> Result<RetryPolicy, Invalid> {
        RetryPolicy::compile(WireRetry { retry_on: retry_on.to_owned(), ..WireRetry::default() })
    }

    #[test]
    fn words_decide_which_responses_are_retried() {
        for (words, code, grpc, expected) in [
            ("5xx", 500, None, true),
            ("5xx", 499, None, false),
            ("gateway-error", 500, None, false),
            ("gateway-error", 503, None, true),
            ("retriable-4xx", 409, None, true),
            ("connect-failure,refused-stream,reset-before-request", 503, None, false),
            ("connect-failure, 429", 429, None, true),
            ("unavailable", 200, Some(14), true),
            ("unavailable", 200, Some(13), false),
            ("cancelled", 200, None, false),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(policy(words).expect("valid").takes_response(status, grpc), expected, "{words} {code} {grpc:?}");
        }
        assert!(policy("envoy-ratelimited").is_err());
    }

    #[test]
    fn the_back_off_doubles_up_to_its_bound() {
        let policy = policy("5xx").expect("valid");
        let bounds: Vec<_> = (1..=6).map(|retry| policy.back_off(retry).as_millis()).collect();
        assert_eq!(bounds, [25, 50, 100, 200, 250, 250]);
        assert_eq!(policy.back_off(u32::MAX).as_millis(), 250);
    }
}
