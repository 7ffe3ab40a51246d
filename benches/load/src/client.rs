//! One client connection: TCP to the proxy, CONNECT, TLS with the proxy's leaf, requests one after the other.

use std::net::SocketAddr;
use std::sync::Arc;

use h2::client::SendRequest;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::request::Request;

/// How to get to the origin.
pub struct Route {
    proxy: SocketAddr,
    connect: String,
    name: ServerName<'static>,
    tls: TlsConnector,
    http2: bool,
}

impl Route {
    pub fn new(proxy: &str, host: &str, ca: &str, http2: bool) -> crate::Outcome<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(ca)? {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // `conn` counts full handshakes.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Self {
            proxy: proxy.parse()?,
            connect: format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"),
            name: ServerName::try_from(host.to_owned())?,
            tls: TlsConnector::from(Arc::new(config)),
            http2,
        })
    }
}

pub enum Client {
    Http1 { stream: Box<TlsStream<TcpStream>>, buffer: Vec<u8> },
    Http2(SendRequest<bytes::Bytes>),
}

impl Client {
    pub async fn open(route: &Route) -> crate::Outcome<Self> {
        let mut tcp = TcpStream::connect(route.proxy).await?;
        tcp.set_nodelay(true)?;
        tcp.write_all(route.connect.as_bytes()).await?;
        let mut answer = Vec::with_capacity(512);
        // A proxy sends nothing after this head before we speak: reading it whole takes nothing of TLS.
        while !answer.ends_with(b"\r\n\r\n") {
            if tcp.read_buf(&mut answer).await? == 0 {
                return Err("the proxy closed during CONNECT".into());
            }
        }
        expect_200(&answer)?;
        let stream = route.tls.connect(route.name.clone(), tcp).await?;
        if !route.http2 {
            return Ok(Self::Http1 { stream: Box::new(stream), buffer: Vec::with_capacity(4096) });
        }
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the proxy doesn't speak HTTP/2 to us".into());
        }
        let (sender, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// Sends one request and reads its answer whole; anything but a 200 with a Content-Length is an error.
    pub async fn get(&mut self, request: &Request) -> crate::Outcome<()> {
        match (self, request) {
            (Self::Http1 { stream, buffer }, Request::Http1(head)) => get(stream, buffer, head).await,
            (Self::Http2(sender), Request::Http2(request)) => get_http2(sender, request.clone()).await,
            _ => Err("a request of the other version".into()),
        }
    }
}

async fn get(stream: &mut TlsStream<TcpStream>, buffer: &mut Vec<u8>, request: &[u8]) -> crate::Outcome<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    let mut whole = usize::MAX;
    while buffer.len() < whole {
        if stream.read_buf(buffer).await? == 0 {
            return Err("closed before the answer was whole".into());
        }
        if whole == usize::MAX
            && let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = &buffer[..end + 4];
            expect_200(head)?;
            whole = end + 4 + content_length(head)?;
        }
    }
    if buffer.len() > whole { Err("more bytes than the answer has".into()) } else { Ok(()) }
}

async fn get_http2(sender: &mut SendRequest<bytes::Bytes>, request: http::Request<()>) -> crate::Outcome<()> {
    let mut ready = sender.clone().ready().await?;
    let (answer, _) = ready.send_request(request, true)?;
    let answer = answer.await?;
    if answer.status() != 200 {
        return Err(format!("got `{}`", answer.status()).into());
    }
    let length = answer.headers().get("content-length").ok_or("the answer has no Content-Length")?;
    let mut left: usize = length.to_str()?.parse()?;
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        left = left.checked_sub(data.len()).ok_or("more bytes than the answer has")?;
    }
    if left == 0 { Ok(()) } else { Err("closed before the answer was whole".into()) }
}

fn expect_200(head: &[u8]) -> crate::Outcome<()> {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    if line.starts_with(b"HTTP/1.1 200") {
        return Ok(());
    }
    Err(format!("got `{}`", String::from_utf8_lossy(line)).into())
}

fn content_length(head: &[u8]) -> crate::Outcome<usize> {
    let text = std::str::from_utf8(head)?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, value) = lengths.next().ok_or("the answer has no Content-Length")?;
    Ok(value.trim().parse()?)
}
