//! Bodies that nobody reads to their end.
//!
//! - A request may be answered before all of it has come. HTTP/2 breaks off what is sent and not read, and clients take the
//!   break for the answer: so the rest is taken in and forgotten, within bounds.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::{runtime::Handle, time::timeout};
use tonic::{Status, body::Body};

use crate::core::Core;

/// How long a client may go on sending what nobody reads.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests of the greatest length that may come after the answer.
const REQUESTS_MAX: usize = 4;

/// The request, whose body is read to its end by whomever.
pub(super) fn drained(request: Request<Body>, core: &Arc<Core>) -> Request<Body> {
    request.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Drained { body: Some(body), core: Arc::clone(core) })
    })
}

struct Drained {
    /// `None` once all of it was read.
    body: Option<Body>,
    core: Arc<Core>,
}

impl http_body::Body for Drained {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        // Without a runtime the connection is gone, too.
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            let stop = self.core.stop.clone();
            let bytes_max = REQUESTS_MAX * self.core.config.store.request_bytes_max;
            let draining = async move { stop.run_until_cancelled(timeout(PATIENCE, forget(rest, bytes_max))).await };
            self.core.tasks.spawn_on(draining, &runtime);
        }
    }
}

async fn forget(mut body: Body, bytes_max: usize) {
    let mut left = bytes_max;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}
