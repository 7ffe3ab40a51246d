//! Tunnels: bytes pass unread where a statement names the destination, and the floor holds on both sides all the same.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::support::aws::until;
use crate::support::proxy::{Proxy, Setup, read_head};
use crate::support::sign::CREDENTIALS;
use crate::support::tls::{self, Ca, ClientTls};

const TUNNEL: &str = "tunnel: {host: pinned.test}";

/// A proxy that tunnels to pinned.test, which is at `origin`.
fn proxy(tunnel: &str, origin: std::net::SocketAddr) -> Proxy {
    let policy = format!(
        "version: 1
statements:
  - {{id: pinned, effect: allow, {tunnel}}}
  - {{id: app, effect: allow, http: {{host: app.test}}}}
"
    );
    Proxy::start(&Setup {
        policy: &policy,
        connect_to: vec![("*:443".into(), origin)],
        upstream_ca: Ca::new().pem(),
        credentials: CREDENTIALS,
        config: "{}\n",
        audit: None,
    })
}

/// An origin that answers `pong` to each four bytes.
async fn echo(acceptor: TlsAcceptor) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let mut piece = [0; 4];
                while stream.read_exact(&mut piece).await.is_ok() {
                    let _ = stream.write_all(b"pong").await;
                    let _ = stream.flush().await;
                }
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

/// An origin that says `answer` to whatever comes first, and tells that it was reached.
async fn scripted(answer: Vec<u8>) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reached, met) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut piece = vec![0; 16 * 1024];
            let count = socket.read(&mut piece).await.unwrap_or(0);
            let _ = reached.send(count);
            let _ = socket.write_all(&answer).await;
            let _ = socket.read(&mut piece).await;
        }
    });
    (address, met)
}

/// A proxy in front of us that opens every CONNECT to `origin`, and tells which it was asked for.
async fn corporate(
    origin: std::net::SocketAddr,
    sealed: Option<TlsAcceptor>,
) -> (std::net::SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, met) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (asked, sealed) = (asked.clone(), sealed.clone());
            tokio::spawn(async move {
                match sealed {
                    Some(acceptor) => relay(acceptor.accept(socket).await.unwrap(), origin, &asked).await,
                    None => relay(socket, origin, &asked).await,
                }
            });
        }
    });
    (address, met)
}

async fn relay(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    origin: std::net::SocketAddr,
    asked: &mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(near.read_u8().await.unwrap());
    }
    let line = String::from_utf8(head).unwrap();
    let _ = asked.send(line.split(' ').nth(1).unwrap().to_owned());
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    near.flush().await.unwrap();
    let mut far = TcpStream::connect(origin).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

/// As [`proxy`], with origins behind an upstream proxy.
fn behind(upstream: &str, ca: &Ca, hosts: &str, limits: &str) -> Proxy {
    Proxy::start(&Setup {
        policy: &format!(
            "version: 1
statements:
  - {{id: pinned, effect: allow, {TUNNEL}}}
  - {{id: app, effect: allow, http: {{host: '{hosts}'}}}}
"
        ),
        connect_to: Vec::new(),
        upstream_ca: ca.pem(),
        credentials: CREDENTIALS,
        config: &format!("upstream_proxy: {upstream}\n{limits}"),
        audit: None,
    })
}

async fn event(proxy: &Proxy) -> Value {
    until("the event", || proxy.events().pop()).await
}

/// A client inside a tunnel: it trusts its origin's root, not ours.
async fn pinned(proxy: &Proxy, ca: &Ca) -> ClientTls {
    let socket = proxy.connect("pinned.test:443").await.unwrap();
    tls::connect(socket, "pinned.test", &ca.pem()).await.unwrap()
}

async fn ping(client: &mut ClientTls) {
    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"pong");
}

#[tokio::test]
async fn a_pinned_client_meets_its_origin_and_the_record_has_both_hellos_and_the_bytes() {
    let ca = Ca::new();
    let origin = echo(ca.acceptor(&["pinned.test"])).await;
    let proxy = proxy(TUNNEL, origin);
    let mut client = pinned(&proxy, &ca).await;
    for _ in 0..3 {
        ping(&mut client).await;
    }
    client.shutdown().await.unwrap();
    drop(client);
    let event = event(&proxy).await;
    let ours = &event["additionalEventData"]["exeat"];
    assert_eq!(
        (&ours["end"], &ours["statement"], &ours["decision"]),
        (&"tunnelled".into(), &"pinned".into(), &"allow".into())
    );
    assert_eq!(ours["upstream"]["tls"]["version"], "TLSv1.3");
    assert_eq!(ours["upstream"]["tls"]["group"], "X25519MLKEM768");
    assert_eq!(ours["upstream"]["tls"]["sni"], "pinned.test");
    assert_eq!(ours["upstream"]["tls"].get("chain"), None, "it is encrypted");
    assert!(ours["bytesIn"].as_u64().unwrap() > 1000 && ours["bytesOut"].as_u64().unwrap() > 1000, "{event}");
    assert_eq!(event["eventName"], "CONNECT");
    let lines = proxy.audit();
    assert_eq!((lines.len(), &lines[0]["exeat"]), (2, &"intent".into()), "{lines:?}");
    // The neighbour is intercepted: our leaf, which the origin's root does not vouch for.
    let socket = proxy.connect("app.test:443").await.unwrap();
    assert!(tls::connect(socket, "app.test", &ca.pem()).await.is_err());
}

/// TLS 1.2 shows its certificate in clear, and 1.3 to the client alone.
#[tokio::test]
async fn a_tunnels_record_has_the_chain_that_passed_in_clear_and_none_of_a_resumption() {
    let ca = Ca::new();
    let mut old = rustls::crypto::CryptoProvider::clone(&tls::provider());
    old.cipher_suites.retain(|suite| suite.tls13().is_none());
    let origin = echo(ca.acceptor_with(&["pinned.test"], Arc::new(old))).await;
    let proxy = proxy(TUNNEL, origin);
    let client = tls::connector(&ca.pem());
    let mut leaf = String::new();
    for resumed in [false, true] {
        let socket = proxy.connect("pinned.test:443").await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("pinned.test").unwrap();
        let mut client = client.connect(name, socket).await.unwrap();
        ping(&mut client).await;
        let kind = client.get_ref().1.handshake_kind();
        assert_eq!(kind == Some(rustls::HandshakeKind::Resumed), resumed, "{kind:?}");
        if !resumed {
            leaf = tls::presented(&client);
        }
        let group =
            client.get_ref().1.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name);
        drop(client);
        let all = usize::from(resumed) + 1;
        let events = until("its record", || Some(proxy.events()).filter(|events| events.len() == all)).await;
        let tls = &events[all - 1]["additionalEventData"]["exeat"]["upstream"]["tls"];
        assert_eq!(tls["version"], "TLSv1.2", "{tls}");
        if resumed {
            assert_eq!((tls.get("chain"), tls.get("leaf"), tls.get("group")), (None, None, None), "{tls}");
        } else {
            assert_eq!((&tls["chain"][0]["sha256"], &tls["leaf"]), (&leaf[..].into(), &leaf[..16].into()));
            assert_eq!(tls["chain"][1]["subject"], "CN=wire test root");
            assert_eq!(tls["group"], format!("{:?}", group.unwrap()), "{tls}");
        }
    }
}

#[tokio::test]
async fn a_hello_that_is_asked_for_again_is_held_to_the_first() {
    let ca = Ca::new();
    let mut provider = rustls::crypto::CryptoProvider::clone(&tls::provider());
    provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::SECP384R1];
    let origin = echo(ca.acceptor_with(&["pinned.test"], Arc::new(provider))).await;
    let proxy = proxy(TUNNEL, origin);
    let mut client = pinned(&proxy, &ca).await;
    ping(&mut client).await;
    drop(client);
    let event = event(&proxy).await;
    assert_eq!(event["additionalEventData"]["exeat"]["upstream"]["tls"]["group"], "secp384r1");
}

/// A ClientHello: versions offered, and further extensions.
fn client_hello(legacy: [u8; 2], name: &str, more: &[u8]) -> Vec<u8> {
    let mut entry = vec![0, 0, name.len() as u8];
    entry.extend_from_slice(name.as_bytes());
    let mut extensions = vec![0, 0, 0, (entry.len() + 2) as u8, 0, entry.len() as u8];
    extensions.extend_from_slice(&entry);
    extensions.extend_from_slice(more);
    let mut body = legacy.to_vec();
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2f, 1, 0, 0, extensions.len() as u8]);
    body.extend_from_slice(&extensions);
    let mut hello = vec![0x16, 3, 1, 0, (body.len() + 4) as u8, 1, 0, 0, body.len() as u8];
    hello.extend_from_slice(&body);
    hello
}

/// `encrypted_client_hello` of the outer kind.
const ECH: &[u8] = &[0xfe, 0x0d, 0, 3, 0, 1, 2];

#[tokio::test]
async fn what_a_tunnels_hello_must_not_be_is_refused_before_anything_is_dialled() {
    let (origin, mut met) = scripted(Vec::new()).await;
    for (hello, reason, alert) in [
        (client_hello([3, 2], "pinned.test", &[]), "tls.below_floor", 70),
        (client_hello([3, 0], "pinned.test", &[]), "tls.below_floor", 70),
        (client_hello([3, 3], "evil.test", &[]), "target.mismatch", 112),
        (client_hello([3, 3], "pinned.test", ECH), "tls.ech", 112),
    ] {
        let proxy = proxy(TUNNEL, origin);
        let mut socket = proxy.connect("pinned.test:443").await.unwrap();
        socket.write_all(&hello).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.last(), Some(&alert), "{reason}");
        let event = event(&proxy).await;
        assert_eq!(event["additionalEventData"]["exeat"]["reason"], reason, "{event}");
        assert_eq!(proxy.events().len(), 1);
    }
    assert!(met.try_recv().is_err());
    // A statement may let it pass: GREASE looks the same.
    let proxy = proxy("tunnel: {host: pinned.test, ech: pass}", origin);
    let mut socket = proxy.connect("pinned.test:443").await.unwrap();
    let hello = client_hello([3, 3], "pinned.test", ECH);
    socket.write_all(&hello).await.unwrap();
    assert_eq!(met.recv().await, Some(hello.len()));
}

/// A ServerHello without extensions.
fn server_hello(version: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    [&[0x16, 3, 3, 0, 42, 2, 0, 0, 38][..], &version, &[7; 32], &[0], &suite, &[0]].concat()
}

#[tokio::test]
async fn an_origin_below_the_floor_is_named_and_not_a_byte_of_it_reaches_the_client() {
    for (answer, tunnel, reason, named) in [
        (server_hello([3, 2], [0xc0, 0x13]), TUNNEL.to_owned(), "upstream.below_floor", "TLSv1.1"),
        (server_hello([3, 1], [0xc0, 0x13]), TUNNEL.to_owned(), "upstream.below_floor", "TLSv1.0"),
        (vec![0x15, 3, 1, 0, 2, 2, 70], TUNNEL.to_owned(), "upstream.below_floor", "TLSv1.0"),
        (
            server_hello([3, 3], [0xc0, 0x2f]),
            format!("{TUNNEL}, upstream: {{tls: '>=1.3'}}"),
            "upstream.below_floor",
            "TLSv1.2",
        ),
        (server_hello([3, 3], [0, 0x2f]), TUNNEL.to_owned(), "upstream.tls", "0x002f"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), TUNNEL.to_owned(), "upstream.not_tls", "TLS"),
    ] {
        let (origin, mut met) = scripted(answer).await;
        let proxy = proxy(&tunnel, origin);
        let mut socket = proxy.connect("pinned.test:443").await.unwrap();
        socket.write_all(&client_hello([3, 3], "pinned.test", &[])).await.unwrap();
        let mut told = Vec::new();
        socket.read_to_end(&mut told).await.unwrap();
        assert!(told.len() == 7 && told.starts_with(&[0x15, 3, 3, 0, 2, 2]), "{reason}: {told:?}");
        assert!(met.recv().await.is_some());
        let event = event(&proxy).await;
        assert_eq!(event["additionalEventData"]["exeat"]["reason"], reason, "{event}");
        assert!(event["errorMessage"].as_str().unwrap().contains(named), "{event}");
        let upstream = &event["additionalEventData"]["exeat"]["upstream"];
        assert_eq!((&upstream["port"], upstream.get("tls")), (&origin.port().into(), None), "{event}");
        match reason {
            "upstream.below_floor" => assert_eq!(upstream["shown"]["version"], named, "{event}"),
            "upstream.tls" => assert_eq!(upstream["shown"]["cipher"], named, "{event}"),
            _ => assert_eq!(upstream.get("shown"), None, "{event}"),
        }
    }
}

#[tokio::test]
async fn a_tunnel_to_where_nobody_listens_is_told_with_its_address() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = proxy(TUNNEL, nobody);
    let mut socket = proxy.connect("pinned.test:443").await.unwrap();
    socket.write_all(&client_hello([3, 3], "pinned.test", &[])).await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.unwrap();
    let event = event(&proxy).await;
    let ours = &event["additionalEventData"]["exeat"];
    assert_eq!(
        (&ours["reason"], &ours["upstream"]["port"]),
        (&"upstream.connect".into(), &nobody.port().into())
    );
}

#[tokio::test]
async fn a_tunnel_ends_at_its_limits() {
    let ca = Ca::new();
    let origin = echo(ca.acceptor(&["pinned.test"])).await;
    for (limit, words) in
        [("idle: 1s", "idle for 1s"), ("life: 1s", "lived for 1s"), ("bytes: 64KiB", "65536 bytes")]
    {
        let proxy = proxy(&format!("tunnel: {{host: pinned.test, {limit}}}"), origin);
        let mut client = pinned(&proxy, &ca).await;
        // The byte limit is met by talking, the others by time alone.
        let talk = async {
            if limit.starts_with("bytes") {
                while client.write_all(&[1; 4096]).await.is_ok() && client.flush().await.is_ok() {
                    if client.read_exact(&mut [0; 4096]).await.is_err() {
                        break;
                    }
                }
            }
            let _ = client.read_to_end(&mut Vec::new()).await;
        };
        tokio::time::timeout(Duration::from_secs(20), talk).await.expect("the tunnel ends");
        let event = event(&proxy).await;
        assert_eq!(event["additionalEventData"]["exeat"]["reason"], "limit.tunnel", "{event}");
        assert!(event["errorMessage"].as_str().unwrap().contains(words), "{limit}: {event}");
        if limit.starts_with("bytes") {
            let ours = &event["additionalEventData"]["exeat"];
            let both = ours["bytesIn"].as_u64().unwrap() + ours["bytesOut"].as_u64().unwrap();
            assert_eq!(both, 65_536, "{event}");
        }
    }
}

#[tokio::test]
async fn a_drain_ends_a_quiet_tunnel_and_its_record_is_whole() {
    let ca = Ca::new();
    let origin = echo(ca.acceptor(&["pinned.test"])).await;
    let proxy = proxy(TUNNEL, origin);
    let mut client = pinned(&proxy, &ca).await;
    ping(&mut client).await;
    proxy.signal("-TERM");
    let _ = client.read_to_end(&mut Vec::new()).await;
    let event = event(&proxy).await;
    let ours = &event["additionalEventData"]["exeat"];
    assert_eq!(ours["end"], "tunnelled", "{event}");
    assert!(ours["bytesOut"].as_u64().unwrap() > 1000, "{event}");
    assert_eq!(proxy.wait().0, Some(0));
}

#[tokio::test]
async fn a_tunnel_goes_through_the_upstream_proxy_and_its_bytes_are_counted_alike() {
    let ca = Ca::new();
    let origin = echo(ca.acceptor(&["pinned.test"])).await;
    for sealed in [None, Some(ca.acceptor(&["127.0.0.1"]))] {
        let scheme = if sealed.is_some() { "https" } else { "http" };
        let (upstream, mut asked) = corporate(origin, sealed).await;
        let proxy = behind(&format!("{scheme}://{upstream}"), &ca, "app.test", "");
        let mut client = pinned(&proxy, &ca).await;
        for _ in 0..20_000 / 4 {
            ping(&mut client).await;
        }
        client.shutdown().await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
        drop(client);
        assert_eq!(asked.recv().await.as_deref(), Some("pinned.test:443"));
        let event = event(&proxy).await;
        let ours = &event["additionalEventData"]["exeat"];
        assert_eq!((&ours["end"], &ours["upstream"]["port"]), (&"tunnelled".into(), &upstream.port().into()));
        assert!(ours["bytesIn"].as_u64().unwrap() > 20_000, "{scheme}: {event}");
        assert!(ours["bytesOut"].as_u64().unwrap() > 20_000, "{scheme}: {event}");
        assert!(asked.try_recv().is_err(), "{scheme}: one way for one tunnel");
    }
}

#[tokio::test]
async fn a_tunnel_past_their_number_is_told_so_at_connect_and_a_place_given_back_is_the_next_ones() {
    let ca = Ca::new();
    let origin = echo(ca.acceptor(&["pinned.test"])).await;
    let (upstream, _asked) = corporate(origin, None).await;
    let proxy = behind(&format!("http://{upstream}"), &ca, "app.test", "limits: {tunnels: 1}\n");
    let mut client = pinned(&proxy, &ca).await;
    ping(&mut client).await;
    proxy.until_metric("exeat_in_use{resource=\"tunnels\"}", 1).await;
    let mut socket = TcpStream::connect(proxy.address).await.unwrap();
    socket.write_all(b"CONNECT pinned.test:443 HTTP/1.1\r\nHost: pinned.test:443\r\n\r\n").await.unwrap();
    let told = read_head(&mut socket).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("reason=limit.tunnels;"), "{told}");
    assert_eq!(event(&proxy).await["additionalEventData"]["exeat"]["reason"], "limit.tunnels");
    assert_eq!(proxy.metric("exeat_refusals_total{reason=\"limit.tunnels\"}").await, 1);
    // What is no tunnel has its place all the same.
    proxy.connect("app.test:443").await.unwrap();
    drop(client);
    proxy.until_metric("exeat_in_use{resource=\"tunnels\"}", 0).await;
    ping(&mut pinned(&proxy, &ca).await).await;
}

#[tokio::test]
async fn names_that_a_client_makes_up_are_bounded_and_a_known_one_is_not() {
    let ca = Ca::new();
    let origin = echo(Ca::new().acceptor(&["a.app.test", "b.app.test"])).await;
    let (upstream, mut asked) = corporate(origin, None).await;
    let proxy = behind(&format!("http://{upstream}"), &ca, "*.app.test", "limits: {lookups: 2}\n");
    for (n, name) in ["a.app.test", "b.app.test", "secret.app.test", "a.app.test"].into_iter().enumerate() {
        let mut client = proxy.intercepted(name).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        let _ = client.read(&mut [0; 4096]).await;
        let events = until("the event", || (proxy.events().len() > n).then(|| proxy.events())).await;
        let reason = &events[n]["additionalEventData"]["exeat"]["reason"];
        // That origin's root is not believed: each name that is asked for ends there, and the others before.
        let want = if name.starts_with("secret") { "limit.lookups" } else { "upstream.certificate" };
        assert_eq!(reason, want, "{name}");
        let port = format!("{name}:443");
        assert_eq!(asked.try_recv().ok(), (!name.starts_with("secret")).then_some(port), "{name}");
    }
    assert_eq!(proxy.metric("exeat_lookups_total").await, 3);
}
