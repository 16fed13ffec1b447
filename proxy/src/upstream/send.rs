//! One attempt of a request at one endpoint.

use std::{net::SocketAddr, sync::Arc};

use http::{Request, Response, Uri, Version, header::HOST, uri::Scheme};
use hyper::body::Incoming;

use super::{
    Cluster, ConnectFailure, Endpoint, Lease, Permit,
    outlier::Verdict,
    pool::{Checkout, CheckoutFailure, Want},
};
use crate::{
    config::Protocol,
    http::{Meter, RequestBody},
    telemetry::PartyId,
};

/// A response's head, and the connection that still carries its body.
pub(crate) struct Sent {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    pub(crate) party: PartyId,
    pub(crate) address: SocketAddr,
}

/// Why an attempt gave no response. A request that comes back was not sent, not in part either.
pub(crate) enum SendFailure {
    /// A circuit breaker is open.
    Overflow(Request<RequestBody>),
    Connect(Request<RequestBody>, ConnectFailure),
    /// The connection ended before the request was written to it.
    Unsent(Request<RequestBody>),
    /// The endpoint refused the stream, and says that it did not look at it.
    Refused,
    /// The connection or stream ended; the endpoint may have acted on the request.
    Reset(hyper::Error),
}

/// Sends a request and waits for the head of its response.
pub(crate) async fn send(
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    worker: usize,
    mut request: Request<RequestBody>,
    permit: Permit,
    meter: Option<Arc<Meter>>,
) -> Result<Sent, SendFailure> {
    let busy = endpoint.busy();
    let want = match endpoint.spec.key.protocol {
        Protocol::Http2 => Want::H2,
        Protocol::Negotiated => Want::Negotiated,
        Protocol::Downstream if request.version() == Version::HTTP_2 => Want::H2,
        Protocol::Downstream | Protocol::Http1 => Want::H1,
    };
    loop {
        let mut held = match endpoint.checkout(worker, want, &cluster.breakers, &cluster.config.thresholds).await {
            Ok(held) => held,
            Err(CheckoutFailure::Overflow) => return Err(SendFailure::Overflow(request)),
            Err(CheckoutFailure::Connect(failure)) => {
                cluster.note(endpoint, Verdict::NoResponse);
                return Err(SendFailure::Connect(request, failure));
            }
        };
        let (reused, party_id, address) = (held.is_reused(), held.party(), held.address());
        match held.exchange(request).await {
            Ok(response) => {
                cluster.note(endpoint, Verdict::Status(response.status()));
                let lease = Lease::new(held, worker, meter, busy, permit);
                return Ok(Sent { response, lease, party: party_id, address });
            }
            Err((_, Some(unsent))) if reused => request = *unsent,
            Err((_, Some(unsent))) => return Err(SendFailure::Unsent(*unsent)),
            Err((error, None)) => {
                cluster.note(endpoint, Verdict::NoResponse);
                let untouched = h2_reason(&error) == Some(h2::Reason::REFUSED_STREAM);
                return Err(if untouched { SendFailure::Refused } else { SendFailure::Reset(error) });
            }
        }
    }
}

type Failed = (hyper::Error, Option<Box<Request<RequestBody>>>);

impl Checkout {
    fn is_reused(&self) -> bool {
        match self {
            Self::H1(connection) => connection.reused,
            Self::H2(_) => true,
        }
    }

    fn party(&self) -> PartyId {
        match self {
            Self::H1(connection) => connection.party,
            Self::H2(connection) => connection.party,
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::H1(connection) => connection.address,
            Self::H2(connection) => connection.address,
        }
    }

    async fn exchange(&mut self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Failed> {
        match self {
            Self::H1(connection) => {
                *request.version_mut() = Version::HTTP_11;
                let sent = connection.sender.try_send_request(request).await;
                sent.map_err(|mut error| (error.take_message().map(Box::new), error.into_error()))
                    .map_err(|(message, error)| (error, message))
            }
            Self::H2(connection) => {
                to_h2(&mut request);
                let sent = connection.sender.clone().try_send_request(request).await;
                sent.map_err(|mut error| (error.take_message().map(|m| Box::new(from_h2(m))), error.into_error()))
                    .map_err(|(message, error)| (error, message))
            }
        }
    }
}

/// HTTP/2 names the host in the URI.
fn to_h2(request: &mut Request<RequestBody>) {
    *request.version_mut() = Version::HTTP_2;
    let Some(authority) = request.headers_mut().remove(HOST).and_then(|host| host.as_bytes().try_into().ok()) else {
        return;
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// The form that every other part of the proxy keeps: a path, and the host as a header.
fn from_h2(mut request: Request<RequestBody>) -> Request<RequestBody> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = None;
    if let Some(host) = parts.authority.take().and_then(|authority| authority.as_str().parse().ok()) {
        request.headers_mut().insert(HOST, host);
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// The reason with which a peer ended an HTTP/2 stream or connection.
fn h2_reason(error: &hyper::Error) -> Option<h2::Reason> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.reason();
        }
        source = error.source();
    }
    None
}
