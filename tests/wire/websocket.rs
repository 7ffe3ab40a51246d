//! A 101 that was asked for: from there on bytes pass both ways, within limits, and on record; and the nearest
//! requests that must not get there.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::aws::until;
use crate::support::cases::listen;
use crate::support::legs::{Client, Leg};
use crate::support::proxy::{Proxy, Setup};
use crate::support::tls::{self, Ca, ClientTls};

const ASKS: &str = "GET /chat HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An origin that answers with `answer`, and then echoes in capitals until it hears `bye`.
async fn stage(answer: &'static str, upstream: &str) -> Proxy {
    let ca = Ca::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // It would speak HTTP/2 to who asks for it.
    let acceptor = ca.acceptor_offering(&["app.test"], &["h2", "http/1.1"]);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let (head, _) =
                    listen(&mut socket, Duration::from_secs(10), |b| b.ends_with(b"\r\n\r\n")).await;
                let head = String::from_utf8(head).unwrap();
                let asked = head.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n");
                assert!(asked && head.contains("Sec-WebSocket-Key: dGh"), "{head}");
                socket.write_all(answer.as_bytes()).await.unwrap();
                let mut piece = [0; 1024];
                while let Ok(n @ 1..) = socket.read(&mut piece).await {
                    let said = piece[..n].to_ascii_uppercase();
                    socket.write_all(&said).await.unwrap();
                    if said.ends_with(b"BYE") {
                        break;
                    }
                }
                socket.shutdown().await.ok();
            });
        }
    });
    let policy = format!(
        "version: 1\nstatements:\n  - {{id: chat, effect: allow, http: {{host: app.test, path: /chat}}{upstream}}}\n"
    );
    Proxy::start(&Setup {
        policy: &policy,
        connect_to: vec![("app.test:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: "",
        config: "{}\n",
        audit: None,
    })
}

async fn client(proxy: &Proxy) -> ClientTls {
    let socket = proxy.connect("app.test:443").await.unwrap();
    tls::connect_offering(socket, "app.test", &proxy.ca_pem(), &["h2", "http/1.1"]).await.unwrap()
}

async fn event(proxy: &Proxy) -> Value {
    until("the event", || proxy.events().into_iter().next()).await["additionalEventData"]["exeat"].clone()
}

#[tokio::test]
async fn after_a_101_that_was_asked_for_bytes_pass_both_ways_and_are_counted() {
    let proxy = stage(AGREES, "").await;
    let mut client = client(&proxy).await;
    // Early bytes are held until the origin has agreed.
    client.write_all(format!("{ASKS}early").as_bytes()).await.unwrap();
    let (bytes, _) = listen(&mut client, Duration::from_secs(10), |bytes| bytes.ends_with(b"EARLY")).await;
    let answer = String::from_utf8(bytes).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for field in ["Connection: Upgrade\r\n", "Upgrade: websocket\r\n", "Sec-WebSocket-Accept: s3pP"] {
        assert!(answer.contains(field), "{answer}");
    }
    for word in [&b"one"[..], b"two and more"] {
        client.write_all(word).await.unwrap();
        let (heard, _) =
            listen(&mut client, Duration::from_secs(10), |bytes| bytes.len() == word.len()).await;
        assert_eq!(heard, word.to_ascii_uppercase());
    }
    assert!(proxy.events().is_empty());
    client.write_all(b"bye").await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"BYE");
    client.shutdown().await.unwrap();
    let event = event(&proxy).await;
    assert_eq!(
        (&event["status"], &event["bytesIn"], &event["bytesOut"]),
        (&101.into(), &23.into(), &23.into())
    );
    assert!(event["reason"].is_null(), "{event}");
    assert_eq!(event["upstream"]["tls"]["alpn"], "http/1.1");
}

#[tokio::test]
async fn a_websocket_ends_at_the_limits_of_its_statement() {
    for upstream in [", upstream: {idle: 1s}", ", upstream: {life: 1s}"] {
        let proxy = stage(AGREES, upstream).await;
        let mut client = client(&proxy).await;
        client.write_all(format!("{ASKS}hello").as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let _ = client.read_to_end(&mut all).await;
        assert!(all.ends_with(b"HELLO"), "{}", String::from_utf8_lossy(&all));
        let event = event(&proxy).await;
        assert_eq!(event["reason"], "limit.stream", "{event}");
        assert_eq!((&event["bytesIn"], &event["bytesOut"]), (&5.into(), &5.into()));
    }
}

#[tokio::test]
async fn what_is_no_agreement_to_what_was_asked_opens_nothing() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let proxy = stage(answer, "").await;
        let mut client = client(&proxy).await;
        client.write_all(ASKS.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let _ = client.read_to_end(&mut all).await;
        let all = String::from_utf8_lossy(&all);
        assert!(all.starts_with("HTTP/1.1 502 ") && all.contains("[upstream.protocol]"), "{all}");
    }
}

#[tokio::test]
async fn what_asks_for_no_websocket_as_its_standard_has_it_is_refused() {
    let proxy = stage(AGREES, "").await;
    let get = "GET /chat HTTP/1.1\r\nHost: app.test\r\n";
    for request in [
        format!("{get}Upgrade: websocket\r\n\r\n"),
        format!("{get}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        format!("{get}Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n"),
        format!("{get}Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"),
        ASKS.replacen("GET", "POST", 1),
        ASKS.replacen("HTTP/1.1", "HTTP/1.0", 1),
    ] {
        let mut client = client(&proxy).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let (answer, _) = listen(&mut client, Duration::from_secs(10), |_| false).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("[request.upgrade]"), "{answer}");
    }
    // And what the policy doesn't name, like any other request.
    let mut client = client(&proxy).await;
    client.write_all(ASKS.replacen("/chat", "/other", 1).as_bytes()).await.unwrap();
    let (answer, _) = listen(&mut client, Duration::from_secs(10), |_| false).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 403 "));
    assert_eq!(proxy.events().len(), 7);
    assert!(proxy.events().iter().all(|event| event["additionalEventData"]["exeat"]["upstream"].is_null()));
}

#[tokio::test]
async fn a_statement_offers_http_2_before_the_origin_was_seen() {
    for (alpn, leg) in [(", alpn: h2", "h2"), ("", "http/1.1")] {
        let proxy = stage(AGREES, alpn).await;
        let client = client(&proxy).await;
        let spoken = client.get_ref().1.alpn_protocol().unwrap();
        assert_eq!(spoken, leg.as_bytes());
    }
    // Over HTTP/2 there is no 101 to ask for.
    let proxy = stage(AGREES, "").await;
    let mut client = Client::connect(&proxy, Leg::H2, "app.test").await;
    let Client::H2(send) = &mut client else { unreachable!() };
    let asked = http::Request::builder()
        .uri("https://app.test/chat")
        .header("upgrade", "websocket")
        .body(())
        .unwrap();
    let refused = match send.send_request(asked, true) {
        Ok((response, _)) => response.await.map_or(true, |response| response.status() == 400),
        Err(_) => true,
    };
    assert!(refused);
}
