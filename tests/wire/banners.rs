//! Origins that speak first, and not TLS: named at once, on both ways to them, though neither side would end it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::aws::{ask, until};
use crate::support::proxy::{Proxy, Setup};
use crate::support::tls::{self, Ca};

const POLICY: &str = "version: 1
statements:
  - {id: app, effect: allow, http: {host: app.test, path: /*}}
  - {id: pinned, effect: allow, tunnel: {host: pinned.test}}
";

/// Greets whoever comes, waits for an end that the other side must make, and then tells of it.
async fn greets(banner: &'static str) -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, ends) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                socket.write_all(banner.as_bytes()).await.unwrap();
                let mut hello = Vec::new();
                let _ = socket.read_to_end(&mut hello).await;
                // A hello at most, and no byte of a request.
                assert!(!hello.windows(4).any(|found| found == b"GET "));
                told.send(()).await.unwrap();
            });
        }
    });
    (address, ends)
}

#[tokio::test]
async fn a_banner_is_not_tls_on_the_upstream_leg_and_in_a_tunnel() {
    for banner in ["SSH-2.0-OpenSSH_9.2\r\n", "220 mail.test ESMTP ready\r\n", "+"] {
        let (address, mut ends) = greets(banner).await;
        let proxy = Proxy::start(&Setup {
            policy: POLICY,
            connect_to: vec![("*:443".into(), address)],
            upstream_ca: Ca::new().pem(),
            credentials: "",
            // Longer than this test may take: whoever waited for them would fail it.
            config: "limits: {handshake: 5m, response_head: 10m}\n",
            audit: None,
        });
        let mut client = proxy.intercepted("app.test").await;
        let answer = ask(&mut client, b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("[upstream.not_tls]"), "{answer}");
        ends.recv().await.unwrap();
        let socket = proxy.connect("pinned.test:443").await.unwrap();
        let shaken = tls::connect(socket, "pinned.test", &Ca::new().pem()).await;
        assert!(shaken.is_err(), "{banner}");
        ends.recv().await.unwrap();
        let events = until("both records", || Some(proxy.events()).filter(|all| all.len() == 2)).await;
        for event in events {
            assert_eq!(event["additionalEventData"]["exeat"]["reason"], "upstream.not_tls", "{event}");
        }
    }
}
