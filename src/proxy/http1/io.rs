//! What both legs run over, with the two things that are dear under TLS: a poll that finds nothing, and a second read
//! for what the first has already found.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ConnectionCommon, SideData};
use tokio_rustls::{client, server};

use crate::proxy::chain::Way;
use crate::tls::handshake::Rewind;
use crate::tls::origin::Witness;

/// TCP, TLS, or a test's pipe.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready where a read may find something, or the stream's end; else the task is woken once it may. A read under
    /// TLS that finds nothing costs six times as much, and most polls find nothing.
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Appends what has come, a head's worth; `Ok(0)` is the stream's end.
    fn poll_append(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        // Not zeroed: 8 KiB of zeros a poll were a third of a request's instructions.
        let mut scratch = [MaybeUninit::uninit(); HEAD_SCRATCH];
        let mut read = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(self).poll_read(cx, &mut read))?;
        buf.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// After a read that found nothing: sends what TLS has to say by itself. A TLS 1.2 peer that asks for another
    /// handshake is told no by an alert (RFC 5246 7.2.2) that would wait for our next write, and the peer for it.
    fn speak(&mut self, _cx: &mut Context<'_>) {}
}

/// Heads are read on a scratch of this size, so that an idle connection holds no buffer.
const HEAD_SCRATCH: usize = 8 * 1024;

/// The same where the stream has a buffer of its own: a record's plaintext, and no look at the socket for another.
fn append_record<S: AsyncBufRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let record = ready!(Pin::new(&mut *stream).poll_fill_buf(cx))?;
    let n = record.len();
    buf.extend_from_slice(record);
    Pin::new(stream).consume(n);
    Poll::Ready(Ok(n))
}

impl Io for DuplexStream {}

impl Io for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(drop)
    }
}

impl<S: Io> Io for Rewind<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_spent() { self.get_mut().poll_readable(cx) } else { Poll::Ready(()) }
    }
}

impl<S: Io> Io for Witness<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().poll_readable(cx)
    }
}

impl Io for Way {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Straight(io) => io.poll_readable(cx),
            Self::Sealed(io) => io.poll_readable(cx),
        }
    }
}

impl<S: Io> Io for client::TlsStream<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (socket, session) = self.get_mut();
        if holds_plaintext(session) { Poll::Ready(()) } else { socket.poll_readable(cx) }
    }

    fn poll_append(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        append_record(self, cx, buf)
    }

    fn speak(&mut self, cx: &mut Context<'_>) {
        flush_if(self.get_ref().1.wants_write(), self, cx);
    }
}

impl<S: Io> Io for server::TlsStream<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (socket, session) = self.get_mut();
        if holds_plaintext(session) { Poll::Ready(()) } else { socket.poll_readable(cx) }
    }

    fn poll_append(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        append_record(self, cx, buf)
    }

    fn speak(&mut self, cx: &mut Context<'_>) {
        flush_if(self.get_ref().1.wants_write(), self, cx);
    }
}

fn flush_if(owed: bool, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) {
    if owed {
        // What fails here fails the next read too.
        let _ = Pin::new(stream).poll_flush(cx);
    }
}

/// Records that came together with an earlier one are decrypted already; an end or an error is something to read too.
fn holds_plaintext<D: SideData>(session: &mut ConnectionCommon<D>) -> bool {
    !matches!(session.reader().into_first_chunk(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
