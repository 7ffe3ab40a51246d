//! A stream that remembers how the peer began: eleven bytes tell which version an old server chose, and the first few that
//! another protocol is spoken there. Its hello is read beside rustls, which keeps what it read of it to itself when a
//! handshake fails.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::engine::hello::server::{self, Answer, ServerFirst, ServerHello};

/// What `engine::hello::server::first` needs.
const ENOUGH: usize = 11;
/// Twice the longest hello there is, which answers with secp384r1MLKEM1024. A longer one is not told of.
const LONGEST: usize = 4096;

thread_local! {
    /// The hello that was read last, for who polls the handshake.
    pub(super) static HELLO: Cell<Option<ServerHello>> = const { Cell::new(None) };
}

/// Passes everything through but what is not TLS; costs one comparison a read once the hello is there.
#[derive(Debug)]
pub struct Witness<S> {
    io: S,
    first: [u8; ENOUGH],
    have: u8,
    /// The hello is still to come.
    watches: bool,
    /// Of a hello that did not come in one read: what of it is there.
    begun: Vec<u8>,
}

impl<S> Witness<S> {
    pub fn new(io: S) -> Self {
        Self { io, first: [0; ENOUGH], have: 0, watches: true, begun: Vec::new() }
    }

    pub fn get_ref(&self) -> &S {
        &self.io
    }

    pub fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// Up to eleven bytes, from the first on.
    pub fn first_bytes(&self) -> &[u8] {
        &self.first[..self.have.into()]
    }

    /// Takes the peer's next bytes. An error: what is spoken there is not TLS.
    fn watch(&mut self, new: &[u8]) -> io::Result<()> {
        let have = usize::from(self.have);
        let count = new.len().min(ENOUGH - have);
        self.first[have..have + count].copy_from_slice(&new[..count]);
        self.have += u8::try_from(count).expect("at most eleven");
        // A banner may be shorter than what TLS waits for, and its sender waits for us.
        if server::first(self.first_bytes()) == ServerFirst::NotTls {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !self.begun.is_empty() {
            self.begun.extend_from_slice(new);
        }
        match server::read(if self.begun.is_empty() { new } else { &self.begun }) {
            Answer::Hello(hello) => HELLO.set(Some(hello)),
            Answer::NeedMore { .. } if self.begun.len() < LONGEST => {
                if self.begun.is_empty() {
                    self.begun.extend_from_slice(new);
                }
                return Ok(());
            }
            // The eleven bytes may still tell of it.
            _ if usize::from(self.have) < ENOUGH => return Ok(()),
            _ => {}
        }
        (self.watches, self.begun) = (false, Vec::new());
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Witness<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        Poll::Ready(if this.watches { this.watch(&buf.filled()[before..]) } else { Ok(()) })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Witness<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
