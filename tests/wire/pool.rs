//! Connections to an origin: how many, who is next, which are used again, and what is never sent twice.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::support::aws::{self, until};
use crate::support::origin;
use crate::support::proxy::{Proxy, Setup};
use crate::support::sign::CREDENTIALS;
use crate::support::tls::Ca;

const POLICY: &str =
    "version: 1\nstatements:\n  - {id: app, effect: allow, http: {host: app.test, path: /*}}\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const MISDIRECTED: &str = "HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n";

/// What an origin does with a whole request, the n-th of its connection, which is the n-th of all.
type Script = fn(connection: usize, request: usize) -> Does;

enum Does {
    Answer(&'static str),
    /// And ends the connection without having said so.
    AnswerAndClose(&'static str),
    Close,
}

/// Start lines of requests that came whole, with the number of their connection.
type Seen = Arc<Mutex<Vec<(usize, String)>>>;

struct World {
    proxy: Proxy,
    seen: Seen,
    /// Each answer takes one.
    answers: Arc<Semaphore>,
}

impl World {
    async fn new(script: Script, answers: usize, config: &str) -> Self {
        let ca = Ca::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, answers) = (Seen::default(), Arc::new(Semaphore::new(answers)));
        let acceptor = ca.acceptor(&["app.test"]);
        tokio::spawn(serve(listener, acceptor, script, Arc::clone(&seen), Arc::clone(&answers)));
        let proxy = Proxy::start(&Setup {
            policy: POLICY,
            connect_to: vec![("*:443".into(), address)],
            upstream_ca: ca.pem(),
            credentials: CREDENTIALS,
            config: &format!("workers: 1\n{config}"),
            audit: None,
        });
        Self { proxy, seen, answers }
    }

    /// The answer to one request, over a client's connection of its own.
    async fn ask(&self, request: &str) -> String {
        ask(&self.proxy, request).await
    }

    fn seen(&self) -> Vec<(usize, String)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn ask(proxy: &Proxy, request: &str) -> String {
    aws::ask(&mut proxy.intercepted("app.test").await, request.as_bytes()).await
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    script: Script,
    seen: Seen,
    answers: Arc<Semaphore>,
) {
    for connection in 0.. {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, seen, answers) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&answers));
        tokio::spawn(async move {
            let Ok(mut socket) = acceptor.accept(socket).await else { return };
            let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
            let mut request = 0;
            while let Ok(n @ 1..) = socket.read(&mut piece).await {
                bytes.extend_from_slice(&piece[..n]);
                let (whole, _) = origin::messages(&bytes, false, |_, _| false).unwrap();
                let Some(message) = whole.get(request) else { continue };
                seen.lock().unwrap().push((connection, message.start.clone()));
                answers.acquire().await.unwrap().forget();
                let (answer, close) = match script(connection, request) {
                    Does::Answer(answer) => (answer, false),
                    Does::AnswerAndClose(answer) => (answer, true),
                    Does::Close => return,
                };
                request += 1;
                socket.write_all(answer.as_bytes()).await.ok();
                socket.flush().await.ok();
                if close {
                    socket.shutdown().await.ok();
                    return;
                }
            }
        });
    }
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn an_origin_gets_no_more_connections_than_it_may_and_whoever_asked_first_is_first() {
    let config = "limits: {connections_per_origin: 1, turn: 1m}\n";
    let world = World::new(|_, _| Does::Answer(OK), 0, config).await;
    let world = Arc::new(world);
    let mut asked = Vec::new();
    for n in 0..4 {
        let of = Arc::clone(&world);
        asked.push(tokio::spawn(async move {
            of.ask(&format!("GET /{n} HTTP/1.1\r\nHost: app.test\r\n\r\n")).await
        }));
        // In line before the next one comes.
        match n {
            0 => until("the first request", || (!world.seen().is_empty()).then_some(())).await,
            _ => world.proxy.until_metric("exeat_pool_connections{state=\"wanted\"}", n).await,
        }
    }
    world.answers.add_permits(4);
    for answer in asked {
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let order: Vec<_> = (0..4).map(|n| (0, format!("GET /{n} HTTP/1.1"))).collect();
    assert_eq!(world.seen(), order, "over one connection, in their order");
    assert_eq!(world.proxy.metric("exeat_pool_connections{state=\"idle\"}").await, 1);
}

#[tokio::test]
async fn a_request_for_which_no_connection_comes_free_is_refused_and_the_place_is_not_lost() {
    let config = "limits: {connections_per_origin: 1, turn: 300ms}\n";
    let world = World::new(|_, _| Does::Close, 0, config).await;
    let mut first = world.proxy.intercepted("app.test").await;
    first.write_all(GET.as_bytes()).await.unwrap();
    first.flush().await.unwrap();
    until("the first request", || (!world.seen().is_empty()).then_some(())).await;
    let answer = world.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("[limit.origin]"), "{answer}");
    assert_eq!(world.proxy.metric("exeat_refusals_total{reason=\"limit.origin\"}").await, 1);
    // A client that goes away gives up its request's connection, and with it the place.
    drop(first);
    world.proxy.until_metric("exeat_pool_connections{state=\"active\"}", 0).await;
    world.answers.add_permits(8);
    let answer = world.ask(GET).await;
    assert!(answer.contains("[upstream.closed]"), "{answer}");
    assert_eq!(world.seen().len(), 2, "the refused one never went out");
}

#[tokio::test]
async fn a_connection_that_its_origin_closed_while_idle_is_found_out_before_it_is_used() {
    for second in [GET, POST] {
        let world = World::new(|_, _| Does::AnswerAndClose(OK), 8, "").await;
        assert!(world.ask(POST).await.starts_with("HTTP/1.1 200 "));
        let answer = world.ask(second).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let connections: Vec<usize> = world.seen().iter().map(|(connection, _)| *connection).collect();
        assert_eq!(connections, [0, 1], "each was sent once");
        assert_eq!(retried(&world.proxy), ["", ""]);
    }
}

/// What each record says of a second try; nothing where there was none.
fn retried(proxy: &Proxy) -> Vec<String> {
    let said = |event: &Value| event["additionalEventData"]["exeat"]["retried"].as_str().map(str::to_owned);
    proxy.events().iter().map(|event| said(event).unwrap_or_default()).collect()
}

#[tokio::test]
async fn what_was_written_is_never_sent_again() {
    for (request, line) in [(POST, "POST /a HTTP/1.1"), (GET, "GET /a HTTP/1.1")] {
        // The connection is used again, and ends under the second request.
        let script: Script = |_, request| if request == 0 { Does::Answer(OK) } else { Does::Close };
        let world = World::new(script, 8, "").await;
        assert!(world.ask(GET).await.starts_with("HTTP/1.1 200 "));
        world.proxy.until_metric("exeat_pool_connections{state=\"idle\"}", 1).await;
        let answer = world.ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("[upstream.closed]"), "{answer}");
        assert_eq!(world.seen(), [(0, "GET /a HTTP/1.1".to_owned()), (0, line.to_owned())]);
        assert_eq!(world.proxy.audit().len(), 4, "an intent and an event each");
        assert_eq!(retried(&world.proxy), ["", ""]);
    }
}

#[tokio::test]
async fn a_misdirected_request_without_a_body_is_sent_once_more_over_another_connection() {
    let first_errs: Script = |connection, _| Does::Answer(if connection == 0 { MISDIRECTED } else { OK });
    let always_errs: Script = |_, _| Does::Answer(MISDIRECTED);
    for (script, request, status, sent) in [
        (first_errs, GET, "200", 2),
        (first_errs, "DELETE /a HTTP/1.1\r\nHost: app.test\r\n\r\n", "200", 2),
        (always_errs, GET, "421", 2),
        // Its body has gone, and nobody kept it.
        (first_errs, POST, "421", 1),
    ] {
        let world = World::new(script, 8, "").await;
        let answer = world.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        let connections: Vec<usize> = world.seen().iter().map(|(connection, _)| *connection).collect();
        assert_eq!(connections, (0..sent).collect::<Vec<_>>(), "{request:?}");
        assert_eq!(world.proxy.audit().len(), 2, "one intent, one event");
        assert_eq!(retried(&world.proxy), [if sent == 2 { "misdirected" } else { "" }], "{request:?}");
        let idle = u64::from(status == "200");
        world.proxy.until_metric("exeat_pool_connections{state=\"idle\"}", idle).await;
    }
}
