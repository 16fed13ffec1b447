//! One request on its way through the layers.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode, header::HOST, request::Parts};
use hyper::upgrade::OnUpgrade;

use super::{
    body::{Meter, RequestBody, ResponseBody},
    replay::Replay,
    reply::{Failure, Flags},
};
use crate::{
    config::{HttpConfig, RetryPolicy, Route, Subject},
    telemetry::PartyId,
    upstream::{Cluster, Permit},
};

/// A response's head, and a body that still streams; or why there is none.
pub(crate) type Outcome = Result<Response<ResponseBody>, Failure>;

/// A request, where it goes, and what became of it so far.
pub(crate) struct Exchange {
    /// Absent while an attempt has it.
    pub(crate) request: Option<Request<RequestBody>>,
    pub(crate) meter: Option<Arc<Meter>>,
    pub(crate) replay: Option<Replay>,
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) worker: usize,
    pub(crate) listener: Arc<HttpConfig>,
    pub(crate) route: Arc<Route>,
    pub(crate) cluster: Result<Arc<Cluster>, StatusCode>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    pub(crate) replay_bytes_max: usize,
    pub(crate) count_attempts: bool,
    /// Reserved by the circuit breaker for the attempt that comes.
    pub(crate) permit: Option<Permit>,
    pub(crate) tried: Vec<SocketAddr>,
    pub(crate) notes: Notes,
}

/// What telemetry wants to know.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) flags: Flags,
    pub(crate) attempts: u32,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) party: Option<PartyId>,
    /// From sending the last attempt to its response's head.
    pub(crate) upstream_time: Option<Duration>,
}

impl Exchange {
    /// What predicates see of the request while no attempt has it.
    pub(crate) fn subject(&self) -> Option<Subject<'_>> {
        self.request.as_ref().map(|request| subject(request, "http"))
    }

    /// Makes the body fit to be sent again.
    pub(crate) fn keep_body(&mut self) {
        let Some(request) = &mut self.request else { return };
        let body = std::mem::replace(request.body_mut(), RequestBody::Empty);
        *request.body_mut() = match body {
            RequestBody::Streaming { body, meter } => {
                let replay = Replay::new(body, self.replay_bytes_max);
                self.replay = Some(replay.handle());
                RequestBody::Replay { body: replay, meter }
            }
            other => other,
        };
    }

    /// Puts the request back for another attempt: the very one if it was not sent, else a copy. False when a part of
    /// its body is lost.
    pub(crate) fn restore(&mut self, spare: Option<Parts>) -> bool {
        if self.request.is_some() {
            return true;
        }
        let Some(head) = spare else { return false };
        let body = match (&self.replay, &self.meter) {
            (Some(replay), Some(meter)) => match replay.rewind() {
                Some(body) => RequestBody::Replay { body, meter: meter.clone() },
                None => return false,
            },
            (None, Some(_)) => return false,
            (_, None) => RequestBody::Empty,
        };
        self.request = Some(Request::from_parts(head, body));
        true
    }

    /// Notes that an attempt begins; the time is for [`Notes::upstream_time`].
    pub(crate) fn begin_attempt(&mut self, endpoint: SocketAddr) -> Instant {
        self.notes.attempts += 1;
        self.notes.upstream = Some(endpoint);
        Instant::now()
    }
}

/// What predicates see of a normalized request.
pub(crate) fn subject<'a, B>(request: &'a Request<B>, scheme: &'a str) -> Subject<'a> {
    let authority = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Subject {
        method: request.method(),
        scheme,
        authority,
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    }
}
