//! Connections that must begin to speak.
//!
//! - A connection on which too little arrives to tell what it speaks is cut at its deadline; what comes after is bounded
//!   by the protocol that it chose.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// The length of HTTP/2's preface: with so many bytes it is known what is spoken.
const PREFACE_BYTES: usize = 24;

/// A connection with a deadline for its first bytes.
#[derive(Debug)]
pub(super) struct Prompt<T> {
    connection: T,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    deadline: Pin<Box<Sleep>>,
    missing: usize,
}

impl<T> Prompt<T> {
    pub(super) fn new(connection: T, patience: Duration) -> Self {
        let waiting = Waiting { deadline: Box::pin(sleep(patience)), missing: PREFACE_BYTES };
        Self { connection, waiting: Some(waiting) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prompt<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { connection, waiting } = &mut *self;
        let Some(first) = waiting else { return Pin::new(connection).poll_read(cx, buffer) };
        if first.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(connection).poll_read(cx, buffer))?;
        first.missing = first.missing.saturating_sub(buffer.filled().len() - before);
        if first.missing == 0 {
            *waiting = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prompt<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_connection_that_says_too_little_is_cut_at_the_deadline() {
        for said in [0, PREFACE_BYTES - 1] {
            let (mut client, server) = tokio::io::duplex(64);
            let (begun, mut server) = (Instant::now(), Prompt::new(server, PATIENCE));
            client.write_all(&vec![b'P'; said]).await.unwrap();
            let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said}");
            assert!(begun.elapsed() >= PATIENCE, "{said}");
        }
    }

    #[tokio::test]
    async fn one_that_has_begun_may_be_silent() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Prompt::new(server, PATIENCE);
        client.write_all(&[b'P'; PREFACE_BYTES]).await.unwrap();
        server.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        let silence = tokio::time::timeout(3 * PATIENCE, server.read_u8()).await;
        assert!(silence.is_err(), "{silence:?}");
    }
}
