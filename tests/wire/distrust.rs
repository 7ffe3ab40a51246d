//! A client that does not trust our CA is named, with what to set for it; one that does leaves no such record.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;

use crate::support::{aws, proxy::Proxy};

/// The first event that satisfies `wanted`: lines are written while we look.
async fn event(proxy: &Proxy, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = async {
        loop {
            if let Some(event) = proxy.events().into_iter().find(&wanted) {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("no such event")
}

fn reason(event: &Value) -> &str {
    event["additionalEventData"]["exeat"]["reason"].as_str().unwrap_or_default()
}

/// A client that believes Mozilla's roots and not ours, up to its answer to our certificate. Its socket stays open.
fn distrusting(proxy: &Proxy, socket: tokio::net::TcpStream) -> TcpStream {
    assert!(!proxy.ca_pem().is_empty());
    let mut socket = socket.into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(exeat::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("app.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    while client.is_handshaking() {
        if client.complete_io(&mut socket).is_err() {
            // Its alert is out.
            return socket;
        }
    }
    panic!("it trusts us");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_rejects_our_leaf_is_named_with_what_to_set() {
    let (proxy, origin) = aws::start().await;
    let socket = proxy.connect("app.test:443").await.unwrap();
    let socket = distrusting(&proxy, socket);
    let event = event(&proxy, |event| reason(event) == "tls.client_distrusts").await;
    let said = event["errorMessage"].as_str().unwrap();
    assert!(said.starts_with("client does not trust our CA (alert `unknown_ca`)"), "{said}");
    if cfg!(target_os = "linux") {
        assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
    }
    assert!(said.contains("set AWS_CA_BUNDLE") && said.contains("NODE_EXTRA_CA_CERTS"), "{said}");
    assert!(said.ends_with(&format!("`{}`", proxy.dir.join("ca.pem").display())), "{said}");
    assert_eq!(event["additionalEventData"]["exeat"]["target"], "app.test:443");
    drop(socket);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_client_that_goes_without_an_alert_is_told_apart_from_one_that_says_why() {
    let (proxy, _origin) = aws::start().await;
    let socket = proxy.connect("app.test:443").await.unwrap();
    let mut socket = socket.into_std().unwrap();
    socket.set_nonblocking(false).unwrap();
    let roots = RootCertStore::empty();
    let config = ClientConfig::builder_with_provider(exeat::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client =
        ClientConnection::new(Arc::new(config), ServerName::try_from("app.test").unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    socket.write_all(&hello).unwrap();
    assert!(socket.peek(&mut [0; 1]).unwrap() > 0, "our flight arrived");
    drop(socket);
    let event = event(&proxy, |event| reason(event) == "tls.handshake").await;
    let said = event["errorMessage"].as_str().unwrap();
    assert!(said.contains("without an alert") && said.contains("may not trust our CA"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_told_its_own_variable_and_nothing_is_told_of_a_client_that_trusts_us() {
    let (proxy, _origin) = aws::start().await;
    let curl = |extra: &[&str]| {
        let mut command = Command::new("curl");
        command.env_clear().args(["--silent", "--fail", "--max-time", "20", "https://app.test/", "--proxy"]);
        command.arg(proxy.address.to_string()).args(extra).output()
    };
    let ca = proxy.dir.join("ca.pem");
    match curl(&["--cacert", ca.to_str().unwrap()]) {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => return eprintln!("no curl here: not tried"),
    }
    assert!(proxy.events().iter().all(|event| !reason(event).starts_with("tls.")), "it trusts us");
    assert_eq!(curl(&[]).unwrap().status.code(), Some(60));
    let event = event(&proxy, |event| reason(event) == "tls.client_distrusts").await;
    let said = event["errorMessage"].as_str().unwrap();
    assert!(said.contains("`curl") && said.contains("; set CURL_CA_BUNDLE to `"), "{said}");
    // And what trusts us still gets through.
    let mut client = proxy.intercepted("app.test").await;
    let answer = aws::ask(&mut client, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
