//! Trace ids are read and recorded, and travel on as they came, signed or not.

use crate::support::aws::{self, S3};
use crate::support::sign::{Body, s3_head};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const XRAY: &str = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1";

#[tokio::test]
async fn trace_ids_are_recorded_and_never_altered() {
    let (proxy, origin) = aws::start().await;
    let signed = s3_head(
        "GET",
        S3,
        "/ours/signed",
        &[("traceparent", PARENT), ("x-amzn-trace-id", XRAY)],
        &Body::Bytes(b""),
        None,
    );
    let beside = s3_head("GET", S3, "/ours/beside", &[], &Body::Bytes(b""), None)
        .replace("\r\n\r\n", &format!("\r\nTraceparent: {PARENT}\r\nX-Amzn-Trace-Id: {XRAY}\r\n\r\n"));
    let other = format!(
        "GET /x HTTP/1.1\r\nHost: app.test\r\ntraceparent: {PARENT}\r\nx-amzn-trace-id: {XRAY}\r\n\r\n"
    );
    // Two say nothing that can be trusted: neither is recorded, both travel.
    let twice =
        format!("GET /y HTTP/1.1\r\nHost: app.test\r\ntraceparent: {PARENT}\r\ntraceparent: other\r\n\r\n");
    for (host, request) in [(S3, &signed), (S3, &beside), ("app.test", &other), ("app.test", &twice)] {
        let answer = aws::ask(&mut proxy.intercepted(host).await, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let told = proxy.events();
    let of = |path: &str| {
        let message = origin.requests().into_iter().find(|message| message.start.contains(path)).unwrap();
        let values = |name: &str| message.values(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
        (values("traceparent"), values("x-amzn-trace-id"))
    };
    for path in ["/ours/signed", "/ours/beside", "/x "] {
        assert_eq!(of(path), (vec![PARENT.to_owned()], vec![XRAY.to_owned()]), "{path}");
    }
    assert_eq!(of("/y ").0, [PARENT, "other"]);
    let recorded = |name: &str| -> Vec<Option<&str>> {
        told.iter().map(|event| event["additionalEventData"]["exeat"][name].as_str()).collect()
    };
    assert_eq!(recorded("traceparent"), [Some(PARENT), Some(PARENT), Some(PARENT), None]);
    assert_eq!(recorded("trace"), [Some(XRAY), Some(XRAY), Some(XRAY), None]);
}
