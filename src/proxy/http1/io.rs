//! What both legs run over, and a question to it that costs less than a read that finds nothing.

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
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
}

impl<S: Io> Io for server::TlsStream<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (socket, session) = self.get_mut();
        if holds_plaintext(session) { Poll::Ready(()) } else { socket.poll_readable(cx) }
    }
}

/// Records that came together with an earlier one are decrypted already; an end or an error is something to read too.
fn holds_plaintext<D: SideData>(session: &mut ConnectionCommon<D>) -> bool {
    !matches!(session.reader().into_first_chunk(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
