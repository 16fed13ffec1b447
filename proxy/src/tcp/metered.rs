//! A byte stream that counts.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

use crate::upstream::Io;

/// What went through a connection, and when last.
pub(super) struct Meter {
    epoch: Instant,
    from_client: AtomicU64,
    from_endpoint: AtomicU64,
    /// Milliseconds since `epoch`.
    last: AtomicU64,
}

impl Default for Meter {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { epoch: Instant::now(), from_client: zero(), from_endpoint: zero(), last: zero() }
    }
}

impl Meter {
    /// Bytes that the client sent, and bytes that it was sent.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.from_client.load(Relaxed), self.from_endpoint.load(Relaxed))
    }

    /// Waits until nothing has gone through for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let until = self.epoch + Duration::from_millis(self.last.load(Relaxed)) + limit;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn count(&self, end: End, bytes: usize) {
        let counter = match end {
            End::Client => &self.from_client,
            End::Endpoint => &self.from_endpoint,
        };
        counter.fetch_add(bytes as u64, Relaxed);
        self.last.store(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[derive(Clone, Copy)]
enum End {
    Client,
    Endpoint,
}

/// One end of a proxied connection; what is read from it counts.
pub(super) struct Metered {
    io: Io,
    end: End,
    meter: Arc<Meter>,
}

impl Metered {
    pub(super) fn client(io: Io, meter: Arc<Meter>) -> Self {
        Self { io, end: End::Client, meter }
    }

    pub(super) fn endpoint(io: Io, meter: Arc<Meter>) -> Self {
        Self { io, end: End::Endpoint, meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.meter.count(self.end, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
