//! A stream that remembers how the peer began: eleven bytes tell which version an old server chose, and the first few that
//! another protocol is spoken there.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::engine::hello::server::{self, ServerFirst};

/// What `engine::hello::server::first` needs.
const ENOUGH: usize = 11;

/// Passes everything through but what is not TLS; costs one comparison a read once the first bytes are there.
#[derive(Debug)]
pub struct Witness<S> {
    io: S,
    first: [u8; ENOUGH],
    have: u8,
}

impl<S> Witness<S> {
    pub fn new(io: S) -> Self {
        Self { io, first: [0; ENOUGH], have: 0 }
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
        let have = usize::from(this.have);
        if have < ENOUGH {
            let new = &buf.filled()[before..];
            let count = new.len().min(ENOUGH - have);
            this.first[have..have + count].copy_from_slice(&new[..count]);
            this.have += u8::try_from(count).expect("at most eleven");
            // A banner may be shorter than what TLS waits for, and its sender waits for us.
            if server::first(this.first_bytes()) == ServerFirst::NotTls {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        Poll::Ready(Ok(()))
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
