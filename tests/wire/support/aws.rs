//! A proxy before an origin that answers as S3 would: what most promises are shown with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::origin;
use super::proxy::{Proxy, Setup};
use super::sign::CREDENTIALS;
use super::tls::{Ca, ClientTls};

pub const S3: &str = "s3.us-east-1.amazonaws.com";
pub const STS: &str = "sts.us-east-1.amazonaws.com";
/// A directory bucket of S3 Express.
pub const EXPRESS: &str = "ours--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com";
pub const BEDROCK: &str = "bedrock-runtime.us-east-1.amazonaws.com";

/// A request that begins so is answered as soon as its head is in.
const EARLY: &[u8] = b"PUT /ours/early ";

pub const POLICY: &str = "version: 1
statements:
  - {id: ours, effect: allow, action: s3:*, resource: ['arn:aws:s3:::ours', 'arn:aws:s3:::ours/*']}
  - {id: secret, effect: deny, action: s3:*, resource: 'arn:aws:s3:::ours/secret/*'}
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
";

/// Bytes of every connection that the origin accepted.
#[derive(Clone, Default)]
pub struct Origin(Arc<Mutex<Vec<Vec<u8>>>>);

impl Origin {
    pub fn connections(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// All bytes of all connections.
    pub fn bytes(&self) -> usize {
        self.0.lock().unwrap().iter().map(Vec::len).sum()
    }

    /// So many of `byte` came, wherever they stood.
    pub fn count(&self, byte: u8) -> usize {
        self.0.lock().unwrap().iter().flatten().filter(|&&b| b == byte).count()
    }

    /// `text` came, wherever it stood.
    pub fn saw(&self, text: &[u8]) -> bool {
        self.0.lock().unwrap().iter().any(|bytes| origin::find(bytes, text).is_some())
    }

    /// Requests that came whole.
    pub fn requests(&self) -> Vec<origin::Message> {
        let all = self.0.lock().unwrap();
        all.iter().flat_map(|bytes| origin::messages(bytes, false, |_, _| false).unwrap().0).collect()
    }

    async fn serve(self, listener: TcpListener, acceptor: TlsAcceptor, answer: Answer) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (this, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let at = {
                    let mut all = this.0.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let (mut answered, mut piece) = (0, vec![0; 64 * 1024]);
                while let Ok(n @ 1..) = socket.read(&mut piece).await {
                    let (whole, messages) = {
                        let mut all = this.0.lock().unwrap();
                        all[at].extend_from_slice(&piece[..n]);
                        let whole = origin::messages(&all[at], false, |_, _| false);
                        let head = origin::find(&all[at], b"\r\n\r\n").is_some();
                        let early = usize::from(head && all[at].starts_with(EARLY));
                        let messages = whole.map_or(Vec::new(), |(whole, _)| whole);
                        (messages.len().max(early), messages)
                    };
                    for at in answered..whole {
                        let answer = messages.get(at).map_or_else(|| ok("ok"), answer);
                        socket.write_all(answer.as_bytes()).await.ok();
                        socket.flush().await.ok();
                    }
                    answered = answered.max(whole);
                }
            });
        }
    }
}

/// What the origin says to a request.
pub type Answer = fn(&origin::Message) -> String;

/// A success with this body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nx-amz-request-id: ORIGIN1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The program with [`POLICY`] before an origin that is S3 and app.test.
pub async fn start() -> (Proxy, Origin) {
    start_with(POLICY, None).await
}

/// The origin alone, and where it is.
pub async fn origin_saying(ca: &Ca, answer: Answer) -> (Origin, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let origin = Origin::default();
    let acceptor = ca.acceptor(&[
        S3,
        BEDROCK,
        STS,
        "*.s3.us-east-1.amazonaws.com",
        EXPRESS,
        "*.execute-api.us-east-1.amazonaws.com",
        "app.test",
    ]);
    tokio::spawn(origin.clone().serve(listener, acceptor, answer));
    (origin, address)
}

/// The same, with more in its settings file.
pub async fn start_configured(config: &str) -> (Proxy, Origin) {
    start_as(POLICY, config, None, |_| ok("ok")).await
}

pub async fn start_with(policy: &str, audit: Option<&str>) -> (Proxy, Origin) {
    start_saying(policy, audit, |_| ok("ok")).await
}

pub async fn start_saying(policy: &str, audit: Option<&str>, answer: Answer) -> (Proxy, Origin) {
    start_as(policy, "{}\n", audit, answer).await
}

async fn start_as(policy: &str, config: &str, audit: Option<&str>, answer: Answer) -> (Proxy, Origin) {
    let ca = Ca::new();
    let (origin, address) = origin_saying(&ca, answer).await;
    let proxy = Proxy::start(&Setup {
        policy,
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: CREDENTIALS,
        config,
        audit,
    });
    (proxy, origin)
}

/// Sends one request and reads one answer: status line to body.
pub async fn ask(client: &mut ClientTls, request: &[u8]) -> String {
    client.write_all(request).await.unwrap();
    client.flush().await.unwrap();
    let done = |bytes: &[u8]| {
        origin::messages(bytes, false, |start, _| start.contains(" 100 "))
            .is_ok_and(|(all, _)| all.iter().any(|message| !message.start.contains(" 100 ")))
    };
    let (bytes, _) = super::cases::listen(client, Duration::from_secs(10), done).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until `ready` gives something; files are written by another process.
pub async fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = ready() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} never came");
}
