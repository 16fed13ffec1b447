//! Bodies as they pass through.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::{replay::Replay, report::Report};
use crate::upstream::Lease;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Peer(#[from] hyper::Error),
    #[error("the route's timeout passed")]
    Timeout,
    #[error("a later attempt took the body over")]
    Superseded,
}

/// What is known of a request body while it is sent.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    done: AtomicBool,
}

impl Meter {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Whether the whole body was handed to a connection.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Relaxed)
    }

    fn note(&self, frame: Option<&Frame<Bytes>>, ended: bool) {
        if let Some(data) = frame.and_then(Frame::data_ref) {
            self.bytes.fetch_add(data.len() as u64, Relaxed);
        }
        if ended {
            self.done.store(true, Relaxed);
        }
    }
}

/// A request's body on its way upstream.
pub(crate) enum RequestBody {
    Empty,
    Streaming {
        body: Incoming,
        meter: Arc<Meter>,
    },
    /// Kept, up to a bound, so that it can be sent again.
    Replay {
        body: Replay,
        meter: Arc<Meter>,
    },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (polled, meter) = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Streaming { body, meter } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()?;
                let ended = frame.is_none() || body.is_end_stream();
                meter.note(frame.as_ref(), ended);
                return Poll::Ready(frame.map(Ok));
            }
            Self::Replay { body, meter } => (ready!(Pin::new(body).poll_frame(cx)), meter),
        };
        let frame = polled.transpose()?;
        meter.note(frame.as_ref(), frame.is_none());
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming { body, .. } => body.is_end_stream(),
            Self::Replay { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming { body, .. } => body.size_hint(),
            Self::Replay { body, .. } => body.size_hint(),
        }
    }
}

/// A response's body on its way to the client.
pub(crate) struct ResponseBody {
    inner: Inner,
    lease: Option<Lease>,
    deadline: Option<Pin<Box<Sleep>>>,
    report: Option<Report>,
}

enum Inner {
    Empty,
    Full(Bytes),
    Upstream(Incoming),
}

impl ResponseBody {
    /// A body of our own.
    pub(crate) fn full(bytes: Bytes) -> Self {
        let inner = if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) };
        Self { inner, lease: None, deadline: None, report: None }
    }

    /// An endpoint's; the lease's connection is free again at its end.
    pub(crate) fn upstream(body: Incoming, lease: Lease) -> Self {
        let mut body = Self { inner: Inner::Upstream(body), lease: Some(lease), deadline: None, report: None };
        body.release_at_end();
        body
    }

    /// Ends the body with an error when the time has come.
    pub(crate) fn until(&mut self, deadline: tokio::time::Instant) {
        if matches!(self.inner, Inner::Upstream(_)) {
            self.deadline = Some(Box::pin(tokio::time::sleep_until(deadline)));
        }
    }

    /// Reports the request when the body has ended.
    pub(crate) fn report(mut self, report: Report) -> Self {
        self.report = Some(report);
        self
    }

    fn release_at_end(&mut self) {
        if let Inner::Upstream(body) = &self.inner
            && body.is_end_stream()
        {
            self.inner = Inner::Empty;
            self.deadline = None;
            if let Some(mut lease) = self.lease.take() {
                lease.finish();
            }
        }
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let Some(report) = &mut self.report else { return };
        if let Some(data) = frame.data_ref() {
            report.sent(data.remaining() as u64);
        }
        if let Some(trailers) = frame.trailers_ref() {
            report.grpc_status(trailers);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            (this.inner, this.lease, this.deadline) = (Inner::Empty, None, None);
            if let Some(report) = &mut this.report {
                report.timed_out();
            }
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let frame = match &mut this.inner {
            Inner::Empty => None,
            Inner::Full(bytes) => Some(Frame::data(std::mem::take(bytes))),
            Inner::Upstream(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Err(error)) => {
                    (this.inner, this.lease) = (Inner::Empty, None);
                    if let Some(report) = &mut this.report {
                        report.cut_off();
                    }
                    return Poll::Ready(Some(Err(error.into())));
                }
                frame => frame.transpose()?,
            },
        };
        if matches!(this.inner, Inner::Full(_)) {
            this.inner = Inner::Empty;
        }
        if let Some(frame) = &frame {
            this.note(frame);
        } else {
            if let Some(mut lease) = this.lease.take() {
                lease.finish();
            }
            this.inner = Inner::Empty;
        }
        this.release_at_end();
        if matches!(this.inner, Inner::Empty)
            && let Some(report) = &mut this.report
        {
            report.complete();
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.inner, Inner::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Upstream(body) => body.size_hint(),
        }
    }
}
