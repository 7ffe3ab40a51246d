//! One client connection: TCP to the proxy, CONNECT, TLS with the proxy's leaf, requests one after the other.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How to get to the origin.
pub struct Route {
    proxy: SocketAddr,
    connect: String,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Route {
    pub fn new(proxy: &str, host: &str, ca: &str) -> crate::Outcome<Self> {
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
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            proxy: proxy.parse()?,
            connect: format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"),
            name: ServerName::try_from(host.to_owned())?,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }
}

pub struct Client {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
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
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends one request and reads its answer whole; anything but a 200 with a Content-Length is an error.
    pub async fn get(&mut self, request: &[u8]) -> crate::Outcome<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let mut whole = usize::MAX;
        while self.buffer.len() < whole {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("closed before the answer was whole".into());
            }
            if whole == usize::MAX
                && let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n")
            {
                let head = &self.buffer[..end + 4];
                expect_200(head)?;
                whole = end + 4 + content_length(head)?;
            }
        }
        if self.buffer.len() > whole { Err("more bytes than the answer has".into()) } else { Ok(()) }
    }
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
