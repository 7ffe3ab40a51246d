//! A client and an origin that speak either protocol, with one face: for what must hold in all four combinations.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use exeat::engine::request::Framing;
use exeat::proxy::http1::body::{Decoder, Encoder, Step};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::origin;
use super::proxy::Proxy;
use super::tls::{self, Ca, ClientTls};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    H1,
    H2,
}

impl Leg {
    /// What a client of that leg offers. One of HTTP/1.1 offers both, so that its origin is offered both.
    fn offers(self) -> &'static [&'static str] {
        match self {
            Self::H1 => &["h2", "http/1.1"],
            Self::H2 => &["h2"],
        }
    }

    fn speaks(self) -> &'static str {
        match self {
            Self::H1 => "http/1.1",
            Self::H2 => "h2",
        }
    }
}

/// Body bytes as they come.
enum Reader {
    H1 { buf: BytesMut, decoder: Decoder, trailers: Option<HeaderMap>, ended: bool },
    H2(h2::RecvStream),
}

/// One side of an exchange under way: reads the other's body, writes its own.
pub struct Side {
    io: Option<Io>,
    reader: Option<Reader>,
    send: Option<h2::SendStream<Bytes>>,
    response: Option<h2::client::ResponseFuture>,
    respond: Option<h2::server::SendResponse<Bytes>>,
    bodiless: bool,
}

enum Io {
    Client(Box<ClientTls>),
    Origin(Box<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>),
}

impl Io {
    async fn read(&mut self, buf: &mut BytesMut) -> std::io::Result<usize> {
        buf.reserve(16 * 1024);
        match self {
            Self::Client(io) => io.read_buf(buf).await,
            Self::Origin(io) => io.read_buf(buf).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Client(io) => {
                io.write_all(bytes).await?;
                io.flush().await
            }
            Self::Origin(io) => {
                io.write_all(bytes).await?;
                io.flush().await
            }
        }
    }
}

impl Side {
    /// The next piece of the other's body; `None` at its end.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, String> {
        match self.reader.as_mut().expect("a body") {
            Reader::H2(recv) => match std::future::poll_fn(|cx| recv.poll_data(cx)).await {
                Some(Ok(data)) => {
                    recv.flow_control().release_capacity(data.len()).map_err(|e| e.to_string())?;
                    Ok(Some(data))
                }
                Some(Err(error)) => Err(error.to_string()),
                None => Ok(None),
            },
            Reader::H1 { buf, decoder, trailers, ended } => loop {
                match decoder.step(buf, *ended).map_err(|error| error.to_string())? {
                    Step::Data { len, .. } => return Ok(Some(buf.split_to(len).freeze())),
                    Step::End(map) => {
                        *trailers = map.or(trailers.take());
                        return Ok(None);
                    }
                    Step::More => {
                        let io = self.io.as_mut().expect("a socket");
                        *ended = io.read(buf).await.map_err(|error| error.to_string())? == 0;
                    }
                }
            },
        }
    }

    /// So many bytes of it.
    pub async fn hear(&mut self, wanted: usize) -> Result<Vec<u8>, String> {
        let mut heard = Vec::new();
        while heard.len() < wanted {
            match self.piece().await? {
                Some(data) => heard.extend_from_slice(&data),
                None => return Err(format!("it ended after {} bytes", heard.len())),
            }
        }
        Ok(heard)
    }

    /// All that is left of it, and its trailers.
    pub async fn rest(&mut self) -> Result<(Vec<u8>, Vec<(String, String)>), String> {
        let mut all = Vec::new();
        while let Some(data) = self.piece().await? {
            all.extend_from_slice(&data);
        }
        let trailers = match self.reader.as_mut().expect("a body") {
            Reader::H1 { trailers, .. } => trailers.take(),
            Reader::H2(recv) => {
                std::future::poll_fn(|cx| recv.poll_trailers(cx)).await.map_err(|error| error.to_string())?
            }
        };
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let trailers =
            trailers.iter().flatten().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        Ok((all, trailers))
    }

    /// A piece of one's own body.
    pub async fn say(&mut self, data: &[u8]) -> Result<(), String> {
        if let Some(send) = &mut self.send {
            let mut data = Bytes::copy_from_slice(data);
            while !data.is_empty() {
                send.reserve_capacity(data.len());
                while send.capacity() == 0 {
                    match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(error.to_string()),
                        None => return Err("no stream".to_owned()),
                    }
                }
                let piece = data.split_to(send.capacity().min(data.len()));
                send.send_data(piece, false).map_err(|error| error.to_string())?;
            }
            return Ok(());
        }
        let mut out = BytesMut::new();
        Encoder::Chunked.data(data, &mut out).unwrap();
        self.io.as_mut().expect("a socket").write(&out).await.map_err(|error| error.to_string())
    }

    /// The end of it.
    pub async fn end(&mut self, trailers: &[(&'static str, &'static str)]) -> Result<(), String> {
        let map: HeaderMap = trailers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect();
        if let Some(send) = &mut self.send {
            return if map.is_empty() { send.send_data(Bytes::new(), true) } else { send.send_trailers(map) }
                .map_err(|error| error.to_string());
        }
        if self.bodiless {
            return Ok(());
        }
        let mut out = BytesMut::new();
        Encoder::Chunked.end(Some(&map), &mut out).unwrap();
        self.io.as_mut().expect("a socket").write(&out).await.map_err(|error| error.to_string())
    }

    /// Gives it up, so that the other sees a break.
    pub fn reset(mut self) {
        if let Some(send) = &mut self.send {
            send.send_reset(h2::Reason::CANCEL);
        }
    }
}

/// A client's connection.
pub enum Client {
    H1(Box<ClientTls>),
    H2(h2::client::SendRequest<Bytes>),
    Spent,
}

impl Client {
    pub async fn connect(proxy: &Proxy, leg: Leg, host: &str) -> Self {
        let socket = proxy.connect(&format!("{host}:443")).await.unwrap();
        let stream = tls::connect_offering(socket, host, &proxy.ca_pem(), leg.offers()).await.unwrap();
        let spoken =
            stream.get_ref().1.alpn_protocol().map(|spoken| String::from_utf8_lossy(spoken).into_owned());
        assert_eq!(spoken.as_deref(), Some(leg.speaks()));
        match leg {
            Leg::H1 => Self::H1(Box::new(stream)),
            Leg::H2 => {
                let (send, driver) = h2::client::handshake(stream).await.unwrap();
                tokio::spawn(driver);
                Self::H2(send)
            }
        }
    }

    /// A request whose body follows, in pieces.
    pub async fn open(&mut self, method: &str, host: &str, path: &str, fields: &[(&str, &str)]) -> Side {
        self.start(method, host, path, fields, false).await
    }

    /// A request without a body.
    pub async fn get(&mut self, host: &str, path: &str) -> Side {
        self.start("GET", host, path, &[], true).await
    }

    async fn start(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        fields: &[(&str, &str)],
        bodiless: bool,
    ) -> Side {
        let mut side = Side { io: None, reader: None, send: None, response: None, respond: None, bodiless };
        match std::mem::replace(self, Self::Spent) {
            Self::H1(io) => {
                let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
                for (name, value) in fields {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str(if bodiless { "\r\n" } else { "transfer-encoding: chunked\r\n\r\n" });
                let mut io = Io::Client(io);
                io.write(head.as_bytes()).await.unwrap();
                side.io = Some(io);
            }
            Self::H2(mut send) => {
                let mut request =
                    http::Request::builder().method(method).uri(format!("https://{host}{path}"));
                for (name, value) in fields {
                    request = request.header(*name, *value);
                }
                let (response, stream) = send.send_request(request.body(()).unwrap(), bodiless).unwrap();
                (side.response, side.send) = (Some(response), Some(stream));
                *self = Self::H2(send);
            }
            Self::Spent => panic!("an HTTP/1.1 connection serves one request here"),
        }
        side
    }
}

impl Side {
    /// The answer's status and fields; its body follows.
    pub async fn answer(&mut self) -> Result<(u16, HeaderMap), String> {
        if let Some(response) = self.response.take() {
            let (head, recv) = response.await.map_err(|error| error.to_string())?.into_parts();
            self.reader = Some(Reader::H2(recv));
            return Ok((head.status.as_u16(), head.headers));
        }
        let (start, fields, buf) = head(self.io.as_mut().expect("a socket")).await?;
        let status = start.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(start)?;
        self.reader = Some(Reader::H1 { buf, decoder: decoder(&fields), trailers: None, ended: false });
        Ok((status, fields))
    }
}

/// Start line, fields and what came behind them.
async fn head(io: &mut Io) -> Result<(String, HeaderMap, BytesMut), String> {
    let mut buf = BytesMut::new();
    loop {
        if let Some(end) = origin::find(&buf, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buf.split_to(end + 4)).into_owned();
            let mut lines = text.trim_end().split("\r\n");
            let start = lines.next().unwrap_or_default().to_owned();
            let fields = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| {
                (
                    http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    http::HeaderValue::from_str(value).unwrap(),
                )
            });
            return Ok((start, fields.collect(), buf));
        }
        if io.read(&mut buf).await.map_err(|error| error.to_string())? == 0 {
            return Err(format!("ended at {:?}", String::from_utf8_lossy(&buf)));
        }
    }
}

fn decoder(fields: &HeaderMap) -> Decoder {
    let length = fields.get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
    Decoder::new(match length {
        Some(length) => Framing::Length(length),
        None if fields.contains_key("transfer-encoding") => Framing::Chunked,
        None => Framing::None,
    })
}

/// A request as the origin saw it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub path: String,
    pub authority: String,
    pub fields: HeaderMap,
    pub body: usize,
    /// Its end came.
    pub complete: bool,
}

/// All requests that an origin saw.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    fn begin(&self, seen: Seen) -> usize {
        let mut all = self.0.lock().unwrap();
        all.push(seen);
        all.len() - 1
    }

    fn note(&self, at: usize, bytes: usize, complete: bool) {
        let mut all = self.0.lock().unwrap();
        all[at].body += bytes;
        all[at].complete |= complete;
    }
}

/// An origin that does what a request's path says.
pub async fn serve(ca: &Ca, leg: Leg, names: &[&str]) -> (Log, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = ca.acceptor_offering(names, &[leg.speaks()]);
    let log = Log::default();
    let all = log.clone();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let (acceptor, log) = (acceptor.clone(), all.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(socket).await else { return };
                match leg {
                    Leg::H1 => serve_h1(stream, log).await,
                    Leg::H2 => serve_h2(stream, log).await,
                }
            });
        }
    });
    (log, address)
}

async fn serve_h1(stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, log: Log) {
    let mut io = Io::Origin(Box::new(stream));
    loop {
        let Ok((start, fields, buf)) = head(&mut io).await else { return };
        let mut words = start.split(' ').map(str::to_owned);
        let path = words.nth(1).unwrap();
        let authority = fields["host"].to_str().unwrap().to_owned();
        let reader = Reader::H1 { buf, decoder: decoder(&fields), trailers: None, ended: false };
        let side = Side {
            io: Some(io),
            reader: Some(reader),
            send: None,
            response: None,
            respond: None,
            bodiless: false,
        };
        let seen = Seen { path, authority, fields, ..Seen::default() };
        match behave(side, seen, log.clone()).await {
            Some(side) => io = side.io.unwrap(),
            None => return,
        }
    }
}

async fn serve_h2(stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, log: Log) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut served = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        served += 1;
        let (head, recv) = request.into_parts();
        let seen = Seen {
            path: head.uri.path_and_query().unwrap().to_string(),
            authority: head.uri.authority().unwrap().to_string(),
            fields: head.headers,
            ..Seen::default()
        };
        if seen.path == "/goaway" {
            // This one is refused, whatever a GOAWAY that comes with it says.
            connection.graceful_shutdown();
        }
        if seen.path == "/misdirected" && served > 1 {
            let mut respond = respond;
            let answer = http::Response::builder().status(421).body(()).unwrap();
            respond.send_response(answer, true).unwrap();
            continue;
        }
        if seen.path.starts_with("/refuse") && served == 1 {
            let mut respond = respond;
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        let side = Side {
            io: None,
            reader: Some(Reader::H2(recv)),
            send: None,
            response: None,
            respond: Some(respond),
            bodiless: false,
        };
        let log = log.clone();
        tokio::spawn(async move { behave(side, seen, log).await });
    }
}

impl Side {
    async fn respond(&mut self, status: u16) -> Result<(), String> {
        if let Some(respond) = &mut self.respond {
            let head = http::Response::builder().status(status).body(()).unwrap();
            self.send = Some(respond.send_response(head, false).map_err(|error| error.to_string())?);
            return Ok(());
        }
        let head = format!("HTTP/1.1 {status} So\r\ntransfer-encoding: chunked\r\n\r\n");
        self.io.as_mut().expect("a socket").write(head.as_bytes()).await.map_err(|error| error.to_string())
    }

    /// Reads the body to its end.
    async fn swallow(&mut self, log: &Log, at: usize) -> Result<(), String> {
        while let Some(data) = self.piece().await? {
            log.note(at, data.len(), false);
        }
        log.note(at, 0, true);
        Ok(())
    }
}

/// Gives the side back where its connection can serve another request.
async fn behave(mut side: Side, seen: Seen, log: Log) -> Option<Side> {
    let path = seen.path.clone();
    let at = log.begin(seen);
    match path.split('?').next().unwrap() {
        "/echo" => {
            side.respond(200).await.ok()?;
            while let Some(data) = side.piece().await.ok()? {
                log.note(at, data.len(), false);
                side.say(&data).await.ok()?;
            }
            log.note(at, 0, true);
            side.end(&[("grpc-status", "0"), ("x-of-the-app", "kept")]).await.ok()?;
        }
        "/early" => {
            side.respond(403).await.ok()?;
            side.say(b"early").await.ok()?;
            side.end(&[]).await.ok()?;
            side.swallow(&log, at).await.ok()?;
        }
        "/mebibyte" => {
            side.swallow(&log, at).await.ok()?;
            side.respond(200).await.ok()?;
            side.say(&vec![b'm'; 1 << 20]).await.ok()?;
            side.end(&[]).await.ok()?;
        }
        "/hold" => side.swallow(&log, at).await.ok().and(None)?,
        "/break" => {
            side.swallow(&log, at).await.ok()?;
            side.respond(200).await.ok()?;
            side.say(b"half").await.ok()?;
            // The other side has it before the break.
            tokio::task::yield_now().await;
            side.reset();
            return None;
        }
        _ => {
            side.swallow(&log, at).await.ok()?;
            side.respond(200).await.ok()?;
            side.say(b"ok").await.ok()?;
            side.end(&[]).await.ok()?;
        }
    }
    Some(side)
}
