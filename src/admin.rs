//! The admin door: is the program alive, is it ready, and its metrics. Plain HTTP/1.1 for the operator's own tools.
//!
//! Beside the data path: it reads what `record` counts, and changes nothing. Opened only where `--admin` names an
//! address, or `--admin-socket` a file. Refused flows and live events are told through the socket alone, which only our
//! own user can open: on an address the workload could read there what the policy says.

mod patience;
pub mod socket;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{Either, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};

use self::patience::Patient;
use crate::engine::target::{Authority, Host};
use crate::record::Records;
use crate::record::refusals::Found;

/// A probe, a scraper and a person; more are asked to wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;
/// Idle or slow connections may not keep the others out: a head comes in this time, and an answer is taken.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept (out of file descriptors): time for some to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the door looks at.
#[derive(Clone)]
pub struct AdminState {
    pub records: Arc<Records>,
    /// Set while the program drains: `/ready` says 503, so that nobody sends more.
    pub draining: Arc<AtomicBool>,
}

/// What a question came through.
#[derive(Debug, Clone, Copy)]
enum Door {
    Address(SocketAddr),
    Socket,
}

/// Serves until `shutdown` resolves; answers under way are dropped with the runtime.
pub async fn serve(
    listener: TcpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let door = Door::Address(listener.local_addr()?);
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    accept_all(accept, door, state, shutdown).await;
    Ok(())
}

/// As [`serve`], for the operator's socket.
pub async fn serve_socket(listener: UnixListener, state: AdminState, shutdown: impl Future<Output = ()>) {
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    accept_all(accept, Door::Socket, state, shutdown).await;
}

async fn accept_all<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    accept: impl Fn(&mut Context<'_>) -> Poll<std::io::Result<S>>,
    door: Door,
    state: AdminState,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (poll_fn(&accept).await, place.expect("the semaphore is never closed"))
        };
        let (accepted, place) = tokio::select! {
            () = &mut shutdown => return,
            accepted = accepted => accepted,
        };
        let Ok(stream) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let state = state.clone();
        tokio::spawn(async move {
            connection(stream, door, state).await;
            drop(place);
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, door: Door, state: AdminState) {
    let answer = service_fn(move |request| {
        let response = answer(&request, door, &state);
        async move { Ok::<_, Infallible>(response) }
    });
    // A probe that hangs up is nobody's concern.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Patient::new(stream, ANSWER_TIMEOUT)), answer)
        .await;
}

fn answer<B>(request: &Request<B>, door: Door, state: &AdminState) -> Response<Told> {
    if let Door::Address(door) = door
        && !is_asked_for_us(request, door)
    {
        return text(StatusCode::MISDIRECTED_REQUEST, "ask by address or as localhost\n");
    }
    let path = request.uri().path();
    let is_socket = matches!(door, Door::Socket);
    let flow = path.strip_prefix("/flows/").filter(|_| is_socket);
    let events = is_socket && path == "/events";
    if !matches!(path, "/live" | "/ready" | "/metrics") && flow.is_none() && !events {
        return text(StatusCode::NOT_FOUND, "not here: /live /ready /metrics\n");
    }
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    if let Some(flow) = flow {
        return refused_flow(flow, &state.records);
    }
    if events {
        return live(&state.records);
    }
    match path {
        "/metrics" => {
            let mut response = text(StatusCode::OK, state.records.metrics.text());
            let version = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, version);
            response
        }
        "/ready" if state.draining.load(Ordering::Relaxed) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        }
        "/ready" if state.records.is_down() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the audit sink does not take lines\n")
        }
        _ => text(StatusCode::OK, "ok\n"),
    }
}

/// Event lines from now on, until whoever asked goes away.
fn live(records: &Records) -> Response<Told> {
    let Some(lines) = records.live().watch() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "as many watch already as may\n");
    };
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = Either::Right(Lines(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// An answer that is whole, or one that goes on.
type Told = Either<Full<Bytes>, Lines>;

struct Lines(mpsc::Receiver<Bytes>);

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// The event line of a flow that was refused, by its id or a unique end of it.
fn refused_flow(ending: &str, records: &Records) -> Response<Told> {
    let refusals = records.refusals();
    match refusals.find(ending) {
        Found::Line(line) => {
            let mut response = text(StatusCode::OK, line);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Found::Several(count) => {
            text(StatusCode::CONFLICT, format!("`{ending}` ends {count} flows: give more of it\n"))
        }
        Found::None => {
            let kept = refusals.len();
            let said =
                format!("no refused flow `{ending}` among the newest {kept}; audit files have them all\n");
            text(StatusCode::NOT_FOUND, said)
        }
    }
}

/// A page in the operator's browser can make a name of its own resolve to loopback (DNS rebinding) and would then
/// read our answers; its `Host` tells. So a loopback door answers only to what loopback is called.
fn is_asked_for_us<B>(request: &Request<B>, door: SocketAddr) -> bool {
    if !door.ip().to_canonical().is_loopback() {
        return true;
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    // An absolute-form target overrides `Host`, and would be believed by whoever reads the request next.
    let same = request.uri().authority().is_none_or(|asked| asked.as_str().as_bytes() == host.as_bytes());
    let asked = host.to_str().ok().and_then(|host| Authority::parse(host, Some(80)).ok());
    same && asked.is_some_and(|asked| match asked.host {
        Host::Literal(ip) => is_loopback(ip),
        Host::Name(name) => &*name == "localhost",
    })
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Told> {
    let mut response = Response::new(Either::Left(Full::new(body.into())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reason::Reason;
    use crate::record::{BootId, Metrics, Outcome, Settings, Sink, Target};
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpStream;

    fn state(sink: &str) -> AdminState {
        let sink = Sink::open(&Target::File { path: sink.into(), rotation: None }).unwrap();
        let records = Records::new(sink, Metrics::new("1.2.3"), Settings::default(), BootId::new(1));
        AdminState { records, draining: Arc::default() }
    }

    async fn start(state: AdminState) -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(serve(listener, state, async { drop(stopped.await) }));
        (address, stop)
    }

    async fn ask(address: SocketAddr, head: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tells_life_readiness_and_metrics_and_nothing_else() {
        let state = state("/dev/null");
        let (address, _stop) = start(state.clone()).await;
        for (line, status) in [
            ("GET /live HTTP/1.1", "200"),
            ("GET /ready HTTP/1.1", "200"),
            ("GET /metrics HTTP/1.1", "200"),
            ("GET / HTTP/1.1", "404"),
            ("GET /metrics/ HTTP/1.1", "404"),
            ("POST /metrics HTTP/1.1", "405"),
            ("HEAD /live HTTP/1.1", "405"),
        ] {
            let answer = ask(address, &format!("{line}\r\nHost: localhost")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        }
        let metrics = ask(address, "GET /metrics HTTP/1.1\r\nHost: localhost").await;
        assert!(metrics.contains("exeat_build_info{version=\"1.2.3\"} 1"), "{metrics}");
        state.draining.store(true, Ordering::Relaxed);
        assert!(ask(address, "GET /ready HTTP/1.1\r\nHost: localhost").await.starts_with("HTTP/1.1 503 "));
        assert!(ask(address, "GET /live HTTP/1.1\r\nHost: localhost").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn is_not_ready_while_the_audit_sink_takes_nothing() {
        let state = state("/dev/full");
        drop(state.records.recorder().open_own());
        let (address, _stop) = start(state).await;
        let answer = ask(address, "GET /ready HTTP/1.1\r\nHost: localhost").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("audit"), "{answer}");
    }

    #[tokio::test]
    async fn refused_flows_are_told_through_the_socket_and_never_through_an_address() {
        let state = state("/dev/null");
        state.records.refusals();
        let recorder = state.records.recorder();
        let peer = ([127, 0, 0, 1], 1).into();
        let entry = recorder.open_connection(crate::engine::facts::Door::Forward, peer, Some(b"a.test:443"));
        let flow = entry.flow().to_string();
        entry.close(Outcome::refused(Reason::TlsNoSni, 0, "no name")).await;
        let path = std::env::temp_dir().join(format!("exeat-{flow}.sock"));
        let (listener, _file) = socket::OperatorSocket::bind(&path).unwrap().open().unwrap();
        tokio::spawn(serve_socket(listener, state.clone(), std::future::pending()));
        let through_socket = async |line: String| {
            let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let told = through_socket(format!("GET /flows/{flow}")).await;
        assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("\"reason\":\"tls.no_sni\""), "{told}");
        for (line, status) in [
            ("GET /flows/-0-1".to_owned(), "200"),
            ("GET /flows/-0-2".to_owned(), "404"),
            ("GET /flows".to_owned(), "404"),
            (format!("DELETE /flows/{flow}"), "405"),
            ("GET /ready".to_owned(), "200"),
        ] {
            let answer = through_socket(line.clone()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        }
        let (address, _stop) = start(state.clone()).await;
        for path in [format!("/flows/{flow}"), "/events".to_owned()] {
            let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost")).await;
            assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("no_sni"), "{answer}");
        }
        // Events go on until the one who asked goes away: one line now, and one at each that comes.
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n").await.unwrap();
        let mut told = BufReader::new(stream).lines();
        while !told.next_line().await.unwrap().unwrap().is_empty() {}
        for reason in [Reason::TlsEch, Reason::TlsNotTls] {
            let entry = recorder.open_connection(crate::engine::facts::Door::Forward, peer, None);
            entry.close(Outcome::refused(reason, 0, "no")).await;
            let line = told.next_line().await.unwrap().unwrap();
            assert!(line.contains(&format!("\"reason\":\"{reason}\"")), "{line}");
        }
    }

    #[tokio::test]
    async fn a_loopback_door_answers_only_to_loopback_names() {
        let (address, _stop) = start(state("/dev/null")).await;
        let port = address.port();
        for (hosts, status) in [
            (format!("Host: 127.0.0.1:{port}"), "200"),
            (format!("Host: [::1]:{port}"), "200"),
            (format!("Host: LOCALHOST:{port}"), "200"),
            ("Host: rebound.example.com".into(), "421"),
            ("Host: localhost.example.com".into(), "421"),
            ("Host: 10.0.0.1".into(), "421"),
            ("Host: localhost\r\nHost: rebound.example.com".into(), "421"),
            ("X-Forwarded-Host: localhost".into(), "421"),
        ] {
            let answer = ask(address, &format!("GET /metrics HTTP/1.1\r\n{hosts}")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{hosts}: {answer}");
        }
        let absolute = "GET http://rebound.example.com/metrics HTTP/1.1\r\nHost: localhost";
        assert!(ask(address, absolute).await.starts_with("HTTP/1.1 421 "));
    }

    #[tokio::test]
    async fn clients_that_ask_on_and_never_read_do_not_keep_a_probe_out() {
        let (address, _stop) = start(state("/dev/null")).await;
        let mut greedy = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            greedy.push(tokio::spawn(async move {
                let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(64);
                while stream.write_all(asked.as_bytes()).await.is_ok() {}
                // Given up by the door; the socket is kept all the same.
                std::future::pending::<()>().await;
            }));
        }
        // All places are taken, in the order of the connections.
        let probe = ask(address, "GET /live HTTP/1.1\r\nHost: localhost");
        let answer = tokio::time::timeout(4 * ANSWER_TIMEOUT, probe).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        greedy.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn slow_connections_do_not_keep_a_probe_out_for_long_and_shutdown_ends_it() {
        let (address, stop) = start(state("/dev/null")).await;
        let mut slow = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            slow.push(TcpStream::connect(address).await.unwrap());
        }
        let probe = ask(address, "GET /live HTTP/1.1\r\nHost: localhost");
        let answer = tokio::time::timeout(2 * HEAD_TIMEOUT, probe).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(slow);
        drop(stop);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
