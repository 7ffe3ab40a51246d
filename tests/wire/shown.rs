//! Who showed which certificate to whom, as the lines tell it.

use std::process::Command;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::support::aws::{self, ask, until};
use crate::support::proxy::{Proxy, Setup};
use crate::support::tls::{self, Ca, presented};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: app.test\r\n\r\n";

#[tokio::test]
async fn both_legs_chains_are_told_once_a_connection_and_their_leaves_every_time() {
    let (proxy, _origin) = aws::start().await;
    let mut client = proxy.intercepted("app.test").await;
    for _ in 0..2 {
        assert!(ask(&mut client, GET).await.starts_with("HTTP/1.1 200 "));
    }
    let mut again = proxy.intercepted("app.test").await;
    assert!(ask(&mut again, GET).await.starts_with("HTTP/1.1 200 "));
    let events = until("the third event", || Some(proxy.events()).filter(|all| all.len() == 3)).await;
    let ours: Vec<&Value> = events.iter().map(|event| &event["additionalEventData"]["exeat"]).collect();
    let told = |leg: &str| -> Vec<bool> {
        ours.iter().map(|ours| ours.pointer(leg).unwrap().get("chain").is_some()).collect()
    };
    assert_eq!(told("/clientTls"), [true, false, true], "two connections of clients");
    let reused: Vec<&Value> = ours.iter().map(|ours| &ours["upstream"]["reused"]).collect();
    let upstream = told("/upstream/tls");
    for (reused, told) in reused.iter().zip(&upstream) {
        assert_eq!(**reused, !told, "{reused:?} {upstream:?}");
    }
    // What the client was shown, byte for byte.
    let shown = &ours[0]["clientTls"]["chain"][0];
    assert_eq!(shown["sha256"], presented(&client));
    assert_eq!(shown["subject"], "CN=app.test");
    assert!(shown["issuer"].as_str().unwrap().starts_with("CN=exeat local CA "), "{shown}");
    // And what the origin showed us: its leaf, and the root that it sends along.
    let chain = ours[0]["upstream"]["tls"]["chain"].as_array().unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0]["issuer"], "CN=wire test root");
    assert_eq!(chain[1]["subject"], "CN=wire test root");
    for ours in &ours {
        for (leg, first) in [("/clientTls/leaf", shown), ("/upstream/tls/leaf", &chain[0])] {
            assert_eq!(ours.pointer(leg).unwrap(), &first["sha256"].as_str().unwrap()[..16], "{leg}");
        }
    }
}

/// Shakes hands with whoever comes, for as long as the test lasts.
async fn origin(ca: &Ca) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = ca.acceptor(&["app.test"]);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(acceptor.accept(socket));
        }
    });
    address
}

fn towards(address: std::net::SocketAddr) -> Proxy {
    Proxy::start(&Setup {
        policy: "version: 1\nstatements: [{id: app, effect: allow, http: {host: app.test}}]\n",
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: Ca::new().pem(),
        credentials: "",
        config: "{}\n",
        audit: None,
    })
}

/// What the record of one refused request tells of the leg upstream.
async fn upstream(proxy: &Proxy, reason: &str) -> Value {
    let answer = ask(&mut proxy.intercepted("app.test").await, GET).await;
    assert!(answer.contains(&format!("[{reason}]")), "{answer}");
    let event = until("its record", || proxy.events().pop()).await;
    assert!(event.get("tlsDetails").is_none(), "{event}");
    event["additionalEventData"]["exeat"]["upstream"].clone()
}

#[tokio::test]
async fn a_certificate_that_was_refused_is_told_with_its_chain_and_where_it_was_shown() {
    let stranger = Ca::new();
    let address = origin(&stranger).await;
    let direct = tls::connect(TcpStream::connect(address).await.unwrap(), "app.test", &stranger.pem()).await;
    let proxy = towards(address);
    let upstream = upstream(&proxy, "upstream.certificate").await;
    assert_eq!((&upstream["address"], &upstream["port"]), (&"127.0.0.1".into(), &address.port().into()));
    assert_eq!(upstream.get("tls"), None, "it was not negotiated to its end: {upstream}");
    let shown = &upstream["shown"];
    assert_eq!((&shown["version"], &shown["group"]), (&"TLSv1.3".into(), &"X25519MLKEM768".into()));
    assert!(shown["cipher"].as_str().unwrap().starts_with("TLS13_"), "{shown}");
    let leaf = presented(&direct.unwrap());
    assert_eq!((&shown["chain"][0]["sha256"], &shown["leaf"]), (&leaf[..].into(), &leaf[..16].into()));
    assert_eq!(shown["chain"][1]["subject"], "CN=wire test root");
    // The verbs tell the same of the record.
    let ask = |words: &[&str]| {
        let said =
            Command::new(env!("CARGO_BIN_EXE_exeat")).args(words).arg(proxy.audit_path()).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    let flow = proxy.events()[0]["additionalEventData"]["exeat"]["flow"].as_str().unwrap().to_owned();
    let explained = ask(&["explain", &flow, "--audit"]);
    assert!(explained.contains("not agreed: TLSv1.3 TLS13_") && explained.contains(&leaf), "{explained}");
    let report = ask(&["report", "tls"]);
    assert!(report.contains("not had   CN=") && report.contains(&format!("sha256 {leaf}  1")), "{report}");
}

#[tokio::test]
async fn where_nobody_listens_is_told_too_and_nothing_was_shown_there() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let upstream = upstream(&towards(nobody), "upstream.connect").await;
    assert_eq!((&upstream["port"], &upstream["reused"]), (&nobody.port().into(), &false.into()));
    assert_eq!((upstream.get("tls"), upstream.get("shown")), (None, None), "{upstream}");
}
