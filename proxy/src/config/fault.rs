//! Injected delays and aborts.

use std::{mem, time::Duration};

use http::StatusCode;
use proto::envoy::extensions::filters::{
    common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
    http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
};

use super::{
    matcher::{HeaderMatch, Share, Subject},
    wire::{Invalid, duration, nothing_left},
};

/// The name under which routes override the filter.
pub(crate) const FAULT_FILTER: &str = "envoy.filters.http.fault";

/// What goes wrong, and for which requests.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) delay: Option<(Share, Duration)>,
    pub(crate) abort: Option<(Share, Abort)>,
    headers: Vec<HeaderMatch>,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abort {
    Http(StatusCode),
    /// A gRPC status, in a response of HTTP status 200.
    Grpc(u32),
}

impl Fault {
    pub(crate) fn compile(mut wire: HttpFault) -> Result<Self, Invalid> {
        let fault = Self {
            delay: wire.delay.take().map(delay).transpose()?,
            abort: wire.abort.take().map(abort).transpose()?,
            headers: mem::take(&mut wire.headers).into_iter().map(HeaderMatch::compile).collect::<Result<_, _>>()?,
        };
        nothing_left(&wire)?;
        Ok(fault)
    }

    pub(crate) fn applies(&self, subject: &Subject<'_>) -> bool {
        self.headers.iter().all(|header| header.matches(subject))
    }
}

fn delay(mut wire: FaultDelay) -> Result<(Share, Duration), Invalid> {
    let share = Share::compile(wire.percentage.take().ok_or(Invalid::Missing("delay.percentage"))?)?;
    match wire.fault_delay_secifier.take() {
        Some(FaultDelaySecifier::FixedDelay(fixed)) => Ok((share, duration("fixed_delay", fixed)?)),
        _ => Err(Invalid::Unsupported("a fault delay that is not fixed".to_owned())),
    }
}

fn abort(mut wire: FaultAbort) -> Result<(Share, Abort), Invalid> {
    let share = Share::compile(wire.percentage.take().ok_or(Invalid::Missing("abort.percentage"))?)?;
    let abort = match wire.error_type.take() {
        Some(ErrorType::HttpStatus(code)) => {
            let code = u16::try_from(code).map_err(|error| Invalid::bad("http_status", error))?;
            Abort::Http(StatusCode::from_u16(code).map_err(|error| Invalid::bad("http_status", error))?)
        }
        Some(ErrorType::GrpcStatus(code)) => Abort::Grpc(code),
        _ => return Err(Invalid::Unsupported("a fault abort without a status".to_owned())),
    };
    nothing_left(&wire)?;
    Ok((share, abort))
}
