//! A browser's form upload: its bucket, key and fields are judged as a request's own would be.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exeat::engine::facts::Secret;
use exeat::engine::signature::{Scope, SigningKey};

use crate::support::aws::{self, S3};
use crate::support::sign;

/// A signed form for `bucket`, as a whole request.
fn form(bucket: &str, key: &str, more: &[(&str, &str)]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = time::OffsetDateTime::from_unix_timestamp(now as i64).unwrap();
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = now.format(format).unwrap();
    let scope = Scope { date: &date[..8], region: "us-east-1", service: "s3" };
    let credential = format!("{}/{}/us-east-1/s3/aws4_request", sign::KEY_ID, &date[..8]);
    let mut fields = vec![
        ("key", key),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", &credential),
        ("x-amz-date", &date),
    ];
    fields.extend_from_slice(more);
    let mut conditions: Vec<_> =
        fields.iter().map(|(name, value)| serde_json::json!({*name: value})).collect();
    conditions.push(serde_json::json!({"bucket": bucket}));
    let policy = serde_json::json!({"expiration": "2999-01-01T00:00:00Z", "conditions": conditions});
    let policy = STANDARD.encode(policy.to_string());
    let signature = SigningKey::derive(&Secret::new(sign::SECRET.as_bytes()), &scope).sign(policy.as_bytes());
    let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    fields.extend([("policy", &*policy), ("x-amz-signature", &*signature)]);
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let mut body: String = fields.iter().map(|(name, value)| part(name, value)).collect();
    body += &part("file\"; filename=\"a.txt", "hello");
    body += "--b--\r\n";
    format!(
        "POST /{bucket} HTTP/1.1\r\nHost: {S3}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const POLICY: &str = "version: 1
statements:
  - {id: ours, effect: allow, action: s3:PutObject, resource: 'arn:aws:s3:::ours/*', when: {auth: post_form}}
  - {id: secret, effect: deny, action: s3:*, resource: 'arn:aws:s3:::ours/secret/*'}
";

#[tokio::test]
async fn a_form_upload_is_verified_judged_by_its_key_and_passed_byte_for_byte() {
    let (proxy, origin) = aws::start_with(POLICY, None).await;
    let good = form("ours", "a", &[]);
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, good.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(good.as_bytes().ends_with(&origin.requests()[0].body));
    let event = proxy.events().remove(0);
    let ours = &event["additionalEventData"]["exeat"];
    let want = ("verified".into(), "unsigned".into(), "post_form".into());
    assert_eq!((&ours["signature"], &ours["payload"], &ours["auth"]), (&want.0, &want.1, &want.2), "{event}");
    for (name, request, reason) in [
        ("denied key", form("ours", "secret/a", &[]), "policy.denied"),
        ("other bucket", form("theirs", "a", &[]), "policy.no_match"),
        ("a right more", form("ours", "a", &[("acl", "public-read")]), "policy.no_match"),
        ("changed key", good.replacen("\r\n\r\na\r\n", "\r\n\r\nb\r\n", 1), "sigv4.payload"),
        ("changed bucket", good.replacen("/ours ", "/owns ", 1), "sigv4.payload"),
        ("two forms in one", good.replacen("--b--", "--b-x", 1), "request.ambiguous"),
    ] {
        let mut client = proxy.intercepted(S3).await;
        let answer = aws::ask(&mut client, request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains(&format!("reason={reason};")),
            "{name}: {answer}"
        );
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_signed_form_is_worth_nothing_where_no_upload_goes() {
    let policy = "version: 1\nstatements:\n  - {id: all, effect: allow, action: 's3:*', resource: '*'}\n";
    let (proxy, origin) = aws::start_with(policy, None).await;
    let good = form("ours", "a", &[]);
    // S3 takes these for requests that nobody signed.
    for target in [
        "/ours?delete",
        "/ours?metadataTable",
        "/ours?uploads",
        "/ours/a?uploads",
        "/ours/a?select&select-type=2",
    ] {
        let mut client = proxy.intercepted(S3).await;
        let request = good.replacen("/ours", target, 1);
        let answer = aws::ask(&mut client, request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("reason=request.ambiguous;"),
            "{target}: {answer}"
        );
    }
    assert!(origin.requests().is_empty());
    let mut client = proxy.intercepted(S3).await;
    let answer = aws::ask(&mut client, good.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
