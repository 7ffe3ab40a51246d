//! Limits on the wire: what is within them passes, what is past them is refused with a reason, and a place that is given
//! back is somebody else's.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::support::aws::{self, S3, until};
use crate::support::cases;
use crate::support::proxy::{Proxy, Setup, read_head};
use crate::support::sign::CREDENTIALS;
use crate::support::tls::{self, Ca};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

pub async fn start(config: &str) -> (Proxy, aws::Origin) {
    let ca = Ca::new();
    let (origin, address) = aws::origin_saying(&ca, |_| aws::ok("ok")).await;
    (proxy(&ca, address, config), origin)
}

fn proxy(ca: &Ca, origin: std::net::SocketAddr, config: &str) -> Proxy {
    Proxy::start(&Setup {
        policy: aws::POLICY,
        connect_to: vec![("*:443".into(), origin)],
        upstream_ca: ca.pem(),
        credentials: CREDENTIALS,
        config,
        audit: None,
    })
}

/// What a client that comes from `ip` is answered to its CONNECT.
async fn connect_from(proxy: &Proxy, ip: &str) -> (String, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
    let mut socket = socket.connect(proxy.address).await.unwrap();
    socket.write_all(b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n").await.unwrap();
    (read_head(&mut socket).await, socket)
}

#[tokio::test]
async fn a_client_past_its_share_of_connections_is_told_so_and_others_are_let_in() {
    let (proxy, _origin) = start("limits: {connections: 4, connections_per_client: 2}\n").await;
    let mut held = Vec::new();
    for (ip, answer) in [
        ("127.0.0.1", "HTTP/1.1 200 "),
        ("127.0.0.1", "HTTP/1.1 200 "),
        ("127.0.0.1", "HTTP/1.1 503 "),
        ("127.0.0.2", "HTTP/1.1 200 "),
        ("127.0.0.3", "HTTP/1.1 200 "),
        ("127.0.0.4", "HTTP/1.1 503 "),
    ] {
        let (told, socket) = connect_from(&proxy, ip).await;
        assert!(told.starts_with(answer), "{ip}: {told}");
        assert!(answer.contains("200") || told.contains("reason=limit.connections;"), "{told}");
        held.push(socket);
    }
    assert_eq!(proxy.metric("exeat_in_use{resource=\"connections\"}").await, 4);
    assert_eq!(proxy.metric("exeat_refusals_total{reason=\"limit.connections\"}").await, 2);
    assert_eq!(proxy.events().len(), 2, "one record each");
    drop(held);
    proxy.until_metric("exeat_in_use{resource=\"connections\"}", 0).await;
    let answer = aws::ask(&mut proxy.intercepted("app.test").await, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Takes connections, and shakes hands on each only once it is told to.
async fn reluctant(listener: TcpListener, acceptor: TlsAcceptor, go: Arc<Notify>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, go) = (acceptor.clone(), Arc::clone(&go));
        tokio::spawn(async move {
            go.notified().await;
            let mut socket = acceptor.accept(socket).await.unwrap();
            let mut piece = [0; 4096];
            while let Ok(1..) = socket.read(&mut piece).await {
                socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                socket.flush().await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn a_dial_past_the_limit_waits_for_its_turn_and_is_refused_when_none_comes() {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let go = Arc::new(Notify::new());
    tokio::spawn(reluctant(listener, ca.acceptor(&["app.test"]), Arc::clone(&go)));
    let proxy = proxy(&ca, address, "limits: {dials: 1, turn: 500ms, handshake: 1m}\n");
    let mut first = proxy.intercepted("app.test").await;
    first.write_all(GET).await.unwrap();
    first.flush().await.unwrap();
    proxy.until_metric("exeat_in_use{resource=\"dials\"}", 1).await;
    let answer = aws::ask(&mut proxy.intercepted("app.test").await, GET).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("[limit.dials]"), "{answer}");
    go.notify_one();
    let answer = aws::ask(&mut first, b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(proxy.metric("exeat_in_use{resource=\"dials\"}").await, 0);
    // One that waits gets its turn as soon as there is one.
    go.notify_one();
    let answer = aws::ask(&mut proxy.intercepted("app.test").await, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(proxy.metric("exeat_refusals_total{reason=\"limit.dials\"}").await, 1);
}

/// A form upload: its fields stand in the body, which must be read before it is judged.
fn form(length: usize) -> String {
    format!(
        "POST /ours HTTP/1.1\r\nHost: {S3}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_held_body_that_drips_gives_its_room_back_in_time() {
    let (proxy, origin) = start("limits: {held_body: 300ms, body_idle: 1m, inspection: 1MiB}\n").await;
    let mut client = proxy.intercepted(S3).await;
    client.write_all(form(1 << 20).as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    proxy.until_metric("exeat_in_use{resource=\"inspection\"}", 1 << 20).await;
    let (mut read, mut write) = tokio::io::split(client);
    let dripping = tokio::spawn(async move {
        while write.write_all(b" ").await.is_ok() && write.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (bytes, _) = cases::listen(&mut read, Duration::from_secs(60), |b| b.ends_with(b"</Error>")).await;
    let answer = String::from_utf8_lossy(&bytes);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request.timeout"), "{answer}");
    proxy.until_metric("exeat_in_use{resource=\"inspection\"}", 0).await;
    dripping.abort();
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_body_for_which_there_is_no_room_is_refused_after_its_turn() {
    let (proxy, origin) = start("limits: {turn: 200ms, inspection: 1MiB}\n").await;
    let mut first = proxy.intercepted(S3).await;
    first.write_all(form(1 << 20).as_bytes()).await.unwrap();
    first.flush().await.unwrap();
    proxy.until_metric("exeat_in_use{resource=\"inspection\"}", 1 << 20).await;
    let answer = aws::ask(&mut proxy.intercepted(S3).await, form(100).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("[limit.inspect]"), "{answer}");
    drop(first);
    proxy.until_metric("exeat_in_use{resource=\"inspection\"}", 0).await;
    let answer = aws::ask(&mut proxy.intercepted(S3).await, (form(100) + &" ".repeat(100)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "there is room, and it is judged: {answer}");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn half_open_connections_keep_no_good_client_out_and_are_let_go_of() {
    let (proxy, _origin) = start("limits: {head: 5s, handshake: 5s}\n").await;
    let mut silent = Vec::new();
    for at in 0..200 {
        let mut socket = TcpStream::connect(proxy.address).await.unwrap();
        // Nothing at all; half a CONNECT; a CONNECT and half a hello.
        let said: &[u8] = match at % 3 {
            0 => b"",
            1 => b"CONNECT app.test:443 HT",
            _ => b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n\x16\x03\x01\x02",
        };
        socket.write_all(said).await.unwrap();
        silent.push(socket);
    }
    let answer = aws::ask(&mut proxy.intercepted("app.test").await, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    proxy.until_metric("exeat_in_use{resource=\"connections\"}", 0).await;
    let reasons: Vec<String> =
        proxy.events().iter().map(|e| e["additionalEventData"]["exeat"]["reason"].to_string()).collect();
    let count = |reason: &str| reasons.iter().filter(|found| found.contains(reason)).count();
    assert_eq!((count("request.timeout"), count("tls.handshake")), (134, 66));
    until("the sockets' ends", || (proxy.descriptors() < 100).then_some(())).await;
    drop(silent);
}

#[tokio::test]
async fn a_shortage_of_descriptors_at_the_door_is_waited_out_and_told_once() {
    let (proxy, _origin) = start("workers: 1\n").await;
    let answer = aws::ask(&mut proxy.intercepted("app.test").await, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    proxy.until_metric("exeat_in_use{resource=\"connections\"}", 0).await;
    // Fewer than are open: not one more can be.
    proxy.allow_descriptors(8);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(TcpStream::connect(proxy.address).await.unwrap());
    }
    // They stand in the system's queue, and the program does not stop at the first that it cannot take.
    let (mut first, said) =
        (waiting.remove(0), b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n");
    first.write_all(said).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), first.read_u8()).await;
    assert!(early.is_err(), "nothing can be accepted yet");
    proxy.allow_descriptors(1024);
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 200 "));
    let mut good = tls::connect(first, "app.test", &proxy.ca_pem()).await.unwrap();
    assert!(aws::ask(&mut good, GET).await.starts_with("HTTP/1.1 200 "));
    assert!(proxy.metric("exeat_accept_failures_total").await > 0);
    proxy.signal("-TERM");
    drop((waiting, good));
    let (_, said, _) = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert_eq!(said.matches("accept failed").count(), 1, "{said}");
}

#[tokio::test]
async fn a_full_house_can_still_dial() {
    let ca = Ca::new();
    let (_origin, address) = aws::origin_saying(&ca, |_| aws::ok("ok")).await;
    let proxy = Proxy::start_with_descriptors(
        &Setup {
            policy: aws::POLICY,
            connect_to: vec![("*:443".into(), address)],
            upstream_ca: ca.pem(),
            credentials: CREDENTIALS,
            config: "limits: {connections: 1000}\n",
            audit: None,
        },
        96,
    );
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..60 {
        let mut socket = TcpStream::connect(proxy.address).await.unwrap();
        socket.write_all(b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n").await.unwrap();
        refused += usize::from(read_head(&mut socket).await.starts_with("HTTP/1.1 503 "));
        held.push(socket);
    }
    // Of the 32 beyond our own, clients get 20, and one address seven eighths of those.
    assert_eq!(refused, 60 - 18);
    let good = held.swap_remove(0);
    let mut good = tls::connect(good, "app.test", &proxy.ca_pem()).await.unwrap();
    let answer = aws::ask(&mut good, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "those inside can dial: {answer}");
}
