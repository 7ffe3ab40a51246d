//! Recorded requests, changed after signing: each must be refused, for a reason that says why.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use exeat::engine::facts::Timestamp;
use exeat::engine::reason::Reason;
use exeat::engine::signature::Refusal;
use serde_json::Value;

use super::message::{Message, text};
use super::requests::{RECORDED, recorded};

/// Our codes for the vectors' names. Several where the order of checks decides.
fn reasons(name: &str) -> &'static [Reason] {
    match name {
        // A second value joins the first in the canonical request. Host against scope is the atlas's question; here
        // the changed scope breaks the signature, or, as S3's, lacks the header that S3 must have.
        "signature_mismatch" | "duplicate_header" | "scope_region_vs_host" => &[Reason::SigV4Signature],
        "host_not_signed"
        | "required_header_not_signed"
        | "unsigned_session_token_header"
        | "unsigned_amz_header" => &[Reason::SigV4UnsignedHeader],
        "scope_date_mismatch" | "malformed_scope" => &[Reason::SigV4Scope],
        "malformed_signature"
        | "scope_service_vs_host"
        | "missing_date"
        | "duplicate_authorization"
        | "expires_out_of_range"
        | "duplicate_auth_parameter"
        | "case_variant_auth_parameter" => &[Reason::SigV4Malformed],
        "expired" => &[Reason::SigV4Skew, Reason::SigV4Expired],
        "not_yet_current" => &[Reason::SigV4Skew],
        "both_header_and_query_auth" => &[Reason::SigV4TwoForms],
        "payload_hash_mismatch" | "trailer_checksum_mismatch" => &[Reason::SigV4Payload],
        other => panic!("no reason of ours for `{other}`"),
    }
}

/// One mutation; the seconds that it moves the clock.
fn mutate(message: &mut Message, mutation: &[&str]) -> i64 {
    let Message { target, body, .. } = message;
    match *mutation {
        ["body", "append", hex] => body.push(u8::from_str_radix(hex, 16).unwrap()),
        ["body", "set", base64] => *body = STANDARD.decode(base64).unwrap(),
        ["body", "flip_trailer_checksum", _] => {
            let at = body.iter().rposition(|&b| b == b':').unwrap() + 1;
            body[at] ^= 1;
        }
        ["header", "set", name, value] => message.set(name, value),
        ["header", "append", name, "<same value again>"] => {
            let value = message.value(name).unwrap().into();
            message.fields.push((name.into(), value));
        }
        ["header", "append", name, value] => message.fields.push((name.into(), value.into())),
        ["header", "remove", name] => message.remove(name),
        ["query", "append", query] => {
            target.push(if target.contains(&b'?') { b'&' } else { b'?' });
            target.extend(query.bytes());
        }
        ["query", "set", name, value] => {
            let text = String::from_utf8(target.clone()).unwrap();
            let set = |piece: &str| {
                if piece.starts_with(&format!("{name}=")) { format!("{name}={value}") } else { piece.into() }
            };
            *target = text.split('&').map(set).collect::<Vec<_>>().join("&").into();
        }
        ["target", "set", value] => *target = value.into(),
        ["auth", what, value] => {
            let changed = authorization(message.value("authorization").unwrap(), what, value);
            message.set("Authorization", &changed);
        }
        ["clock", seconds] => return seconds.parse().unwrap(),
        ref other => panic!("unknown mutation {other:?}"),
    }
    0
}

fn authorization(text: &str, what: &str, value: &str) -> String {
    let (start, signature) = text.split_at(text.find("Signature=").unwrap() + "Signature=".len());
    let scope: Vec<&str> = start.split(", ").next().unwrap().split('/').collect();
    match what {
        "drop_signed" => text.replacen(&format!("{value};"), "", 1).replacen(&format!(";{value}"), "", 1),
        "scope_date" => text.replace(scope[1], value),
        "scope_region" => text.replace(scope[2], value),
        "scope_service" => text.replace(&format!("/{}/", scope[3]), &format!("/{value}/")),
        "scope_terminator" => text.replace("aws4_request", value),
        "signature_case" => format!("{start}{}", signature.to_ascii_uppercase()),
        "signature_truncate" => format!("{start}{}", &signature[..value.parse().unwrap()]),
        other => panic!("unknown change of authorization `{other}`"),
    }
}

/// As the proxy does it: verify, then feed the body that is due, in two pieces.
fn judge(
    message: &Message,
    keys: &exeat::engine::signature::KnownKeys,
    now: Timestamp,
) -> Result<(), Refusal> {
    let mut check = message.verify(keys, now)?.due.start();
    let (first, second) = message.body.split_at(message.body.len() / 2);
    check.update(first)?;
    check.update(second)?;
    check.finish().map(drop)
}

#[test]
fn refuses_every_recorded_request_that_was_changed_after_signing() {
    let recorded = recorded();
    let file: Value = serde_json::from_str(&text("negative.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 33);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let base = recorded.iter().find(|r| case["base"] == *r.id).unwrap();
        let mut message = base.message.clone();
        judge(&message, &base.keys, RECORDED).unwrap_or_else(|e| panic!("{id} before: {e:?}"));
        let mut now = RECORDED;
        for mutation in case["mutations"].as_array().unwrap() {
            let words: Vec<&str> = mutation.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
            now.0 += mutate(&mut message, &words);
        }
        let refusal = judge(&message, &base.keys, now).expect_err(id);
        let expected = reasons(case["reject_reason"].as_str().unwrap());
        assert!(expected.contains(&refusal.reason), "{id}: {refusal:?}");
    }
}

#[test]
fn a_wrong_trailing_checksum_passes_the_signature_and_fails_the_body() {
    let stream = recorded().into_iter().find(|r| r.id == "s3-put-stream").unwrap();
    let mut message = stream.message;
    mutate(&mut message, &["body", "flip_trailer_checksum", ""]);
    let due = message.verify(&stream.keys, RECORDED).unwrap().due;
    for at in 0..=message.body.len() {
        let mut check = due.start();
        let fed = check.update(&message.body[..at]).and_then(|_| check.update(&message.body[at..]));
        let refusal = fed.and_then(|_| check.finish().map(drop)).unwrap_err();
        assert_eq!(refusal.reason, Reason::SigV4Payload, "split at {at}");
    }
}
