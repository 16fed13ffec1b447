//! A request body that can be sent again.
//!
//! - What the first attempt reads is kept, up to a bound; beyond it the body still streams, and can no longer be
//!   sent again.
//! - Only the latest attempt reads: an earlier one gets an error.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::body::BodyError;

/// One attempt's view of the body.
pub(crate) struct Replay {
    shared: Arc<Mutex<Shared>>,
    attempt: u32,
    /// Kept parts that this attempt has sent.
    position: usize,
}

struct Shared {
    body: Incoming,
    attempt: u32,
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes_left: usize,
    overflowed: bool,
    ended: bool,
}

impl Replay {
    pub(crate) fn new(body: Incoming, bytes_max: usize) -> Self {
        let shared = Shared {
            body,
            attempt: 0,
            kept: Vec::new(),
            trailers: None,
            bytes_left: bytes_max,
            overflowed: false,
            ended: false,
        };
        Self { shared: Arc::new(Mutex::new(shared)), attempt: 0, position: 0 }
    }

    /// A handle from which later attempts are made.
    pub(crate) fn handle(&self) -> Self {
        Self { shared: self.shared.clone(), attempt: self.attempt, position: 0 }
    }

    /// The body from its start for the next attempt, and the end of the attempt before; `None` when a part is lost.
    pub(crate) fn rewind(&self) -> Option<Self> {
        let mut shared = self.shared.lock();
        if shared.overflowed {
            return None;
        }
        shared.attempt += 1;
        Some(Self { shared: self.shared.clone(), attempt: shared.attempt, position: 0 })
    }
}

impl Shared {
    fn keep(&mut self, data: &Bytes) {
        if self.overflowed || data.len() > self.bytes_left {
            self.overflowed = true;
            self.kept.clear();
        } else {
            self.bytes_left -= data.len();
            self.kept.push(data.clone());
        }
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut shared = this.shared.lock();
        if shared.attempt != this.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        if let Some(kept) = shared.kept.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if shared.ended {
            let first = this.position <= shared.kept.len();
            this.position = usize::MAX;
            let trailers = shared.trailers.clone().filter(|_| first && !shared.overflowed);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(&mut shared.body).poll_frame(cx)).transpose()?;
        match &frame {
            None => shared.ended = true,
            Some(frame) => {
                if let Some(data) = frame.data_ref() {
                    shared.keep(data);
                    this.position = shared.kept.len();
                } else {
                    shared.trailers = frame.trailers_ref().cloned();
                    shared.ended = true;
                    this.position = usize::MAX;
                }
            }
        }
        Poll::Ready(frame.map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.lock();
        if shared.overflowed {
            return shared.body.size_hint();
        }
        let kept: u64 = shared.kept.iter().skip(self.position).map(|data| data.len() as u64).sum();
        let mut hint = SizeHint::new();
        let rest = if shared.ended { SizeHint::with_exact(0) } else { shared.body.size_hint() };
        hint.set_lower(rest.lower() + kept);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + kept);
        }
        hint
    }
}
