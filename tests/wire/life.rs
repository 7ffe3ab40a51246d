//! The program's life: what it won't start with, how it takes a new policy, how it ends.

use std::process::Command;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::support::aws;
use crate::support::proxy::{Proxy, Setup, folder};
use crate::support::sign::CREDENTIALS;
use crate::support::tls::{self, Ca, ClientTls};

fn exeat(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_exeat")).env_clear().args(args).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.code(), said)
}

#[test]
fn a_bad_policy_or_config_is_told_whole_with_its_places_and_exits_78() {
    let dir = folder("bad");
    let policy = dir.join("policy.yaml");
    std::fs::write(
        &policy,
        "version: 1\nstatements:\n  - {id: a, effect: permit, action: s3:*, resource: '*'}\n  - {id: b, effect: allow, acton: s3:*, resource: '*'}\n",
    )
    .unwrap();
    let (code, said) = exeat(&["run", "--listen", "127.0.0.1:0", "--policy", policy.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("policy.yaml:3:") && said.contains("policy.yaml:4:"), "{said}");
    let config = dir.join("exeat.yaml");
    std::fs::write(&config, "listen: nowhere\nlimits: {hed: 3s}\n").unwrap();
    let (code, said) = exeat(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("exeat.yaml:1:") && said.contains("exeat.yaml:2:"), "{said}");
}

#[test]
fn what_cannot_be_had_at_start_is_one_sentence_and_nothing_half_started() {
    let dir = folder("start");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (code, said) = exeat(&["run", "--listen", &taken]);
    assert!(code == Some(78) && said.contains(&taken), "{code:?} {said}");
    let missing = dir.join("no/such/file.jsonl");
    let (code, said) = exeat(&["run", "--listen", "127.0.0.1:0", "--audit", missing.to_str().unwrap()]);
    assert!(code == Some(78) && said.contains("file.jsonl"), "{code:?} {said}");
    let (code, said) = exeat(&[
        "run",
        "--listen",
        "127.0.0.1:0",
        "--ca-cert",
        "/nonexistent/ca.pem",
        "--ca-key",
        "/nonexistent/ca.key",
    ]);
    assert!(code == Some(78) && said.contains("/nonexistent/ca"), "{code:?} {said}");
    assert!(!dir.join("no").exists());
}

#[tokio::test]
async fn a_new_policy_is_taken_on_sighup_and_a_bad_one_is_not() {
    let (proxy, _origin) = aws::start().await;
    let request = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let status = async || {
        let mut client = proxy.intercepted("app.test").await;
        aws::ask(&mut client, request).await[9..12].to_owned()
    };
    assert_eq!(status().await, "200");
    let policy = proxy.dir.join("policy.yaml");
    std::fs::write(&policy, "version: 1\nstatements: [{id: x, effect").unwrap();
    proxy.signal("-HUP");
    assert_eq!(status().await, "200");
    std::fs::write(
        &policy,
        "version: 1\nstatements:\n  - {id: gone, effect: allow, http: {host: other.test, path: /*}}\n",
    )
    .unwrap();
    for _ in 0..200 {
        proxy.signal("-HUP");
        if status().await == "403" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the new policy was never taken");
}

/// A client in the midst of an upload: `llo` is still to come.
async fn uploading(proxy: &Proxy, origin: &aws::Origin) -> ClientTls {
    let mut busy = proxy.intercepted("app.test").await;
    busy.write_all(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhe").await.unwrap();
    busy.flush().await.unwrap();
    aws::until("the upload", || (origin.bytes() > 0).then_some(())).await;
    busy
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_and_exits_0() {
    let (proxy, origin) = aws::start().await;
    let mut idle = proxy.intercepted("app.test").await;
    let mut busy = uploading(&proxy, &origin).await;
    proxy.signal("-TERM");
    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut idle, &mut rest).await;
    assert!(ended.is_ok() && rest.is_empty(), "the idle connection ends in order");
    let answer = aws::ask(&mut busy, b"llo").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close"), "{answer}");
    // Each worker lets go of the socket by itself.
    let shut = || std::net::TcpStream::connect(proxy.address).is_err().then_some(());
    aws::until("the door is shut", shut).await;
    drop(busy);
    assert_eq!(proxy.audit().len(), 2, "{:#?}", proxy.audit());
    let (code, said, _) = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn what_outlives_the_drain_is_cut_and_recorded() {
    let (proxy, origin) = aws::start_configured("limits: {drain: 300ms}\n").await;
    let mut busy = uploading(&proxy, &origin).await;
    proxy.signal("-TERM");
    let mut rest = Vec::new();
    assert!(
        tokio::io::AsyncReadExt::read_to_end(&mut busy, &mut rest).await.is_err(),
        "it is cut, not ended"
    );
    let (code, said, audit) = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert!(code == Some(0) && said.contains("drain time is over"), "{code:?} {said}");
    assert_eq!(audit.matches("\"reason\":\"request.aborted\"").count(), 1, "{audit}");
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once() {
    let (proxy, origin) = aws::start_configured("limits: {drain: 1h}\n").await;
    let _busy = uploading(&proxy, &origin).await;
    proxy.signal("-TERM");
    let shut = || std::net::TcpStream::connect(proxy.address).is_err().then_some(());
    aws::until("the door is shut", shut).await;
    proxy.signal("-TERM");
    let (code, said, _) = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert!(code == Some(0) && said.contains("a second signal"), "{code:?} {said}");
}

/// The hook for it is in debug builds alone.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_bug_costs_one_request_and_its_connection() {
    let (proxy, origin) = aws::start_configured("workers: 1\n").await;
    let mut other = proxy.intercepted("app.test").await;
    let good = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    assert!(aws::ask(&mut other, good).await.starts_with("HTTP/1.1 200 "));
    let mut client = proxy.intercepted("app.test").await;
    let answer =
        aws::ask(&mut client, b"GET / HTTP/1.1\r\nHost: app.test\r\nExeat-Test-Panic: 1\r\n\r\n").await;
    assert_eq!(answer, "", "its connection ends");
    assert!(aws::ask(&mut other, good).await.starts_with("HTTP/1.1 200 "), "the others of its worker go on");
    assert_eq!(origin.requests().len(), 2);
    let reasons: Vec<_> =
        proxy.events().iter().map(|e| e["additionalEventData"]["exeat"]["reason"].clone()).collect();
    assert_eq!(reasons, [serde_json::Value::Null, "internal.error".into(), serde_json::Value::Null]);
    drop((client, other));
    proxy.until_metric("exeat_in_use{resource=\"connections\"}", 0).await;
    proxy.until_metric("exeat_pool_connections{state=\"active\"}", 0).await;
}

#[tokio::test]
async fn no_request_leaves_when_its_intent_cannot_be_written() {
    let (proxy, origin) = aws::start_with(aws::POLICY, Some("/dev/full")).await;
    let mut client = proxy.intercepted("app.test").await;
    let answer = aws::ask(&mut client, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("[limit.audit]"), "{answer}");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_restart_with_a_kept_ca_keeps_clients_working() {
    let dir = folder("kept");
    let config = format!("ca_dir: {}/ca\n", dir.display());
    let start = || {
        Proxy::start(&Setup {
            policy: aws::POLICY,
            connect_to: Vec::new(),
            upstream_ca: Ca::new().pem(),
            credentials: CREDENTIALS,
            config: &config,
            audit: None,
        })
    };
    let first = start();
    let trusted = first.ca_pem();
    drop(first);
    let proxy = start();
    assert_eq!(proxy.ca_pem(), trusted);
    let socket = proxy.connect("app.test:443").await.unwrap();
    tls::connect(socket, "app.test", &trusted).await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}
