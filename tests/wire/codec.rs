//! Every case of both HTTP/1 lists, and answers that come before the upload is done: through the bare codec on plain
//! TCP, and through the program itself with TLS on both legs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::cases::{self, Ending};
use crate::support::proxy::{Proxy, Setup};
use crate::support::tls::Ca;
use crate::support::{origin, relay};

/// What the cases run through.
#[derive(Clone, Copy, PartialEq)]
enum Bed {
    /// The codec as a relay.
    Codec,
    /// The program, TLS on both legs.
    Program,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// An origin that waits, a proxy before it, and what is needed to reach it.
struct Stage {
    listener: Option<TcpListener>,
    acceptor: Option<TlsAcceptor>,
    proxy: Option<Proxy>,
    relay: SocketAddr,
}

const POLICY: &str =
    "version: 1\nstatements:\n  - {id: app, effect: allow, http: {host: app.test, path: /*}}\n";
/// For cases that end by a time-out, and for all others: those must not meet one, however busy the machine.
const HASTY: &str = "limits: {head: 3s, response_head: 4s}\n";
const PATIENT: &str = "limits: {handshake: 2m, head: 2m, response_head: 2m}\n";
const TIMED: [&str; 2] = ["lim-slow-head", "r-slow"];
/// For what must come.
const PATIENCE: Duration = Duration::from_secs(120);
/// For what must not come, and would come at once.
const SURPLUS: Duration = Duration::from_millis(50);

impl Stage {
    async fn for_case(bed: Bed, case: &Value) -> Self {
        let timed = TIMED.contains(&case["id"].as_str().unwrap());
        Self::set(bed, if timed { HASTY } else { PATIENT }).await
    }

    async fn set(bed: Bed, config: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = listener.local_addr().unwrap();
        if bed == Bed::Codec {
            let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let relay = front.local_addr().unwrap();
            tokio::spawn(relay::run(front, origin, config == HASTY));
            return Self { listener: Some(listener), acceptor: None, proxy: None, relay };
        }
        let ca = Ca::new();
        let proxy = Proxy::start(&Setup {
            policy: POLICY,
            connect_to: vec![("app.test:443".into(), origin)],
            upstream_ca: ca.pem(),
            credentials: "",
            config,
            audit: None,
        });
        let relay = proxy.address;
        let acceptor = Some(ca.acceptor(&["app.test"]));
        Self { listener: Some(listener), acceptor, proxy: Some(proxy), relay }
    }

    async fn client(&self) -> Box<dyn Duplex> {
        match &self.proxy {
            Some(proxy) => Box::new(proxy.intercepted("app.test").await),
            None => Box::new(TcpStream::connect(self.relay).await.unwrap()),
        }
    }

    /// Why the audit trail is not what the case asks for.
    fn misrecorded(&self, upstream: usize, refused: usize) -> Option<String> {
        let events = self.proxy.as_ref()?.events();
        let reasons: Vec<&str> =
            events.iter().filter_map(|e| e["additionalEventData"]["exeat"]["reason"].as_str()).collect();
        let answered = events.len() - reasons.len();
        let fits = answered == upstream && reasons.len() >= refused;
        (!fits).then(|| {
            format!("{upstream} answered and {refused} refused, but recorded {answered} and {reasons:?}")
        })
    }
}

async fn accept(listener: &TcpListener, acceptor: Option<&TlsAcceptor>) -> Option<Box<dyn Duplex>> {
    let (socket, _) = listener.accept().await.unwrap();
    Some(match acceptor {
        Some(acceptor) => Box::new(acceptor.accept(socket).await.ok()?),
        None => Box::new(socket),
    })
}

/// Bytes of each connection that the origin accepted.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Answers 200 to each whole request, strictly read, and keeps all bytes.
async fn recorder(listener: TcpListener, acceptor: Option<TlsAcceptor>, seen: Seen) {
    loop {
        let Some(mut socket) = accept(&listener, acceptor.as_ref()).await else { continue };
        let seen = Arc::clone(&seen);
        let at = {
            let mut all = seen.lock().unwrap();
            all.push(Vec::new());
            all.len() - 1
        };
        tokio::spawn(async move {
            let (mut answered, mut piece) = (0, [0; 16 * 1024]);
            while let Ok(n @ 1..) = socket.read(&mut piece).await {
                let whole = {
                    let mut all = seen.lock().unwrap();
                    all[at].extend_from_slice(&piece[..n]);
                    origin::messages(&all[at], false, |_, _| false).map_or(0, |(whole, _)| whole.len())
                };
                for _ in answered..whole {
                    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.ok();
                    socket.flush().await.ok();
                }
                answered = answered.max(whole);
            }
        });
    }
}

/// Why the case fails; `None` when it passes.
async fn judge_request(bed: Bed, case: &Value) -> Option<String> {
    let seen = Seen::default();
    let mut stage = Stage::for_case(bed, case).await;
    let listener = stage.listener.take().unwrap();
    tokio::spawn(recorder(listener, stage.acceptor.clone(), Arc::clone(&seen)));
    let (mut read, mut write) = tokio::io::split(stage.client().await);
    let expect = case["expect"].as_str().unwrap();
    let wanted = case["upstream_requests"].as_u64().unwrap_or(1) as usize;
    let script = case["raw"].clone();
    let writer = tokio::spawn(async move {
        cases::play(&script, &mut write).await;
        write
    });
    let enough = |bytes: &[u8]| {
        let read = origin::messages(bytes, false, |start, _| start.contains(" 100 "));
        let answers = read.map_or(0, |(all, _)| all.iter().filter(|m| !m.start.contains(" 100 ")).count());
        matches!(expect, "accept" | "reject_or_normalise") && answers >= wanted
    };
    let (bytes, ended) = cases::listen(&mut read, PATIENCE, enough).await;
    // What should not come would come right behind.
    let (more, late) = cases::listen(&mut read, SURPLUS, |_| ended.is_some()).await;
    let (bytes, ended) = ([bytes, more].concat(), ended.or(late));
    writer.abort();
    let (answers, rest) = match origin::messages(&bytes, true, |start, _| start.contains(" 100 ")) {
        Ok(read) => read,
        Err(error) => return Some(format!("client got a malformed answer: {error}")),
    };
    let status: Vec<u64> = answers
        .iter()
        .filter_map(|m| m.start.split(' ').nth(1)?.parse().ok())
        .filter(|&status| status != 100)
        .collect();
    let mut upstream = Vec::new();
    let mut partial = false;
    for connection in seen.lock().unwrap().iter() {
        match origin::messages(connection, false, |_, _| false) {
            Ok((whole, left)) => {
                upstream.extend(whole);
                partial |= !left.is_empty();
            }
            Err(error) => {
                return Some(format!("upstream got {error}: {:?}", String::from_utf8_lossy(connection)));
            }
        }
    }
    let body = case["upstream_body"].as_str().map(cases::latin1);
    let accepted = || {
        let bodies = body.as_ref().is_none_or(|body| upstream.first().is_some_and(|m| m.body == *body));
        let counts =
            upstream.len() == wanted || case["or_upstream_requests"].as_u64() == Some(upstream.len() as u64);
        let asks = |m: &origin::Message| {
            m.values("upgrade") == ["websocket"] && m.values("connection") == ["Upgrade"]
        };
        let hop = upstream.iter().all(|m| {
            let all =
                ["connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"];
            let own = if asks(m) { &all[1..5] } else { &all[..] };
            own.iter().all(|name| m.values(name).is_empty())
        });
        counts && bodies && hop && !partial && status.iter().take(upstream.len()).all(|&s| s == 200)
    };
    let allowed: Vec<u64> =
        case["status"].as_array().map_or(vec![400], |all| all.iter().filter_map(Value::as_u64).collect());
    let rejected = || {
        ended.is_some()
            && upstream.is_empty()
            && !partial
            && rest.is_empty()
            && (status.is_empty() || (status.len() == 1 && allowed.contains(&status[0])))
    };
    // The head may have gone; a whole request may not.
    let aborted = || ended.is_some() && upstream.is_empty() && status.iter().all(|s| *s >= 400);
    let body_case = expect == "reject_or_normalise" && case["raw"].to_string().contains("chunked");
    let passes = match expect {
        "accept" => accepted(),
        "reject" => rejected(),
        "abort" => aborted(),
        "reject_or_normalise" => rejected() || accepted() || (body_case && aborted()),
        other => panic!("expectation {other}"),
    };
    if passes
        && let Some(why) =
            stage.misrecorded(upstream.len(), usize::from(upstream.len() < wanted && !bytes.is_empty()))
    {
        return Some(why);
    }
    (!passes).then(|| {
        format!("{expect} {allowed:?}: client {status:?} ended {ended:?}; upstream {} whole, partial {partial}: {:?}", upstream.len(), upstream.iter().map(|m| &m.start).collect::<Vec<_>>())
    })
}

async fn every_request_case(bed: Bed) {
    let cases = cases::load("requests.json");
    assert_eq!(cases.len(), 180);
    let judge = move |case: Value| async move { judge_request(bed, &case).await };
    run(cases, judge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_case_is_read_as_a_strict_server_would() {
    every_request_case(Bed::Codec).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_case_is_read_as_a_strict_server_would_over_tls() {
    every_request_case(Bed::Program).await;
}

/// Runs all cases, some at a time, and names those that fail.
async fn run<F: Future<Output = Option<String>> + Send + 'static>(
    cases: Vec<Value>,
    judge: impl Fn(Value) -> F,
) {
    const AT_ONCE: usize = 40;
    let mut running = tokio::task::JoinSet::new();
    let mut failed: Vec<String> = Vec::new();
    for case in cases {
        if running.len() == AT_ONCE {
            failed.extend(running.join_next().await.and_then(|done| done.unwrap()));
        }
        let id = case["id"].as_str().unwrap().to_owned();
        let verdict = judge(case);
        running.spawn(async move { verdict.await.map(|why| format!("{id}: {why}")) });
    }
    while let Some(done) = running.join_next().await {
        failed.extend(done.unwrap());
    }
    failed.sort();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

/// Sends bytes with its part of the handshake, so that they are there before any request can be.
async fn speak_first(
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    bytes: &[u8],
) -> Option<Box<dyn Duplex>> {
    use std::io::Write;
    let (socket, _) = listener.accept().await.unwrap();
    let early = |connection: &mut rustls::ServerConnection| connection.writer().write_all(bytes).unwrap();
    Some(Box::new(acceptor.accept_with(socket, early).await.ok()?))
}

/// Plays one response script on the first connection, and keeps later ones apart.
async fn hostile(listener: TcpListener, acceptor: Option<TlsAcceptor>, script: Value, early: bool) {
    loop {
        let script = script.clone();
        let on_connect = script[0].get("send_on_connect").and_then(Value::as_str).map(cases::latin1);
        let accepted = match (&acceptor, &on_connect) {
            (Some(acceptor), Some(bytes)) => speak_first(&listener, acceptor, bytes).await,
            _ => accept(&listener, acceptor.as_ref()).await,
        };
        let Some(mut socket) = accepted else { continue };
        tokio::spawn(async move {
            if script.to_string().contains("close_after_accept") {
                let mut piece = [0; 1024];
                let _ = socket.read(&mut piece).await;
                return;
            }
            if on_connect.is_none() {
                let mut head = Vec::new();
                while origin::find(&head, b"\r\n\r\n").is_none() {
                    let mut piece = [0; 4096];
                    match socket.read(&mut piece).await {
                        Ok(n @ 1..) => head.extend_from_slice(&piece[..n]),
                        _ => return,
                    }
                }
            }
            match cases::play(&script, &mut socket).await {
                Ending::Open if !early => {
                    let mut piece = [0; 4096];
                    while let Ok(1..) = socket.read(&mut piece).await {}
                }
                Ending::Drop => drop(socket),
                _ => {
                    socket.shutdown().await.ok();
                }
            }
        });
    }
}

/// On plain TCP a FIN says nothing of an end, and what an origin sends at once may come before our request or after it.
const TLS_ONLY: [&str; 2] = ["r-close-no-notify", "r-before-request"];

async fn judge_response(bed: Bed, case: &Value) -> Option<String> {
    let mut stage = Stage::for_case(bed, case).await;
    let kind = case["request"].as_str().unwrap().to_owned();
    let listener = stage.listener.take().unwrap();
    tokio::spawn(hostile(listener, stage.acceptor.clone(), case["response"].clone(), kind == "POST-64MiB"));
    let (mut read, mut write) = tokio::io::split(stage.client().await);
    let request = match kind.as_str() {
        "POST-64MiB" => format!("POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n", 64 << 20),
        "POST" => "POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "UPGRADE" => "GET /a HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            .to_owned(),
        method => format!("{method} /a HTTP/1.1\r\nHost: app.test\r\n\r\n"),
    };
    let big = kind == "POST-64MiB";
    let writer = tokio::spawn(async move {
        write.write_all(request.as_bytes()).await.ok();
        let zeros = vec![0; 1 << 20];
        for _ in 0..if big { 64 } else { 0 } {
            if write.write_all(&zeros).await.is_err() {
                break;
            }
        }
        write
    });
    let head_request = kind == "HEAD";
    let bodiless = |start: &str, _| head_request || [" 204", " 304", " 10"].iter().any(|s| start.contains(s));
    let done = |bytes: &[u8]| {
        origin::messages(bytes, false, bodiless)
            .is_ok_and(|(all, _)| all.iter().any(|m| !m.start.contains(" 10")))
    };
    let (bytes, ended) = cases::listen(&mut read, PATIENCE, done).await;
    let _write = writer.await;
    let (more, _) = cases::listen(&mut read, SURPLUS, |_| ended.is_some()).await;
    let bytes = [bytes, more].concat();
    let parsed = origin::messages(&bytes, false, bodiless);
    let (answers, rest) = match parsed {
        Ok((all, rest)) => (all.into_iter().filter(|m| !m.start.contains(" 10")).collect::<Vec<_>>(), rest),
        Err(error) => return Some(format!("client got {error}")),
    };
    let status = answers.first().and_then(|m| m.start.split(' ').nth(1)?.parse::<u64>().ok());
    let clean = answers.len() == 1 && rest.is_empty();
    let ok = || {
        let want = case["client_status"]
            .as_array()
            .map_or(200..=399, |s| s[0].as_u64().unwrap()..=s[0].as_u64().unwrap());
        let body = case["client_body"].as_str().map(cases::latin1);
        let gone = |name: &str| answers[0].values(name).is_empty();
        clean
            && status.is_some_and(|s| want.contains(&s))
            && body.is_none_or(|body| answers[0].body == body)
            && gone("alt-svc")
            && gone("x-secret")
            && gone("keep-alive")
            && gone("proxy-authenticate")
    };
    // Our own words or none, and nothing of the origin's.
    let bad = || {
        let body = answers.first().map(|m| String::from_utf8_lossy(&m.body).into_owned()).unwrap_or_default();
        clean
            && matches!(status, Some(502 | 504))
            && (body.is_empty() || body.contains("urn:exeat:upstream."))
    };
    let aborted = || (answers.is_empty() && ended.is_some()) || bad();
    let passes = match case["expect"].as_str().unwrap() {
        "ok" => ok(),
        "bad_gateway" => bad(),
        "ok_or_bad_gateway" => ok() || bad(),
        "abort" => aborted(),
        other => panic!("expectation {other}"),
    };
    (!passes).then(|| {
        format!(
            "{}: status {status:?} ended {ended:?}, {} answers, rest {:?}",
            case["expect"],
            answers.len(),
            String::from_utf8_lossy(&rest[..rest.len().min(200)])
        )
    })
}

async fn every_response_case(bed: Bed) {
    let mut cases = cases::load("responses.json");
    assert_eq!(cases.len(), 58);
    cases.retain(|case| {
        let id = case["id"].as_str().unwrap();
        bed == Bed::Program || !TLS_ONLY.contains(&id)
    });
    let judge = move |case: Value| async move { judge_response(bed, &case).await };
    run(cases, judge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_case_reaches_the_client_whole_or_as_an_error() {
    every_response_case(Bed::Codec).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_response_case_reaches_the_client_whole_or_as_an_error_over_tls() {
    every_response_case(Bed::Program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_upgrade_is_refused_before_anything_goes_upstream() {
    let seen = Seen::default();
    let mut stage = Stage::set(Bed::Program, PATIENT).await;
    let listener = stage.listener.take().unwrap();
    tokio::spawn(recorder(listener, stage.acceptor.clone(), Arc::clone(&seen)));
    let mut client = stage.client().await;
    let request =
        "GET /a HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let (bytes, _) = cases::listen(&mut client, PATIENCE, |_| false).await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("[request.upgrade]"), "{text}");
    assert!(seen.lock().unwrap().iter().all(Vec::is_empty));
}

/// An origin that answers as soon as it has the head, and then closes, or reads the body and the next request.
async fn hasty(listener: TcpListener, acceptor: Option<TlsAcceptor>, closes: bool) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut socket: Box<dyn Duplex> = match acceptor {
                Some(acceptor) => match acceptor.accept(socket).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
                None => Box::new(socket),
            };
            let mut piece = vec![0; 64 * 1024];
            let mut seen = Vec::new();
            loop {
                let head = loop {
                    match origin::find(&seen, b"\r\n\r\n") {
                        Some(end) => break end + 4,
                        None => match socket.read(&mut piece).await {
                            Ok(n @ 1..) => seen.extend_from_slice(&piece[..n]),
                            _ => return,
                        },
                    }
                };
                let close = if closes { "Connection: close\r\n" } else { "" };
                let answer = format!("HTTP/1.1 403 Forbidden\r\n{close}Content-Length: 6\r\n\r\ndenied");
                socket.write_all(answer.as_bytes()).await.ok();
                socket.flush().await.ok();
                if closes {
                    socket.shutdown().await.ok();
                    return;
                }
                let mut left = EIGHT_MIB - (seen.len() - head).min(EIGHT_MIB);
                seen.clear();
                while left > 0 {
                    // Not past the body: the next request may stand right behind it.
                    let most = piece.len().min(left);
                    match socket.read(&mut piece[..most]).await {
                        Ok(n @ 1..) => left -= n,
                        _ => return,
                    }
                }
            }
        });
    }
}

const EIGHT_MIB: usize = 8 << 20;

async fn soak(bed: Bed, closes: bool, rounds: usize) {
    let mut stage = Stage::set(bed, "{}\n").await;
    let listener = stage.listener.take().unwrap();
    tokio::spawn(hasty(listener, stage.acceptor.clone(), closes));
    let stage = Arc::new(stage);
    let body = Arc::new(vec![b'x'; EIGHT_MIB]);
    let mut lost = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    for round in 0..rounds {
        if running.len() >= 8 {
            lost.extend(running.join_next().await.unwrap().unwrap());
        }
        let body = Arc::clone(&body);
        let stage = Arc::clone(&stage);
        running.spawn(async move {
            let (mut read, mut write) = tokio::io::split(stage.client().await);
            let upload = tokio::spawn(async move {
                let head = format!(
                    "POST /{round} HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                write.write_all(head.as_bytes()).await.ok();
                write.write_all(&body).await.ok();
                write.flush().await.ok();
                write
            });
            // Clients that write all before they read lose an answer to an early reset: so they are asked first.
            let _write = upload.await;
            let done = |bytes: &[u8]| origin::find(bytes, b"denied").is_some();
            let (bytes, ended) = cases::listen(&mut read, PATIENCE, done).await;
            (origin::find(&bytes, b"denied").is_none())
                .then(|| format!("{round}: {} bytes, ended {ended:?}", bytes.len()))
        });
    }
    while let Some(done) = running.join_next().await {
        lost.extend(done.unwrap());
    }
    assert!(lost.is_empty(), "{} of {rounds} answers lost:\n{}", lost.len(), lost.join("\n"));
}

/// `EXEAT_SOAK=3000` for the whole of it.
fn rounds() -> usize {
    std::env::var("EXEAT_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_early_answer_is_lost_when_the_origin_closes() {
    soak(Bed::Codec, true, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_early_answer_is_lost_when_the_origin_keeps_reading() {
    soak(Bed::Codec, false, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_early_answer_is_lost_when_the_origin_closes_over_tls() {
    soak(Bed::Program, true, rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_early_answer_is_lost_when_the_origin_keeps_reading_over_tls() {
    soak(Bed::Program, false, rounds()).await;
}
