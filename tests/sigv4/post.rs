//! S3's form uploads: botocore's form, and what a form may not differ in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exeat::engine::facts::{Auth, PayloadState, Secret, SignatureState, Timestamp};
use exeat::engine::form::Form;
use exeat::engine::reason::Reason;
use exeat::engine::signature::{KnownKeys, PostClaim, Refusal, Scope, SigningKey, Verdict};
use serde_json::{Value, json};

use super::message::{hex, keys, text};
use super::requests::RECORDED;

const TYPE: &[u8] = b"multipart/form-data; boundary=b";

/// Fields of a form, in order; the policy is signed when the form is put together.
type Fields = Vec<(String, String)>;

fn recorded() -> (Fields, KnownKeys) {
    let file: Value = serde_json::from_str(&text("s3-post-policy.json")).unwrap();
    let fields = file["form"]["fields"].as_object().unwrap();
    let fields: Fields = fields.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned())).collect();
    let token = fields.iter().find(|(n, _)| n == "x-amz-security-token").unwrap().1.clone();
    let known = keys("AKIAIOSFODNN7EXAMPLE", file["secret_access_key"].as_str().unwrap(), Some(&token));
    (fields, known)
}

fn wire(fields: &Fields, file: &str) -> Vec<u8> {
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let mut wire: String = fields.iter().map(|(name, value)| part(name, value)).collect();
    wire += &part("file\"; filename=\"a.txt", file);
    (wire + "--b--\r\n").into_bytes()
}

fn verify(
    fields: &Fields,
    file: &str,
    bucket: &str,
    known: &KnownKeys,
    now: Timestamp,
) -> Result<Verdict, Refusal> {
    let body = wire(fields, file);
    let form = Form::parse(TYPE, &body).unwrap();
    PostClaim::read(&form)?.expect("a signed form").verify(bucket, known, now)
}

/// The recorded form, changed, and judged at the second of its making.
fn changed(change: impl FnOnce(&mut Fields)) -> Result<Verdict, Reason> {
    let (mut fields, known) = recorded();
    change(&mut fields);
    verify(&fields, "hello", "examplebucket", &known, RECORDED).map_err(|refusal| refusal.reason)
}

/// The recorded form, sent to a bucket.
pub fn for_bucket(bucket: &str) -> Result<(), Reason> {
    let (fields, known) = recorded();
    verify(&fields, "hello", bucket, &known, RECORDED).map(drop).map_err(|refusal| refusal.reason)
}

fn set(fields: &mut Fields, name: &str, value: &str) {
    fields.retain(|(n, _)| n != name);
    fields.push((name.to_owned(), value.to_owned()));
}

#[test]
fn verifies_the_form_that_botocore_made() {
    let verdict = changed(|_| ()).unwrap();
    assert_eq!(verdict.identity.signature, SignatureState::Verified);
    assert_eq!((verdict.identity.auth, verdict.identity.payload), (Auth::PostForm, PayloadState::Unsigned));
    let (fields, _) = recorded();
    let unknown = verify(&fields, "hello", "examplebucket", &KnownKeys::default(), RECORDED).unwrap();
    assert_eq!(unknown.identity.signature, SignatureState::UnknownKey);
}

#[test]
fn refuses_a_form_that_is_not_the_one_whose_policy_was_signed() {
    let change = |name: &'static str, value: &'static str| changed(|f| set(f, name, value)).unwrap_err();
    assert_eq!(change("policy", "e30="), Reason::SigV4Signature);
    assert_eq!(change("x-amz-signature", &"0".repeat(64).leak()[..]), Reason::SigV4Signature);
    assert_eq!(change("x-amz-signature", "00"), Reason::SigV4Malformed);
    assert_eq!(change("x-amz-algorithm", "AWS4-ECDSA-P256-SHA256"), Reason::SigV4Unsupported);
    assert_eq!(change("x-amz-date", "20260103T030405Z"), Reason::SigV4Scope);
    assert_eq!(change("x-amz-security-token", "other"), Reason::SigV4Token);
    assert_eq!(change("acl", "public-read"), Reason::SigV4Payload);
    assert_eq!(change("key", "other/a"), Reason::SigV4Payload);
    assert_eq!(change("tagging", "<Tagging/>"), Reason::SigV4UnsignedHeader);
    assert_eq!(change("AWSAccessKeyId", "AKIAIOSFODNN7EXAMPLE"), Reason::SigV4Version2);
    assert!(changed(|f| set(f, "x-ignore-me", "1")).is_ok());
    for name in ["policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"] {
        assert_eq!(changed(|f| f.retain(|(n, _)| n != name)).unwrap_err(), Reason::SigV4Malformed, "{name}");
    }
    assert_eq!(changed(|f| f.retain(|(n, _)| n != "x-amz-security-token")).unwrap_err(), Reason::SigV4Token);
    assert_eq!(changed(|f| f.retain(|(n, _)| n != "acl")).unwrap_err(), Reason::SigV4Payload);
    let (fields, known) = recorded();
    let judge = |file: &str, bucket: &str, seconds: i64| {
        verify(&fields, file, bucket, &known, Timestamp(RECORDED.0 + seconds)).map(drop).map_err(|r| r.reason)
    };
    assert_eq!(judge("hello", "examplebucket", 3600), Ok(()));
    assert_eq!(judge("hello", "examplebucket", 3601), Err(Reason::SigV4Expired));
    assert_eq!(judge("hello", "examplebucket", -901), Err(Reason::SigV4Skew));
    assert_eq!(judge("hello", "otherbucket", 0), Err(Reason::SigV4Payload));
    assert_eq!(judge("", "examplebucket", 0), Err(Reason::SigV4Payload), "content-length-range begins at 1");
}

#[test]
fn a_form_without_a_signature_is_nobodys() {
    let body = wire(&vec![("key".into(), "a".into())], "hello");
    assert!(PostClaim::read(&Form::parse(TYPE, &body).unwrap()).unwrap().is_none());
}

/// A form with this policy, signed.
fn under(policy: &Value, more: &[(&str, &str)]) -> Result<(), Reason> {
    let scope = Scope { date: "20260102", region: "us-east-1", service: "s3" };
    let policy = STANDARD.encode(policy.to_string());
    let signature = hex(&SigningKey::derive(&Secret::new(b"secret"), &scope).sign(policy.as_bytes()));
    let credential = "AKID/20260102/us-east-1/s3/aws4_request";
    let mut fields: Fields = Vec::new();
    for (name, value) in [
        ("key", "k"),
        ("policy", &*policy),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-credential", credential),
        ("x-amz-date", "20260102T030405Z"),
        ("x-amz-signature", &*signature),
    ]
    .iter()
    .chain(more)
    {
        fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    verify(&fields, "hello", "b", &keys("AKID", "secret", None), RECORDED).map(drop).map_err(|r| r.reason)
}

#[test]
fn every_kind_of_condition_is_met_or_refuses() {
    let policy = |more: Value| {
        let mut conditions = vec![
            json!({"bucket": "b"}),
            json!(["eq", "$key", "k"]),
            json!(["starts-with", "$x-amz-algorithm", ""]),
            json!(["starts-with", "$x-amz-credential", "AKID/"]),
            json!({"X-Amz-Date": "20260102T030405Z"}),
        ];
        conditions.extend(more.as_array().unwrap().iter().cloned());
        json!({"expiration": "2026-01-02T03:04:05.000Z", "conditions": conditions})
    };
    assert_eq!(under(&policy(json!([])), &[]), Ok(()));
    assert_eq!(under(&policy(json!([["content-length-range", 5, "5"]])), &[]), Ok(()));
    assert_eq!(
        under(&policy(json!([["starts-with", "$Content-Type", "image/"]])), &[("content-type", "image/png")]),
        Ok(())
    );
    for (more, field, expected) in [
        (json!([["content-length-range", 6, 9]]), ("x-ignore-a", ""), Reason::SigV4Payload),
        (
            json!([["starts-with", "$Content-Type", "image/"]]),
            ("content-type", "text/html"),
            Reason::SigV4Payload,
        ),
        (json!([["starts-with", "$Content-Type", "image/"]]), ("x-ignore-a", ""), Reason::SigV4Payload),
        (json!([["matches", "$key", "k"]]), ("x-ignore-a", ""), Reason::SigV4Malformed),
        (json!([{"a": "1", "b": "2"}]), ("x-ignore-a", ""), Reason::SigV4Malformed),
        (json!([["eq", "key", "k"]]), ("x-ignore-a", ""), Reason::SigV4Malformed),
        (json!([]), ("success_action_status", "201"), Reason::SigV4UnsignedHeader),
    ] {
        assert_eq!(under(&policy(more.clone()), &[field]), Err(expected), "{more}");
    }
    for broken in [
        json!({"expiration": "2026-01-02T03:04:05Z", "conditions": []}),
        json!({"expiration": "tomorrow", "conditions": policy(json!([]))["conditions"]}),
        json!({"conditions": policy(json!([]))["conditions"]}),
        json!({"expiration": "2026-01-02T03:04:05Z"}),
        json!([]),
    ] {
        assert_eq!(under(&broken, &[]), Err(Reason::SigV4Malformed), "{broken}");
    }
}
