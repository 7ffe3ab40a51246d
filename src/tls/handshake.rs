//! The client's leg: reads the ClientHello, hands its bytes back to rustls, and names what went wrong.
//!
//! `proxy/connection.rs` calls [`read_hello`], compares the name, admits, and then calls [`accept`] over a [`Rewind`]
//! of the same bytes: the decision and the handshake read one and the same hello.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription, Error as Rustls, PeerIncompatible};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Offer;
use super::mint::{Mint, MintError};
use crate::engine::facts::TlsFacts;
use crate::engine::hello::{self, ClientHello, Foreign, Hello};
use crate::engine::reason::Reason;
use crate::engine::target::Host;

/// A hello with a post-quantum key share fits.
const FIRST_READ: usize = 2048;

/// Why no ClientHello was read.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// Answer with [`protocol_version_alert`] (nothing at all to an `SSLv2` hello means the same to it).
    #[error("client offers {offered}, below the TLS 1.2 floor")]
    BelowFloor { offered: &'static str },
    #[error("first bytes are not TLS")]
    NotTls(Foreign),
    #[error("malformed ClientHello: {0}")]
    Malformed(&'static str),
    #[error("no ClientHello within the handshake's time limit")]
    Timeout,
    #[error("client closed the connection before its ClientHello")]
    Closed,
    #[error("client closed the connection in the middle of its ClientHello")]
    BrokeOff,
    #[error("client's connection failed before its ClientHello was whole")]
    Io(#[source] io::Error),
}

impl HelloError {
    /// `None` where the client went away and had asked for nothing yet, as those do that connect ahead of need.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::BelowFloor { .. } => Some(Reason::TlsBelowFloor),
            Self::NotTls(Foreign::HttpLike) => Some(Reason::TlsPlaintext),
            Self::NotTls(_) => Some(Reason::TlsNotTls),
            Self::Malformed(_) | Self::Timeout => Some(Reason::TlsHandshake),
            Self::BrokeOff => Some(Reason::RequestAborted),
            Self::Closed | Self::Io(_) => None,
        }
    }
}

/// Why the client's handshake ended.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("client accepts no version at or above the TLS 1.2 floor")]
    BelowFloor,
    /// The commonest failure of an interceptor: our CA is not in the client's trust store.
    #[error("client does not trust our CA (alert `{0}`)")]
    ClientDistrusts(&'static str),
    /// Node does so where it does not trust our CA; so may others, for any cause, and so this is not said for sure.
    #[error("client went away without an alert on seeing our certificate; it may not trust our CA")]
    Silent,
    #[error("client's handshake took longer than its time limit")]
    Timeout,
    /// A fixed label: an alert's name, or what could not be agreed.
    #[error("client's handshake failed: {0}")]
    Other(&'static str),
    #[error("no leaf for the client: {0}")]
    Mint(#[from] MintError),
}

impl HandshakeError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::BelowFloor => Reason::TlsBelowFloor,
            Self::ClientDistrusts(_) => Reason::TlsClientDistrusts,
            Self::Silent | Self::Timeout | Self::Other(_) | Self::Mint(MintError::Ended) => {
                Reason::TlsHandshake
            }
            Self::Mint(_) => Reason::Internal,
        }
    }
}

/// What a client below the floor is told: a fatal `protocol_version(70)` in a record it can read.
pub const fn protocol_version_alert() -> [u8; 7] {
    hello::PROTOCOL_VERSION_ALERT
}

/// Reads until the ClientHello is whole, starting with bytes that came early (behind a CONNECT head). The bytes
/// handed back are all that was read; give them to [`Rewind`].
/// Not cancel safe: what was read is lost with the future.
pub async fn read_hello<S>(
    io: &mut S,
    early: Vec<u8>,
    deadline: Instant,
) -> Result<(Vec<u8>, ClientHello), HelloError>
where
    S: AsyncRead + Unpin,
{
    let reading = async {
        let mut bytes = early;
        loop {
            let least = match hello::read(&bytes) {
                Hello::Client(hello) if hello.below_floor() => {
                    return Err(HelloError::BelowFloor { offered: hello.offered() });
                }
                Hello::Client(hello) => return Ok((bytes, hello)),
                Hello::Sslv2 { version } => {
                    return Err(HelloError::BelowFloor { offered: hello::sslv2_name(version) });
                }
                Hello::NotTls(kind) => return Err(HelloError::NotTls(kind)),
                Hello::Malformed(what) => return Err(HelloError::Malformed(what)),
                Hello::NeedMore { at_least } => at_least,
            };
            // `read` asks for 64 KiB more at most, and takes no record past 64 KiB.
            bytes.reserve(FIRST_READ.max(least - bytes.len()));
            while bytes.len() < least {
                match io.read_buf(&mut bytes).await {
                    Ok(0) if bytes.is_empty() => return Err(HelloError::Closed),
                    Ok(0) => return Err(HelloError::BrokeOff),
                    Ok(_) => {}
                    Err(error) => return Err(HelloError::Io(error)),
                }
            }
        }
    };
    tokio::time::timeout_at(deadline, reading).await.unwrap_or(Err(HelloError::Timeout))
}

/// Shakes hands as `host`. The caller has found the hello's SNI equal to it.
pub async fn accept<S>(
    mut io: S,
    mint: &Mint,
    host: &Host,
    offer: Offer,
    deadline: Instant,
) -> Result<(TlsStream<S>, TlsFacts), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let chain = match mint.shows(host) {
        Ok(chain) => chain,
        Err(error) => {
            let _ = tokio::time::timeout_at(deadline, io.write_all(&INTERNAL_ERROR_ALERT)).await;
            return Err(error.into());
        }
    };
    let acceptor = TlsAcceptor::from(mint.server_config(host, offer)?);
    let stream = tokio::time::timeout_at(deadline, acceptor.accept(io))
        .await
        .map_err(|_| HandshakeError::Timeout)?
        .map_err(|error| match name_failure(&error) {
            // INVARIANT: the hello was whole before, so our answer to it was the last word on the wire.
            HandshakeError::Other(GONE) => HandshakeError::Silent,
            named => named,
        })?;
    let sni = match host {
        Host::Name(name) => Some(name.clone()),
        Host::Literal(_) => None,
    };
    // INVARIANT: both configs speak 1.2 and 1.3 only, and the handshake is done.
    let facts = super::facts(stream.get_ref().1, sni).ok_or(HandshakeError::BelowFloor)?;
    Ok((stream, TlsFacts { chain, ..facts }))
}

/// A fatal `internal_error(80)`, before anything was agreed.
const INTERNAL_ERROR_ALERT: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50];

/// Closed or reset, without a word of TLS.
const GONE: &str = "connection lost";

/// Name of the alert by which a client rejects our leaf after the handshake, as TLS 1.3 clients do.
pub fn distrust(error: &io::Error) -> Option<&'static str> {
    match name_failure(error) {
        HandshakeError::ClientDistrusts(alert) => Some(alert),
        _ => None,
    }
}

fn name_failure(error: &io::Error) -> HandshakeError {
    let Some(error) = super::rustls_error(error) else {
        return HandshakeError::Other(GONE);
    };
    match error {
        Rustls::AlertReceived(alert) => {
            let name = super::alert_name(*alert);
            match *alert {
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied => HandshakeError::ClientDistrusts(name),
                AlertDescription::ProtocolVersion => HandshakeError::BelowFloor,
                _ => HandshakeError::Other(name),
            }
        }
        Rustls::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => HandshakeError::BelowFloor,
        Rustls::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => HandshakeError::Other("no_cipher_in_common"),
        Rustls::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon) => {
            HandshakeError::Other("no_group_in_common")
        }
        Rustls::PeerIncompatible(_) => HandshakeError::Other("incompatible"),
        Rustls::NoApplicationProtocol => HandshakeError::Other("no_application_protocol"),
        Rustls::PeerMisbehaved(_) => HandshakeError::Other("misbehaved"),
        Rustls::InvalidMessage(_) | Rustls::InappropriateMessage { .. } => {
            HandshakeError::Other("bad_message")
        }
        Rustls::InappropriateHandshakeMessage { .. } => HandshakeError::Other("bad_message"),
        _ => HandshakeError::Other("failed"),
    }
}

/// A stream whose first bytes were read already: gives them again, then gets out of the way.
// INVARIANT: the hello is replayed byte for byte, or the client's transcript hash will not match.
#[derive(Debug)]
pub struct Rewind<S> {
    io: S,
    again: Vec<u8>,
    at: usize,
}

impl<S> Rewind<S> {
    pub fn new(io: S, again: Vec<u8>) -> Self {
        Self { io, again, at: 0 }
    }

    pub fn get_ref(&self) -> &S {
        &self.io
    }

    pub fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// All of the first bytes have been read again.
    pub fn is_spent(&self) -> bool {
        self.again.is_empty()
    }

    /// The stream, and what of the first bytes nobody has taken yet.
    pub fn into_parts(mut self) -> (S, Vec<u8>) {
        self.again.drain(..self.at);
        (self.io, self.again)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.at < this.again.len() {
            let count = (this.again.len() - this.at).min(buf.remaining());
            buf.put_slice(&this.again[this.at..this.at + count]);
            this.at += count;
            if this.at == this.again.len() {
                (this.again, this.at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
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

#[cfg(test)]
mod tests;
