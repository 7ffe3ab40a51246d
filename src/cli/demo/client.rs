//! The near side: a client that knows a proxy and its CA, as any program under exeat does.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Error, old_tls, wire};
use crate::engine::hello::server::{self, ServerFirst};
use crate::engine::request::ResponseHead;
use crate::tls;

/// What a client is told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: Option<u16>,
    /// Where TLS itself says no.
    pub alert: Option<u8>,
    /// Of `exeat-verdict: deny; reason=…; flow=…`.
    pub reason: Option<String>,
    pub flow: Option<String>,
}

pub struct Client {
    proxy: SocketAddr,
    tls: TlsConnector,
}

impl Client {
    /// Trusts the CA, and nothing else.
    pub fn new(proxy: SocketAddr, ca_pem: &str) -> Result<Self, Error> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|_| Error::Message("a CA certificate that is no PEM"))?)?;
        }
        let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { proxy, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// CONNECT, TLS, one request.
    pub async fn https(&self, host: &str, request: &[u8]) -> Result<Answer, Error> {
        let socket = self.connect(host).await?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| Error::Message("a host that is no name"))?;
        let mut stream = self.tls.connect(name, socket).await?;
        exchange(&mut stream, request).await
    }

    /// A request to the proxy itself, in the clear.
    pub async fn plaintext(&self, request: &[u8]) -> Result<Answer, Error> {
        exchange(&mut self.dial().await?, request).await
    }

    /// CONNECT, then a hello of TLS 1.1.
    pub async fn old_hello(&self, host: &str) -> Result<Answer, Error> {
        let mut socket = self.connect(host).await?;
        socket.write_all(&old_tls::client_hello(host)?).await?;
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).await?;
        match server::first(&bytes) {
            ServerFirst::Alert { description, .. } => {
                Ok(Answer { alert: Some(description), ..Answer::default() })
            }
            _ => Err(Error::Message("something else than an alert")),
        }
    }

    async fn dial(&self) -> Result<TcpStream, Error> {
        let socket = TcpStream::connect(self.proxy).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    async fn connect(&self, host: &str) -> Result<TcpStream, Error> {
        let mut socket = self.dial().await?;
        let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
        socket.write_all(head.as_bytes()).await?;
        // A client speaks first in TLS: nothing comes behind this head.
        match wire::head(&mut socket, &mut BytesMut::new(), |_| {}).await? {
            Some(head) if head.starts_with(b"HTTP/1.1 200 ") => Ok(socket),
            _ => Err(Error::Message("no tunnel")),
        }
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
) -> Result<Answer, Error> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut buffer = BytesMut::new();
    let head = wire::head(stream, &mut buffer, |_| {}).await?.ok_or(Error::Message("no answer"))?;
    let head = ResponseHead::parse(head, "GET")?;
    wire::body(stream, &mut buffer, head.framing(), |_| {}).await?;
    let verdict = head.first("exeat-verdict").map(String::from_utf8_lossy).unwrap_or_default();
    let part = |key: &str| verdict.split("; ").find_map(|part| part.strip_prefix(key)).map(str::to_owned);
    Ok(Answer { status: Some(head.status()), alert: None, reason: part("reason="), flow: part("flow=") })
}

/// The whole answer of an admin door.
pub async fn metrics(door: SocketAddr) -> Result<String, Error> {
    let mut socket = TcpStream::connect(door).await?;
    let head = format!("GET /metrics HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(Error::Message("no metrics")),
    }
}
