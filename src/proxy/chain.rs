//! The way to an origin: straight, or through the proxy that stands before us.
//!
//! `forward.rs` shakes hands with the origin over what comes from here. There is no way around a proxy that fails: a
//! network that demands one would see us leave by another door.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::config::UpstreamProxy;
use crate::engine::facts::Shown;
use crate::engine::target::{Authority, Host, judge_named_address};
use crate::tls::Offer;
use crate::tls::origin::{AtLeast, OriginTls, Unshaken, Witness};

/// A proxy's answer to CONNECT is a few lines; more than this is something else.
const MOST_HEAD: usize = 16 * 1024;

/// A connection towards an origin.
#[derive(Debug)]
pub enum Way {
    Straight(TcpStream),
    /// To a proxy that speaks TLS itself.
    Sealed(Box<TlsStream<Witness<TcpStream>>>),
}

/// Why the proxy opened no way.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("did not resolve: {0}")]
    Resolve(#[source] io::Error),
    #[error("has no address that may be dialled")]
    Address,
    #[error("cannot be reached: {0}")]
    Connect(#[source] io::Error),
    #[error("{0}")]
    Tls(#[from] Unshaken),
    #[error("broke off: {0}")]
    Lost(#[source] io::Error),
    #[error("wants other credentials (407)")]
    Credentials,
    #[error("refused with {0}")]
    Refused(u16),
    #[error("answered CONNECT with something that is not HTTP")]
    Malformed,
    #[error("is not asked for names of this machine")]
    ThisMachine,
    #[error("took too long")]
    Timeout,
}

impl ChainError {
    /// What the proxy showed, where its own TLS came to nothing.
    pub fn shown(&self) -> Shown {
        match self {
            Self::Tls(unshaken) => (*unshaken.shown).clone(),
            _ => Shown::default(),
        }
    }
}

/// Connects to the proxy and has it open a way to `target`. The address is the proxy's; `dialled` has it also where
/// there is no way.
pub async fn through(
    proxy: &UpstreamProxy,
    target: &Authority,
    tls: &OriginTls,
    own: &[SocketAddr],
    deadline: Instant,
    dialled: &mut Option<SocketAddr>,
) -> Result<(Way, SocketAddr), ChainError> {
    // The proxy resolves names in our place, and would take these for its own machine.
    let names_machine = |name: &str| name == "localhost" || name.ends_with(".localhost");
    if target.host.as_name().is_some_and(names_machine) {
        return Err(ChainError::ThisMachine);
    }
    let open = async {
        let (socket, address) = dial(proxy, own, dialled).await?;
        super::resolve::tune(&socket);
        let mut way = if proxy.tls {
            let (stream, _) =
                tls.connect(socket, &proxy.at.host, AtLeast::Tls12, Offer::Http1, deadline).await?;
            Way::Sealed(Box::new(stream))
        } else {
            Way::Straight(socket)
        };
        connect(&mut way, proxy, target).await?;
        Ok((way, address))
    };
    tokio::time::timeout_at(deadline, open).await.map_err(|_| ChainError::Timeout)?
}

async fn dial(
    proxy: &UpstreamProxy,
    own: &[SocketAddr],
    dialled: &mut Option<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), ChainError> {
    let port = proxy.at.port;
    let found: Vec<SocketAddr> = match &proxy.at.host {
        Host::Literal(ip) => vec![(*ip, port).into()],
        // As its owner wrote it: a short name may need the search list.
        Host::Name(name) => {
            tokio::net::lookup_host((&**name, port)).await.map_err(ChainError::Resolve)?.collect()
        }
    };
    let mut last = ChainError::Address;
    // It was named by hand: that is consent to this machine and to private ranges, but not to ourselves.
    for address in found.into_iter().filter(|a| judge_named_address(a.ip()).may_dial() && !own.contains(a)) {
        *dialled = Some(address);
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok((socket, address)),
            Err(error) => last = ChainError::Connect(error),
        }
    }
    Err(last)
}

/// Only a 2xx opens a way (RFC 9110 9.3.6). What else the proxy says is its own and is passed to nobody.
async fn connect(way: &mut Way, proxy: &UpstreamProxy, target: &Authority) -> Result<(), ChainError> {
    let (host, port) = (&target.host, target.port);
    let mut request = zeroize::Zeroizing::new(
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes(),
    );
    if let Some(value) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.expose());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    way.write_all(&request).await.map_err(ChainError::Lost)?;
    way.flush().await.map_err(ChainError::Lost)?;
    let mut answer = Vec::with_capacity(512);
    loop {
        if way.read_buf(&mut answer).await.map_err(ChainError::Lost)? == 0 {
            return Err(ChainError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut slots);
        match head.parse(&answer) {
            Ok(httparse::Status::Complete(end)) => {
                return match head.code.unwrap_or_default() {
                    // The origin waits for our hello: whatever came behind the head is not its voice.
                    200..300 if end == answer.len() => Ok(()),
                    200..300 => Err(ChainError::Malformed),
                    407 => Err(ChainError::Credentials),
                    code => Err(ChainError::Refused(code)),
                };
            }
            Ok(httparse::Status::Partial) if answer.len() < MOST_HEAD => {}
            _ => return Err(ChainError::Malformed),
        }
    }
}

impl AsyncRead for Way {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Straight(io) => Pin::new(io).poll_read(cx, buf),
            Self::Sealed(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Way {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Straight(io) => Pin::new(io).poll_write(cx, buf),
            Self::Sealed(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Straight(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Sealed(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Straight(io) => io.is_write_vectored(),
            Self::Sealed(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Straight(io) => Pin::new(io).poll_flush(cx),
            Self::Sealed(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Straight(io) => Pin::new(io).poll_shutdown(cx),
            Self::Sealed(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
