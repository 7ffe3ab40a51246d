//! What the forward door refuses before a request: nothing is resolved, nothing is dialled, one record is written.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{aws, cases, tls};

#[tokio::test]
async fn refuses_literals_ports_and_malformed_targets_at_connect() {
    let (proxy, origin) = aws::start().await;
    for (target, status, reason) in [
        ("127.0.0.1:443", "403", "target.literal"),
        ("169.254.169.254:443", "403", "target.literal"),
        ("[::1]:443", "403", "target.literal"),
        ("app.test:8443", "403", "target.port"),
        ("app.test:22", "403", "target.port"),
        ("0x7f.1:443", "400", "target.malformed"),
        ("app.test@evil.test:443", "400", "target.malformed"),
        ("app.test:0443", "400", "target.malformed"),
    ] {
        let answer = proxy.connect(target).await.unwrap_err();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(answer.contains(&format!("reason={reason};")), "{target}: {answer}");
    }
    assert!(proxy.connect("app.test:443").await.is_ok());
    assert_eq!(origin.connections(), 0);
    assert_eq!(proxy.events().len(), 8);
}

#[tokio::test]
async fn refuses_plaintext_whatever_its_scheme() {
    let (proxy, origin) = aws::start().await;
    for target in ["http://app.test/x", "https://app.test/x", "http://169.254.169.254/latest/meta-data/"] {
        let mut socket = TcpStream::connect(proxy.address).await.unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let (bytes, ended) = cases::listen(&mut socket, Duration::from_secs(5), |_| false).await;
        let answer = String::from_utf8_lossy(&bytes);
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("[tls.plaintext]"), "{answer}");
        assert!(ended.is_some());
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_denied_host_is_refused_inside_its_own_connection_and_never_dialled() {
    let (proxy, origin) = aws::start().await;
    let mut client = proxy.intercepted("other.test").await;
    let answer = aws::ask(&mut client, b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("[policy.no_match]"), "{answer}");
    assert_eq!(origin.connections(), 0);
    let mut client = proxy.intercepted("app.test").await;
    let answer = aws::ask(&mut client, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn connect_sni_and_host_must_name_one_destination() {
    let (proxy, origin) = aws::start().await;
    let socket = proxy.connect("app.test:443").await.unwrap();
    assert!(tls::connect(socket, "other.test", &proxy.ca_pem()).await.is_err());
    let mut client = proxy.intercepted("app.test").await;
    let answer = aws::ask(&mut client, b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("[target.mismatch]"), "{answer}");
    assert_eq!(origin.connections(), 0);
    let reasons: Vec<_> =
        proxy.events().iter().map(|e| e["additionalEventData"]["exeat"]["reason"].clone()).collect();
    assert_eq!(reasons, ["target.mismatch", "target.mismatch"]);
}

#[tokio::test]
async fn first_bytes_that_are_not_tls_close_the_connection() {
    let (proxy, origin) = aws::start().await;
    for (bytes, told) in [(&b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"[..], true), (b"SSH-2.0-x\r\n", false)]
    {
        let mut socket = proxy.connect("app.test:443").await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let (answer, ended) = cases::listen(&mut socket, Duration::from_secs(5), |_| false).await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.contains("[tls.not_tls]"), told, "{answer}");
        assert!(ended.is_some());
    }
    assert_eq!(origin.connections(), 0);
}

/// A TLS 1.1 ClientHello: random of zeros, one suite, no extension.
fn tls_1_1_hello() -> Vec<u8> {
    let mut body = vec![3, 2];
    body.extend_from_slice(&[0; 32]);
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut hello = vec![0x16, 3, 1, 0, (body.len() + 4) as u8, 1, 0, 0, body.len() as u8];
    hello.extend_from_slice(&body);
    hello
}

#[tokio::test]
async fn refuses_tls_1_1_client_hello_inside_tunnel() {
    let (proxy, origin) = aws::start().await;
    let mut socket = proxy.connect("app.test:443").await.unwrap();
    socket.write_all(&tls_1_1_hello()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [0x15, 3, 1, 0, 2, 2, 70]);
    let events = proxy.events();
    assert_eq!(events[0]["additionalEventData"]["exeat"]["reason"], "tls.below_floor");
    assert!(events[0].to_string().contains("1.1"), "what was offered is on record: {}", events[0]);
    assert_eq!(origin.connections(), 0);
}

/// The vectors' `default` policy.
const TARGETS: &str = "version: 1
statements:
  - {id: aws, effect: allow, action: '*', resource: '*', when: {host: [s3.us-east-1.amazonaws.com, '*.s3.us-east-1.amazonaws.com', sts.us-east-1.amazonaws.com, dynamodb.us-east-1.amazonaws.com, kms.us-east-1.amazonaws.com, sqs.us-east-1.amazonaws.com]}}
";

#[tokio::test]
async fn the_door_gives_the_reasons_that_explain_target_gives() {
    use exeat::cli::explain::target::ask;
    use exeat::engine::atlas::Atlas;
    use exeat::engine::policy::Policy;
    use exeat::engine::target::destination::{Asked, Mode};

    let policy = Policy::read("targets", TARGETS, Atlas::built_in()).unwrap().0;
    let (proxy, origin) = aws::start_with(TARGETS, None).await;
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../vectors/targets/targets.json")).unwrap();
    let mut compared = 0;
    let cases = file["cases"].as_array().unwrap().iter();
    // Those that end before an answer of a resolver counts: it is replaced here.
    for case in cases.filter(|case| case["mode"] == "connect" && case["answers"].is_null()) {
        let (id, text) = (&case["id"], case["target"].as_str().unwrap());
        let asked = Asked { mode: Mode::Connect, text, sni: case["sni"].as_str() };
        let want = ask(&policy, &asked, [None, None]).outcome.unwrap_err().reason.as_str();
        let before = proxy.events().len();
        if let Ok(socket) = proxy.connect(text).await {
            let name = case["sni"].as_str().unwrap_or(text.split(':').next().unwrap());
            // rustls sends no server name for an address.
            let name = if name.is_empty() { "198.51.100.7" } else { name };
            if let Ok(mut client) = tls::connect(socket, name, &proxy.ca_pem()).await {
                aws::ask(&mut client, format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await;
            }
        }
        let event = aws::until("the event", || proxy.events().get(before).cloned()).await;
        let found = event["additionalEventData"]["exeat"]["reason"].as_str().unwrap();
        // A service's host that no statement names is refused for its request: that has a signature to speak of.
        let by_request = want == "policy.no_match" && found == "sigv4.unsigned";
        // What no HTTP parser takes for a target is malformed before it is one.
        let by_head = want == "target.malformed" && found == "request.malformed";
        assert!(found == want || by_request || by_head, "{id} {text:?}: {found}, explain: {want}");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
    assert_eq!(origin.connections(), 0);
}
