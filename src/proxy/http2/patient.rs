//! What a shared connection to an origin runs over: an origin that takes nothing for too long ends it, and with it every
//! exchange that waits on it. The library beneath waits for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::http1::io::Io;
use crate::proxy::http1::wire::Clock;

/// A stream of bytes to an origin.
pub struct Patient<S> {
    io: S,
    /// Runs while something waits to be written, from when something was last taken.
    clock: Clock,
    patience: Duration,
    exhausted: Exhausted,
}

/// Whether the connection was ended for it.
#[derive(Clone, Default)]
pub struct Exhausted(Arc<AtomicBool>);

impl Exhausted {
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Patient<S> {
    pub fn new(io: S, patience: Duration) -> (Self, Exhausted) {
        let exhausted = Exhausted::default();
        (Self { io, clock: Clock::default(), patience, exhausted: exhausted.clone() }, exhausted)
    }

    fn within<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.clock.stop();
            return polled;
        }
        if !self.clock.is_set() {
            self.clock.set(self.patience);
        }
        ready!(self.clock.poll_expired(cx));
        self.exhausted.0.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Io> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Most polls find nothing.
        ready!(self.io.poll_readable(cx));
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: Io> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.within(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.within(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.within(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.within(polled, cx)
    }
}
