//! What passes between this member and the others, counted.
//!
//! - Of connections that this member makes, all bytes inside TLS count; of those made to it, what calls carry.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use raft::MemberId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::{Status, body::Body};

/// The counts of each member. Member 0 stands for those whose certificates name no member.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<BTreeMap<MemberId, Arc<Counts>>>);

/// What passed between this member and another.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    /// Connections that could not be made, or broke while they were written to.
    pub(crate) failures: AtomicU64,
}

impl Traffic {
    pub(crate) fn with(&self, member: MemberId) -> Arc<Counts> {
        Arc::clone(self.0.lock().entry(member).or_default())
    }

    pub(crate) fn all(&self) -> Vec<(MemberId, Arc<Counts>)> {
        self.0.lock().iter().map(|(member, counts)| (*member, Arc::clone(counts))).collect()
    }
}

/// A connection to another member.
pub(crate) struct CountedStream<S> {
    stream: S,
    counts: Arc<Counts>,
}

impl<S> CountedStream<S> {
    pub(crate) fn new(stream: S, counts: Arc<Counts>) -> Self {
        Self { stream, counts }
    }

    fn written(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        match &outcome {
            Ok(bytes) => self.counts.sent_bytes.fetch_add(*bytes as u64, Relaxed),
            Err(_) => self.counts.failures.fetch_add(1, Relaxed),
        };
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.counts.received_bytes.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        Poll::Ready(outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(self.written(outcome))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces));
        Poll::Ready(self.written(outcome))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a call carries, one way.
struct CountedBody {
    body: Body,
    counts: Arc<Counts>,
    of: fn(&Counts) -> &AtomicU64,
}

/// A body whose bytes are added to the count `of`.
pub(crate) fn counted(body: Body, counts: Arc<Counts>, of: fn(&Counts) -> &AtomicU64) -> Body {
    Body::new(CountedBody { body, counts, of })
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            (self.of)(&self.counts).fetch_add(bytes as u64, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
