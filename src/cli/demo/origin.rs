//! The far side: real TLS servers on loopback that count what reaches them. One of them is AWS as far as it matters
//! here: it knows both keys, and checks every signature before it answers.

use std::net::SocketAddr;
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Error, old_tls, wire};
use crate::engine::facts::{SignatureState, Timestamp};
use crate::engine::request::RequestHead;
use crate::engine::signature::{self, KnownKeys, Reading};
use crate::tls;

/// What a server is.
pub enum Kind {
    /// Answers what is signed by one of these keys.
    Aws(TlsAcceptor, KnownKeys),
    /// Answers everything.
    Api(TlsAcceptor),
    /// Speaks TLS 1.1 at best.
    Old,
}

/// A certificate, but for its names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Good,
    Expired,
}

/// What reached the origins, all of them together.
#[derive(Default)]
pub struct Seen {
    connections: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Connections, whole requests, and bytes of requests (what comes out of TLS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Count {
    pub connections: u64,
    pub requests: u64,
    pub bytes: u64,
}

impl Seen {
    pub fn now(&self) -> Count {
        let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Count { connections: of(&self.connections), requests: of(&self.requests), bytes: of(&self.bytes) }
    }

    pub fn add_bytes(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::SeqCst);
    }
}

impl Sub for Count {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self {
            connections: self.connections - before.connections,
            requests: self.requests - before.requests,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// The origins' own root, made for one run.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "exeat demo root");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server that shows a certificate for `names`.
    pub fn acceptor(&self, names: &[&str], validity: Validity) -> Result<TlsAcceptor, Error> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(30);
        params.not_after = now + time::Duration::days(if validity == Validity::Expired { -1 } else { 1 });
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.0)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone(), self.0.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Starts a server on a free port of loopback; it ends with the runtime.
pub async fn start(kind: Kind, seen: &Arc<Seen>) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (kind, seen) = (Arc::new(kind), Arc::clone(seen));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            seen.connections.fetch_add(1, Ordering::SeqCst);
            let (kind, seen) = (Arc::clone(&kind), Arc::clone(&seen));
            // How it ends is the peer's to tell: to refuse us is what exeat is here for.
            tokio::spawn(async move { serve(&kind, socket, &seen).await });
        }
    });
    Ok(address)
}

async fn serve(kind: &Kind, socket: TcpStream, seen: &Seen) -> Result<(), Error> {
    socket.set_nodelay(true)?;
    let acceptor = match kind {
        Kind::Old => return old_tls::serve(socket, seen).await,
        Kind::Aws(acceptor, _) | Kind::Api(acceptor) => acceptor,
    };
    let mut stream = acceptor.accept(socket).await?;
    let mut buffer = BytesMut::new();
    while let Some(head) = wire::head(&mut stream, &mut buffer, |count| seen.add_bytes(count)).await? {
        let head = RequestHead::parse(head)?;
        let body =
            wire::body(&mut stream, &mut buffer, head.framing(), |count| seen.add_bytes(count)).await?;
        let number = seen.requests.fetch_add(1, Ordering::SeqCst);
        stream.write_all(&answer(kind, &head, &body, number)).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn answer(kind: &Kind, head: &RequestHead, body: &[u8], number: u64) -> Vec<u8> {
    let host = head.authority().host.to_string();
    let dynamodb = host.starts_with("dynamodb.");
    let (status, media_type, text) = match kind {
        Kind::Aws(_, keys) if !is_signed(head, body, keys) => {
            ("403 Forbidden", "application/xml", "<Error><Code>SignatureDoesNotMatch</Code></Error>")
        }
        Kind::Aws(..) if dynamodb => {
            ("200 OK", "application/x-amz-json-1.0", r#"{"Item":{"id":{"S":"o-1"},"total":{"N":"42"}}}"#)
        }
        Kind::Aws(..) if head.method() == "GET" => ("200 OK", "text/csv", "quarter,revenue\nQ3,42\n"),
        Kind::Aws(..) => ("200 OK", "text/plain", ""),
        Kind::Api(_) | Kind::Old => ("200 OK", "application/json", r#"{"ok":true}"#),
    };
    let id = if dynamodb { "x-amzn-requestid" } else { "x-amz-request-id" };
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\n{id}: DEMO{number:012}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{text}"
    )
    .into_bytes()
}

/// Signed by a key that AWS issued, body included.
pub fn is_signed(head: &RequestHead, body: &[u8], keys: &KnownKeys) -> bool {
    let Ok(Reading::Signed(claim)) = signature::read(head) else { return false };
    let now = Timestamp(time::OffsetDateTime::now_utc().unix_timestamp());
    let Ok(verdict) = claim.verify(Some(body), keys, now) else { return false };
    let mut check = verdict.due.start();
    verdict.identity.signature == SignatureState::Verified
        && check.update(body).and_then(|_| check.finish()).is_ok()
}
