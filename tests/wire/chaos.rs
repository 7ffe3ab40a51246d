//! Twelve points at which a peer may die, stall or lie, on either leg: a typed outcome each, exactly one record, nothing
//! left behind, and the next request is fine.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::support::aws::{S3, until};
use crate::support::legs::Leg;
use crate::support::sign::{Body, s3_head};
use crate::support::tls::ClientTls;
use crate::support::world::{Acceptors, World};
use crate::support::{cases, origin};

const POLICY: &str = "version: 1
statements:
  - {id: ours, effect: allow, action: s3:*, resource: 'arn:aws:s3:::ours/*'}
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
";
/// Each point that stalls is waited for: short, yet long enough for a good exchange on a busy machine.
const LIMITS: &str = "workers: 1
limits: {handshake: 3s, head: 3s, body_idle: 3s, response_head: 3s}
";
/// More than the buffers of two sockets hold.
const LARGE: usize = 64 << 20;
/// For what must come, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a peer does at a step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Die,
    Stall,
    Lie,
}
use Does::{Die, Lie, Stall};

/// What the origin does with its next connections.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    Good,
    Large,
    Handshake(Does),
    /// While the request is on its way to it.
    Request(Does),
    Head(Does),
    Body(Does),
}

async fn world() -> World<Origin> {
    World::new(Leg::H1, "app.test", Origin::Good, serve, POLICY, LIMITS).await
}

async fn connect(world: &World<Origin>) -> ClientTls {
    world.proxy.intercepted("app.test").await
}

/// Plays one connection of an origin.
async fn serve(does: Origin, mut socket: TcpStream, acceptors: Acceptors) {
    let acceptor = if does == Origin::Handshake(Lie) { acceptors.foreign } else { acceptors.good };
    match does {
        Origin::Handshake(Die) => return,
        Origin::Handshake(Stall) => return sink(&mut socket).await,
        _ => {}
    }
    let Ok(mut socket) = acceptor.accept(socket).await else { return };
    let Some(head) = head(&mut socket).await else { return };
    match does {
        // What was not read makes the system say so by a reset.
        Origin::Request(Die) => return,
        Origin::Request(Stall) => return std::future::pending().await,
        Origin::Request(Lie) => {
            say(&mut socket, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            socket.shutdown().await.ok();
            return;
        }
        _ => {}
    }
    if !whole(&mut socket, head).await {
        return;
    }
    let (answer, then): (&[u8], _) = match does {
        Origin::Head(Die) => (b"HTTP/1.1 200 OK\r\nContent-Le", Die),
        Origin::Head(Stall) => (b"HTTP/1.1 200 OK\r\nContent-Le", Stall),
        Origin::Head(Lie) => {
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", Stall)
        }
        Origin::Body(Die) => (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nten bytes.", Die),
        Origin::Body(Stall) => (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nten bytes.", Stall),
        Origin::Body(Lie) => (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
            Stall,
        ),
        Origin::Large => {
            say(&mut socket, format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes()).await;
            say(&mut socket, &vec![b'x'; LARGE]).await;
            return;
        }
        _ => (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", Stall),
    };
    say(&mut socket, answer).await;
    if then == Stall {
        sink(&mut socket).await;
    }
}

async fn say(socket: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    socket.write_all(bytes).await.ok();
    socket.flush().await.ok();
}

/// Reads until the peer ends.
async fn sink(socket: &mut (impl AsyncReadExt + Unpin)) {
    let mut piece = [0; 4096];
    while let Ok(1..) = socket.read(&mut piece).await {}
}

/// The head of a request, and what came behind it.
async fn head(socket: &mut TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while origin::find(&bytes, b"\r\n\r\n").is_none() {
        let mut piece = [0; 1024];
        let n = socket.read(&mut piece).await.ok().filter(|&n| n > 0)?;
        bytes.extend_from_slice(&piece[..n]);
    }
    Some(bytes)
}

/// Reads on until the request is whole; false where it never is.
async fn whole(socket: &mut TlsStream<TcpStream>, mut bytes: Vec<u8>) -> bool {
    loop {
        if origin::messages(&bytes, false, |_, _| false).is_ok_and(|(all, _)| !all.is_empty()) {
            return true;
        }
        let mut piece = [0; 16 * 1024];
        match socket.read(&mut piece).await {
            Ok(n @ 1..) => bytes.extend_from_slice(&piece[..n]),
            _ => return false,
        }
    }
}

/// Sends `request`; gives what came back until an answer was whole, and whether the connection ended before that.
async fn ask(client: &mut ClientTls, request: &str) -> (String, bool) {
    client.write_all(request.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    hear(client).await
}

async fn hear(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> (String, bool) {
    let done =
        |bytes: &[u8]| origin::messages(bytes, false, |_, _| false).is_ok_and(|(all, _)| !all.is_empty());
    let (bytes, ended) = cases::listen(client, PATIENCE, done).await;
    (String::from_utf8_lossy(&bytes).into_owned(), ended.is_some())
}

/// A request whose body does not fit into the buffers on the way, from a client that reads while it writes.
async fn upload(client: ClientTls) -> (String, bool) {
    let (mut read, mut write) = tokio::io::split(client);
    let sending = tokio::spawn(async move {
        let head = format!("POST /large HTTP/1.1\r\nHost: app.test\r\nContent-Length: {LARGE}\r\n\r\n");
        write.write_all(head.as_bytes()).await.ok();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..LARGE / piece.len() {
            if write.write_all(&piece).await.is_err() {
                break;
            }
        }
    });
    let heard = hear(&mut read).await;
    sending.abort();
    heard
}

#[tokio::test]
async fn whatever_an_origin_does_at_any_step_is_one_typed_outcome_and_the_next_request_is_fine() {
    let mut world = world().await;
    // What the client is told: a status; an answer that breaks off; or both, where the lie comes after a good answer.
    let points = [
        (Origin::Handshake(Die), "502", "upstream.closed"),
        (Origin::Handshake(Stall), "504", "upstream.timeout"),
        (Origin::Handshake(Lie), "403", "upstream.certificate"),
        (Origin::Request(Die), "502", "upstream.closed"),
        (Origin::Request(Stall), "504", "upstream.timeout"),
        // An early answer is an answer.
        (Origin::Request(Lie), "200", ""),
        (Origin::Head(Die), "502", "upstream.closed"),
        (Origin::Head(Stall), "504", "upstream.timeout"),
        (Origin::Head(Lie), "502", "upstream.protocol"),
        (Origin::Body(Die), "breaks", "upstream.closed"),
        (Origin::Body(Stall), "breaks", "upstream.timeout"),
        // The surplus reaches nobody, and its connection is not used again.
        (Origin::Body(Lie), "200", ""),
    ];
    for (does, told, reason) in points {
        let point = format!("origin {does:?}");
        world.origin(does);
        let mut client = connect(&world).await;
        let (answer, ended) = match does {
            Origin::Request(_) => upload(client).await,
            _ => ask(&mut client, "GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n").await,
        };
        match told {
            "breaks" => assert!(ended && answer.ends_with("ten bytes."), "{point}: {ended} {answer}"),
            status => assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{point}: {answer}"),
        }
        assert!(reason.is_empty() || told == "breaks" || answer.contains(&format!("[{reason}]")), "{answer}");
        assert!(!answer.contains("bad"), "{point}: {answer}");
        let record = &world.settled(&point, &[reason]).await[0]["additionalEventData"]["exeat"];
        // What passed until it broke.
        let out = match does {
            Origin::Body(Die | Stall) => 10,
            _ if told == "200" => 2,
            _ => 0,
        };
        assert_eq!(record["bytesOut"], out, "{point}: {record}");
        let went = record["bytesIn"].as_u64().unwrap();
        assert_eq!(went > 0, matches!(does, Origin::Request(_)), "{point}: {record}");
        assert!(went < LARGE as u64, "{point}: {record}");
        // Where it was, however far it came, and who it was.
        let upstream = &record["upstream"];
        assert_eq!(upstream["port"], world.address.port(), "{point}: {record}");
        let (tls, shown) = (upstream.get("tls"), upstream.get("shown"));
        let before = matches!(does, Origin::Handshake(_));
        assert_eq!((tls.is_some(), shown.is_some()), (!before, does == Origin::Handshake(Lie)), "{point}");
    }
}

#[tokio::test]
async fn whatever_a_client_does_at_any_step_is_one_typed_outcome_and_the_next_request_is_fine() {
    let mut world = world().await;
    const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    const HEAD: &str = "GET /a HTTP/1.1\r\nHost: app.te";
    const PART: &str = "POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100\r\n\r\nten bytes.";

    for (does, bytes, told, reason) in [
        (Die, HELLO, "", "request.aborted"),
        (Stall, HELLO, "", "tls.handshake"),
        (Lie, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "HTTP/1.1 403 ", "tls.not_tls"),
    ] {
        let mut client = world.proxy.connect("app.test:443").await.unwrap();
        client.write_all(bytes).await.unwrap();
        if does != Die {
            let (bytes, ended) = cases::listen(&mut client, PATIENCE, |_| false).await;
            let answer = String::from_utf8_lossy(&bytes);
            assert!(ended.is_some() && answer.starts_with(told), "hello {does:?}: {answer}");
        }
        drop(client);
        world.settled(&format!("hello {does:?}"), &[reason]).await;
    }

    for (step, does, request, told, reason) in [
        ("head", Die, HEAD, "", "request.malformed"),
        ("head", Stall, HEAD, "HTTP/1.1 408 ", "request.timeout"),
        (
            "head",
            Lie,
            "POST /a HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 400 ",
            "request.framing",
        ),
        ("body", Die, PART, "", "request.aborted"),
        ("body", Stall, PART, "HTTP/1.1 408 ", "request.timeout"),
    ] {
        let mut client = connect(&world).await;
        if does == Die {
            client.write_all(request.as_bytes()).await.unwrap();
            client.flush().await.unwrap();
        } else {
            let (answer, _) = ask(&mut client, request).await;
            assert!(
                answer.starts_with(told) && answer.contains(&format!("[{reason}]")),
                "{step} {does:?}: {answer}"
            );
        }
        // Without a close_notify: it died.
        drop(client);
        world.settled(&format!("{step} {does:?}"), &[reason]).await;
    }

    let mut client = world.proxy.intercepted(S3).await;
    let signed = s3_head("PUT", S3, "/ours/a", &[], &Body::Bytes(b"what was signed"), Some(15));
    let (answer, _) = ask(&mut client, &format!("{signed}what was sent??")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("[sigv4.payload]"), "{answer}");
    drop(client);
    world.settled("body Lie", &["sigv4.payload"]).await;

    for (does, reason) in [(Die, "request.aborted"), (Stall, "request.timeout")] {
        world.origin(Origin::Large);
        let mut client = connect(&world).await;
        client.write_all(b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
        client.flush().await.unwrap();
        client.read_exact(&mut [0; 16]).await.unwrap();
        if does == Stall {
            let told = || world.proxy.events().len() > world.records;
            until("the end of a client's patience", || told().then_some(())).await;
        }
        drop(client);
        let record = &world.settled(&format!("answer {does:?}"), &[reason]).await[0];
        let out = record["additionalEventData"]["exeat"]["bytesOut"].as_u64().unwrap();
        assert!(out > 0 && out < LARGE as u64, "answer {does:?}: {record}");
    }

    // What a client puts behind its request is its next one.
    let mut client = connect(&world).await;
    client.write_all(b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n\x01\x02").await.unwrap();
    client.flush().await.unwrap();
    // Both answers may come in one piece.
    let (answers, _) = cases::listen(&mut client, PATIENCE, |_| false).await;
    let answers = String::from_utf8_lossy(&answers);
    assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("[request.malformed]"), "{answers}");
    drop(client);
    world.settled("answer Lie", &["", "request.malformed"]).await;
}
