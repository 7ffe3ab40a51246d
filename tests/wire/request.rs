//! A signed request on its way: what goes upstream, what never does, and what is recorded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::aws::{self, S3};
use crate::support::cases;
use crate::support::proxy::{Proxy, Setup};
use crate::support::sign::{self, Body};
use crate::support::tls::Ca;

#[tokio::test]
async fn a_verified_request_goes_on_as_signed_and_leaves_an_intent_and_an_event() {
    let (proxy, origin) = aws::start().await;
    let mut client = proxy.intercepted(S3).await;
    let head = sign::s3_head("PUT", S3, "/ours/a", &[("x-amz-meta-a", "1")], &Body::Bytes(b"hello"), Some(5));
    let answer = aws::ask(&mut client, format!("{head}hello").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let requests = origin.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].body, b"hello");
    let sent: Vec<String> = head
        .lines()
        .skip(1)
        .filter(|l| !l.is_empty() && !l.starts_with("content-length"))
        .map(str::to_owned)
        .collect();
    let passed: Vec<String> = requests[0].fields.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    assert!(sent.iter().all(|line| passed.contains(line)), "{sent:?} {passed:?}");
    assert_eq!(passed.len(), sent.len() + 1, "nothing but framing is added: {passed:?}");
    let audit = proxy.audit();
    assert_eq!(audit.len(), 2, "{audit:#?}");
    let ours = &audit[1]["additionalEventData"]["exeat"];
    assert_eq!(audit[1]["eventName"], "PutObject");
    assert_eq!(audit[1]["requestID"], "ORIGIN1");
    assert_eq!(
        (&ours["signature"], &ours["payload"], &ours["auth"]),
        (&"verified".into(), &"signed".into(), &"sigv4".into())
    );
    assert!(audit[0].to_string().len() <= 400);
}

#[tokio::test]
async fn each_refusal_sends_not_one_byte_upstream() {
    let (proxy, origin) = aws::start().await;
    let signed = |method: &str, path: &str| sign::s3_head(method, S3, path, &[], &Body::Bytes(b""), None);
    let stranger = sign::As { id: "AKIAQNZGKIQYEXAMPLE2", ..sign::OURS };
    let foreign = sign::s3_head_as(&stranger, "GET", S3, "/ours/a", &[], &Body::Bytes(b""), None);
    let cases: [(&str, String, &str); 8] = [
        ("tampered path", signed("GET", "/ours/a").replacen("/ours/a", "/ours/b", 1), "sigv4.signature"),
        (
            "tampered header",
            signed("GET", "/ours/a")
                .replacen("x-amz-date: 2", "x-amz-date:  2", 1)
                .replacen("GET", "HEAD", 1)
                .replacen("HEAD", "DELETE", 1),
            "sigv4.signature",
        ),
        ("unsigned", format!("GET /ours/a HTTP/1.1\r\nhost: {S3}\r\n\r\n"), "sigv4.unsigned"),
        ("foreign key", foreign, "sigv4.unknown_key"),
        ("denied path", signed("GET", "/ours/secret/x"), "policy.denied"),
        ("other bucket", signed("GET", "/theirs/a"), "policy.no_match"),
        (
            "extra x-amz header",
            signed("GET", "/ours/a").replacen("\r\n\r\n", "\r\nx-amz-acl: public-read\r\n\r\n", 1),
            "sigv4.unsigned_header",
        ),
        ("no such host", format!("GET / HTTP/1.1\r\nhost: {S3}:444\r\n\r\n"), "target.mismatch"),
    ];
    for (what, head, reason) in &cases {
        let mut client = proxy.intercepted(S3).await;
        let answer = aws::ask(&mut client, head.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains(&format!("reason={reason};")),
            "{what}: {answer}"
        );
    }
    assert_eq!(origin.bytes(), 0);
    assert_eq!(proxy.audit().len(), cases.len());
}

#[tokio::test]
async fn a_bad_signature_is_explained_to_the_operator_and_not_to_the_client() {
    let (proxy, origin) = aws::start().await;
    let fields = [("accept-encoding", "identity")];
    let head = sign::s3_head("GET", S3, "/ours/a", &fields, &Body::Bytes(b""), None);
    let head = head.replacen("accept-encoding: identity", "accept-encoding: gzip, br", 1);
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("reason=sigv4.signature;"), "{answer}");
    assert!(!answer.contains("accept-encoding"), "{answer}");
    let event = proxy.events().remove(0);
    assert!(event.to_string().contains("it holds if `accept-encoding` is `identity`"), "{event}");
    assert_eq!(origin.bytes(), 0);
}

#[tokio::test]
async fn a_body_that_is_not_what_was_signed_never_completes_upstream() {
    let (proxy, origin) = aws::start().await;
    let body = vec![b'a'; 3 << 20];
    let mut forged = body.clone();
    *forged.last_mut().unwrap() = b'b';
    let head = sign::s3_head("PUT", S3, "/ours/a", &[], &Body::Bytes(&body), Some(body.len()));
    let mut client = proxy.intercepted(S3).await;
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&forged).await.unwrap();
    client.flush().await.unwrap();
    let (answer, _) = cases::listen(&mut client, Duration::from_secs(10), |_| false).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("reason=sigv4.payload;"), "{answer}");
    assert!(origin.requests().is_empty());
    let mut client = proxy.intercepted(S3).await;
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = aws::ask(&mut client, &body).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn the_final_answer_comes_instead_of_100_when_the_head_is_refused() {
    let (proxy, origin) = aws::start().await;
    let expect = |head: String| head.replacen("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n", 1);
    let refused = expect(sign::s3_head("PUT", S3, "/theirs/a", &[], &Body::Unsigned, Some(5)));
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, refused.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(origin.bytes(), 0);
    let allowed = expect(sign::s3_head("PUT", S3, "/ours/a", &[], &Body::Unsigned, Some(5)));
    let mut client = proxy.intercepted(S3).await;
    client.write_all(allowed.as_bytes()).await.unwrap();
    let (answer, _) = cases::listen(&mut client, Duration::from_secs(10), |b| b.ends_with(b"\r\n\r\n")).await;
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 100 Continue\r\n\r\n");
    let answer = aws::ask(&mut client, b"hello").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn connections_of_one_origin_are_reused_and_never_across_authorities() {
    let (proxy, origin) = aws::start().await;
    for _ in 0..3 {
        let mut client = proxy.intercepted("app.test").await;
        let answer = aws::ask(&mut client, b"GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let after_app = origin.connections();
    let mut client = proxy.intercepted(S3).await;
    let head = sign::s3_head("GET", S3, "/ours/a", &[], &Body::Bytes(b""), None);
    aws::ask(&mut client, head.as_bytes()).await;
    assert_eq!(origin.connections(), after_app + 1);
    // Workers share no pool: as many connections as workers, at most.
    assert!(after_app <= std::thread::available_parallelism().unwrap().get().min(4), "{after_app}");
}

#[tokio::test]
async fn records_one_line_when_client_hangs_up_mid_body() {
    let (proxy, origin) = aws::start().await;
    let mut client = proxy.intercepted(S3).await;
    let head = sign::s3_head("PUT", S3, "/ours/a", &[], &Body::Unsigned, Some(1 << 20));
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&[b'x'; 1000]).await.unwrap();
    client.flush().await.unwrap();
    aws::until("the request's head upstream", || (origin.bytes() > 0).then_some(())).await;
    drop(client);
    let event = aws::until("the event", || proxy.events().into_iter().next()).await;
    assert_eq!(event["additionalEventData"]["exeat"]["reason"], "request.aborted", "{event}");
    assert!(origin.requests().is_empty());
    let mut next = proxy.intercepted("app.test").await;
    assert!(
        aws::ask(&mut next, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await.starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn an_http_1_0_client_is_answered_without_chunks() {
    let (proxy, _origin) = aws::start().await;
    let mut client = proxy.intercepted("app.test").await;
    client.write_all(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close\r\n"), "{answer}");
}

/// A signed upload to `ours`, and the answers to it on connections of their own.
async fn upload_thrice(config: &str) -> (Vec<String>, Vec<serde_json::Value>) {
    let ca = Ca::new();
    let (_origin, address) = aws::origin_saying(&ca, |_| aws::ok("ok")).await;
    let proxy = Proxy::start(&Setup {
        policy: aws::POLICY,
        connect_to: vec![("*:443".into(), address)],
        upstream_ca: ca.pem(),
        credentials: sign::CREDENTIALS,
        config,
        audit: None,
    });
    let upload = sign::s3_head("PUT", S3, "/ours/a", &[], &Body::Bytes(b"hello"), Some(5)) + "hello";
    let read = sign::s3_head("GET", S3, "/ours/a", &[], &Body::Bytes(b""), None);
    let other = sign::s3_head("PUT", S3, "/ours/b", &[], &Body::Bytes(b"hello"), Some(5)) + "hello";
    let mut answers = Vec::new();
    for request in [&upload, &upload, &read, &read, &other] {
        let mut client = proxy.intercepted(S3).await;
        answers.push(aws::ask(&mut client, request.as_bytes()).await);
    }
    let events = proxy.events();
    (answers, events)
}

#[tokio::test]
async fn a_signed_request_that_came_before_is_told_or_refused_and_reads_may_repeat() {
    let repeats = |events: &[serde_json::Value]| -> Vec<bool> {
        events.iter().map(|event| event["additionalEventData"]["exeat"].get("repeats").is_some()).collect()
    };
    let (answers, events) = upload_thrice("{}\n").await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}");
    assert_eq!(repeats(&events), [false, true, false, false, false]);

    let (answers, events) = upload_thrice("repeats: refuse\n").await;
    let refused: Vec<_> = answers.iter().map(|answer| answer.contains("reason=sigv4.repeated;")).collect();
    assert_eq!(refused, [false, true, false, false, false], "{answers:?}");
    assert_eq!(repeats(&events), [false, true, false, false, false]);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_so_with_ours() {
    let (proxy, _origin) = aws::start().await;
    let at = SystemTime::now() - Duration::from_secs(3600);
    let signer = sign::As { at: Some(at), ..sign::OURS };
    let late = sign::s3_head_as(&signer, "GET", S3, "/ours/a", &[], &Body::Bytes(b""), None);
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, late.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("reason=sigv4.skew;"), "{answer}");
    assert!(answer.contains("<Code>RequestTimeTooSkewed</Code>"), "{answer}");
    let date = answer.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap();
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let told = time::PrimitiveDateTime::parse(date, format).unwrap().assume_utc().unix_timestamp();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((now - 60..=now).contains(&told), "{date}");

    // The same date under a signature that does not hold is no clock's fault.
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, late.replacen("/ours/a", "/ours/b", 1).as_bytes()).await;
    assert!(
        answer.contains("reason=sigv4.signature;") && answer.contains("<Code>AccessDenied</Code>"),
        "{answer}"
    );
}
