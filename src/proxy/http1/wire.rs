//! A socket as HTTP/1.1 uses it: two halves, one read buffer, one write buffer, one lazily moved clock.
//!
//! Nothing is held while idle: large buffers live only while a body passes.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, Sleep};

use super::io::Io;
use crate::engine::request::{HeadError, HeadScanner};

/// One read of a body, and what may wait in the write buffer before the reader is told to wait.
pub const BODY_BUFFER: usize = 64 * 1024;
/// A write buffer that grew larger than this is given back when it runs empty.
const KEPT_BUFFER: usize = 4 * 1024;

/// One side of a stream. Both sides are used by one task at a time, so the lock is never contended.
pub struct Half<S>(Arc<Mutex<S>>);

impl<S> Clone for Half<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Io> Half<S> {
    fn with<T>(&self, act: impl FnOnce(Pin<&mut S>) -> T) -> T {
        act(Pin::new(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Writes and flushes a few bytes past the write buffer: interim answers, while no answer is on its way.
    pub async fn say(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = poll_fn(|cx| self.with(|io| io.poll_write(cx, bytes))).await?;
            bytes = &bytes[n..];
        }
        poll_fn(|cx| self.with(|io| io.poll_flush(cx))).await
    }
}

/// Splits a stream into the two sides of one connection.
pub fn split<S: Io>(io: S) -> (Reader<S>, Writer<S>) {
    let half = Half(Arc::new(Mutex::new(io)));
    (Reader::new(half.clone()), Writer { io: half, out: BytesMut::new(), clock: Clock::default() })
}

/// A deadline that moves often and fires seldom: moving it later costs no timer operation.
#[derive(Default)]
pub struct Clock {
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
}

impl Clock {
    pub fn set(&mut self, after: Duration) {
        self.deadline = Some(Instant::now() + after);
    }

    pub fn stop(&mut self) {
        self.deadline = None;
    }

    pub fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Ready once the deadline has passed; never while stopped.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// The reading side.
pub struct Reader<S> {
    io: Half<S>,
    pub buf: BytesMut,
    pub eof: bool,
    scanner: HeadScanner,
    pub clock: Clock,
}

impl<S: Io> Reader<S> {
    fn new(io: Half<S>) -> Self {
        Self {
            io,
            buf: BytesMut::new(),
            eof: false,
            scanner: HeadScanner::default(),
            clock: Clock::default(),
        }
    }

    /// Takes the next whole head off the buffer, if it is in.
    pub fn take_head(&mut self) -> Result<Option<Bytes>, HeadError> {
        let Some(end) = self.scanner.scan(&self.buf)? else { return Ok(None) };
        self.scanner = HeadScanner::default();
        if end == self.buf.len() {
            return Ok(Some(std::mem::take(&mut self.buf).freeze()));
        }
        // Copied, so that the buffer can be reused or dropped while the head lives on.
        let head = Bytes::copy_from_slice(&self.buf[..end]);
        self.consume(end);
        Ok(Some(head))
    }

    /// Reads what has come, a head's worth. `Ok(0)` is the end of the stream.
    pub fn poll_fill_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let buf = &mut self.buf;
        let n = ready!(self.io.with(|mut io| {
            ready!(io.poll_readable(cx));
            let polled = io.poll_append(cx, buf);
            if polled.is_pending() {
                io.speak(cx);
            }
            polled
        }))?;
        self.eof = n == 0;
        Poll::Ready(Ok(n))
    }

    /// Reads what has come of a body.
    pub fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Reclaims the same memory once the frames made of it are gone.
        self.buf.reserve(BODY_BUFFER);
        let n = ready!(self.io.with(|mut io| {
            let polled = pin!(io.read_buf(&mut self.buf)).poll(cx);
            if polled.is_pending() {
                io.speak(cx);
            }
            polled
        }))?;
        self.eof = n == 0;
        Poll::Ready(Ok(n))
    }

    /// Drops bytes off the front, and the buffer with the last of them.
    pub fn consume(&mut self, n: usize) {
        self.buf.advance(n);
        self.release_if_empty();
    }

    pub fn release_if_empty(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
    }

    /// Nothing has come and nothing has ended. Normally costs no system call.
    pub fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.buf.is_empty() && !self.eof && self.poll_fill_head(cx).is_pending()
    }
}

/// The writing side.
pub struct Writer<S> {
    io: Half<S>,
    pub out: BytesMut,
    pub clock: Clock,
}

impl<S: Io> Writer<S> {
    /// For interim answers.
    pub fn half(&self) -> Half<S> {
        self.io.clone()
    }

    /// No more should be put into `out` before some has gone.
    pub fn is_full(&self) -> bool {
        self.out.len() >= BODY_BUFFER
    }

    /// Hands all of `out` to the stream, and the stream's own buffer to the socket.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(self.io.with(|io| io.poll_write(cx, &self.out)))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
        }
        if self.out.capacity() > KEPT_BUFFER {
            self.out = BytesMut::new();
        } else {
            self.out.clear();
        }
        self.io.with(|io| io.poll_flush(cx))
    }

    /// The same, but not for longer than `patience` without progress.
    pub fn poll_flush_within(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<io::Result<()>> {
        let before = self.out.len();
        let polled = self.poll_flush(cx);
        if polled.is_ready() {
            self.clock.stop();
            return polled;
        }
        if !self.clock.is_set() || self.out.len() < before {
            self.clock.set(patience);
        }
        ready!(self.clock.poll_expired(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends our side in order: close_notify under TLS, then FIN.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.with(|io| io.poll_shutdown(cx))
    }
}
