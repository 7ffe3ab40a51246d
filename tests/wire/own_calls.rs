//! Calls that exeat makes of itself to the platform's credentials endpoints: each is on record, none tells a secret.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc;

use serde_json::Value;

use crate::support::aws::{self, Origin, S3};
use crate::support::proxy::{Proxy, Setup, folder};
use crate::support::sign::{As, Body, KEY_ID, OURS, SECRET, s3_head_as};
use crate::support::tls::Ca;

const POLICY: &str = "version: 1
statements:
  - {id: ours, effect: allow, action: s3:*, resource: 'arn:aws:s3:::ours/*'}
";

/// Answers each connection in turn with what `answer` makes of its request; nobody more once it says nothing.
fn endpoint(
    mut answer: impl FnMut(&str) -> Option<String> + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, asked) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let Some(answer) = answer(&request) else { return };
            socket.write_all(answer.as_bytes()).unwrap();
            if told.send(request).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn keys(id: &str) -> String {
    ok(&format!(r#"{{"AccessKeyId":"{id}","SecretAccessKey":"{SECRET}","Token":"planted-token"}}"#))
}

async fn start(variables: &[(&str, String)]) -> (Proxy, Origin) {
    let ca = Ca::new();
    let (origin, address) = aws::origin_saying(&ca, |_| aws::ok("ok")).await;
    let setup = Setup {
        policy: POLICY,
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: "",
        config: "records: {level: all, include_data: true}\n",
        audit: None,
    };
    (Proxy::start_in(&setup, variables), origin)
}

async fn get(proxy: &Proxy, signer: &As<'_>) -> String {
    let mut client = proxy.intercepted(S3).await;
    let head = s3_head_as(signer, "GET", S3, "/ours/a", &[], &Body::Bytes(b""), None);
    aws::ask(&mut client, head.as_bytes()).await
}

/// Our own calls, each with its intent, which came before it in the file.
fn own(proxy: &Proxy) -> Vec<Value> {
    let lines = proxy.audit();
    let mut own = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line["eventVersion"].is_string()) {
        let ours = &line["additionalEventData"]["exeat"];
        if ours["origin"] == "exeat" {
            let intents = lines[..at].iter().filter(|intent| intent["flow"] == ours["flow"]);
            assert_eq!(intents.count(), 1, "{line}");
            assert_eq!(line["sourceIPAddress"], "exeat", "{line}");
            own.push(line.clone());
        }
    }
    own
}

/// No secret is in any line, and `audit verify` finds the file whole, to the last lane's end.
fn clean(proxy: Proxy, secrets: &[&str]) {
    proxy.signal("-TERM");
    let (_, _, text) = proxy.wait();
    let path = folder("own-calls").join("audit.jsonl");
    std::fs::write(&path, &text).unwrap();
    let verified = Command::new(env!("CARGO_BIN_EXE_exeat"))
        .args(["audit", "verify", "--complete"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn each_call_to_the_containers_endpoint_is_on_record_at_start_and_at_a_refresh() {
    let mut first = true;
    let (address, asked) = endpoint(move |_| {
        let id = if std::mem::take(&mut first) { "ASIARZPUZDIKAAAAAAAA" } else { KEY_ID };
        Some(keys(id))
    });
    let place = format!("http://{address}/v2/planted-path");
    let (proxy, _origin) = start(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", place),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "planted-authorization".into()),
    ])
    .await;
    assert!(asked.recv().unwrap().contains("Authorization: planted-authorization\r\n"));
    let [event] = &own(&proxy)[..] else { panic!("{:?}", proxy.audit()) };
    assert_eq!((&event["eventType"], &event["eventName"]), (&"HttpCall".into(), &"GET".into()), "{event}");
    assert_eq!(event["eventSource"], address.to_string(), "{event}");
    assert!(event.get("errorCode").is_none(), "{event}");
    let ours = &event["additionalEventData"]["exeat"];
    assert_eq!((&ours["status"], &ours["end"]), (&200.into(), &"answered".into()), "{event}");
    assert!(ours["bytesOut"].as_u64().unwrap() > 50 && ours["durationUs"].as_u64().unwrap() > 0, "{event}");
    assert_eq!(ours["upstream"]["port"], address.port(), "{event}");
    assert_eq!((ours.get("path"), ours.get("door")), (None, None), "{event}");

    // A key that nobody knows: one refresh, however many come.
    let signer = As { token: Some("planted-token"), ..OURS };
    assert!(get(&proxy, &signer).await.starts_with("HTTP/1.1 200 "));
    for _ in 0..3 {
        assert!(
            get(&proxy, &As { id: "AKIAI44QH8DHBEXAMPLE", ..OURS })
                .await
                .contains("reason=sigv4.unknown_key;")
        );
    }
    assert_eq!(own(&proxy).len(), 2);
    // They count as no request of a client.
    assert!(!proxy.metrics().await.contains("decision=\"none\""));
    clean(proxy, &["planted-path", "planted-authorization", "planted-token", SECRET]);
}

#[tokio::test]
async fn each_of_the_three_calls_to_an_instances_metadata_is_on_record() {
    let (address, _asked) = endpoint(|request| {
        Some(match request.split(' ').next() {
            Some("PUT") => ok("planted-session"),
            _ if request.contains("/planted-role ") => keys(KEY_ID),
            _ => ok("planted-role"),
        })
    });
    let (proxy, _origin) = start(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{address}"))]).await;
    let names: Vec<_> = own(&proxy).iter().map(|event| event["eventName"].clone()).collect();
    assert_eq!(names, ["PUT", "GET", "GET"]);
    let signer = As { token: Some("planted-token"), ..OURS };
    assert!(get(&proxy, &signer).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(own(&proxy).len(), 3, "a key that is known makes no call");
    clean(proxy, &["planted-session", "planted-token", SECRET]);
}

#[tokio::test]
async fn a_call_that_fails_says_how() {
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (refuses, _asked) = endpoint(|_| Some("HTTP/1.1 403 Forbidden\r\n\r\nplanted-body".into()));
    let (mumbles, _asked_too) = endpoint(|_| Some("planted-body".into()));
    for (address, status, reason) in
        [(gone, 0, Some("upstream.connect")), (refuses, 403, None), (mumbles, 0, Some("upstream.protocol"))]
    {
        let (proxy, _origin) =
            start(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/x"))]).await;
        let [event] = &own(&proxy)[..] else { panic!("{:?}", proxy.audit()) };
        let ours = &event["additionalEventData"]["exeat"];
        assert_eq!(ours["status"], status, "{event}");
        assert_eq!(ours.get("reason").and_then(Value::as_str), reason, "{event}");
        assert_eq!(event.get("errorMessage").is_some(), reason.is_some(), "{event}");
        clean(proxy, &["planted-body"]);
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_recorded_is_not_made() {
    let (address, asked) = endpoint(|_| Some(keys(KEY_ID)));
    let ca = Ca::new();
    let setup = Setup {
        policy: POLICY,
        connect_to: Vec::new(),
        upstream_ca: ca.pem(),
        credentials: "",
        config: "{}\n",
        audit: Some("/dev/full"),
    };
    let place = format!("http://{address}/");
    let proxy = Proxy::start_in(&setup, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", place)]);
    assert!(asked.try_recv().is_err(), "it listens, and asked nobody");
    assert!(proxy.metric("exeat_audit_up").await == 0);
}
