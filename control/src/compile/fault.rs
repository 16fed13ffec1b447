//! Faults that a route injects.

use proto::envoy::{
    extensions::filters::{
        common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
        http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
    },
    r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
};

use super::wire::duration;
use crate::model::virtual_service::{self as spec, grpc_status};

/// The filter whose per-route configuration it is.
pub(super) const FAULT_FILTER: &str = "envoy.filters.http.fault";

pub(super) fn fault(fault: &spec::HttpFault) -> HttpFault {
    HttpFault { delay: fault.delay.as_ref().map(delay), abort: fault.abort.as_ref().map(abort), ..Default::default() }
}

fn delay(delay: &spec::FaultDelay) -> FaultDelay {
    let percent = delay.percentage.as_ref().map_or(f64::from(delay.percent), |percentage| percentage.value);
    FaultDelay {
        percentage: Some(share(percent)),
        fault_delay_secifier: delay.fixed_delay.map(|span| FaultDelaySecifier::FixedDelay(duration(span.0))),
    }
}

fn abort(abort: &spec::FaultAbort) -> FaultAbort {
    let percent = abort.percentage.as_ref().map_or(0.0, |percentage| percentage.value);
    let grpc = abort.grpc_status.as_deref().and_then(grpc_status).map(ErrorType::GrpcStatus);
    FaultAbort {
        percentage: Some(share(percent)),
        error_type: abort.http_status.map(ErrorType::HttpStatus).or(grpc),
        ..Default::default()
    }
}

/// A percentage to four decimals, which is Envoy's finest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "percentages are validated to be 0 to 100")]
fn share(percent: f64) -> FractionalPercent {
    let numerator = (percent.clamp(0.0, 100.0) * 10_000.0).round() as u32;
    FractionalPercent { numerator, denominator: DenominatorType::Million.into() }
}
