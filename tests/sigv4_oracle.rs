//! The verifier against AWS's own signer: what `aws-sigv4` signs verifies, and nothing that differs from it.
#![allow(clippy::unwrap_used, dead_code)] // helpers are shared with tests/sigv4.rs

#[path = "sigv4/message.rs"]
mod message;
#[path = "sigv4/signer.rs"]
mod signer;

use exeat::engine::facts::{SignatureState, Timestamp};
use exeat::engine::signature::{Reading, read};
use message::{Message, keys};
use proptest::prelude::*;
use signer::{Signer, escaped};

/// Text as it may stand in a path segment, a query or a header, ASCII controls aside.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9-]{1,8}", "[ -~]{1,12}", "[a-zé€ /+=&%~]{1,10}"]
}

/// A value without outer blanks, which no head has.
fn value() -> impl Strategy<Value = String> {
    "[!-~]([ -~]{0,20}[!-~])?"
}

fn signers() -> impl Strategy<Value = Signer> {
    let service = prop::sample::select(vec!["sts", "dynamodb", "lambda", "s3", "s3express", "s3-outposts"]);
    let region = prop::sample::select(vec!["us-east-1", "eu-central-1", "us-gov-west-1"]);
    let token = prop::option::of(Just("IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVz+="));
    // S3 Express has its own token, which this signer doesn't send.
    (service, region, token, 1_500_000_000..2_000_000_000i64, prop::option::of(1..=604_800u64)).prop_map(
        |(service, region, token, at, presign)| Signer {
            service,
            region,
            token,
            at: Timestamp(at),
            presign,
            ..Signer::default()
        },
    )
}

fn messages() -> impl Strategy<Value = Message> {
    let segments = prop::collection::vec(text(), 0..4);
    let query = prop::collection::vec((text(), text()), 0..5);
    let fields = prop::collection::vec(("x-amz-meta-[a-z]{1,3}|[a-z]{3}-[a-z]{2}", value()), 0..4);
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]);
    let body = prop::collection::vec(any::<u8>(), 0..64);
    (method, segments, query, fields, body).prop_map(|(method, segments, query, fields, body)| {
        // Dot segments are refused outside S3 before any signature.
        let segments = segments.iter().filter(|s| *s != "." && *s != "..").map(|s| escaped(s.as_bytes()));
        let mut target = format!("/{}", segments.collect::<Vec<_>>().join("/"));
        for (at, (name, value)) in query.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target += &format!("{}={}", escaped(name.as_bytes()), escaped(value.as_bytes()));
        }
        let mut message =
            Message { method: method.into(), target: target.into(), body, ..Message::default() };
        message.set("host", "service.us-east-1.amazonaws.com");
        message.set("content-length", &message.body.len().to_string());
        message.fields.extend(fields.into_iter().map(|(name, value)| (name, value.into())));
        message
    })
}

/// What a statement without `signature` lets through: verified, and the body met.
fn passes(signer: &Signer, message: &Message) -> Result<(), String> {
    let known = keys(signer.id, signer.secret, signer.token);
    let head = message.head().map_err(|e| e.to_string())?;
    let claim = match read(&head).map_err(|e| e.said)? {
        Reading::Signed(claim) => claim,
        Reading::Unsigned(auth) => return Err(auth.to_string()),
        Reading::Form => return Err("form".into()),
    };
    let body = claim.needs_body().then_some(&*message.body);
    let verdict = claim.verify(body, &known, signer.at).map_err(|e| e.said)?;
    if verdict.identity.signature != SignatureState::Verified {
        return Err(verdict.identity.signature.to_string());
    }
    let mut check = verdict.due.start();
    check.update(&message.body).and_then(|_| check.finish()).map(drop).map_err(|e| e.said)
}

/// The byte at `at` of `bytes`, exchanged for another of its kind; nothing where it is neither letter nor digit.
fn other(bytes: &mut [u8], at: prop::sample::Index) -> bool {
    let Some(byte) = (!bytes.is_empty()).then(|| &mut bytes[at.index(bytes.len())]) else { return false };
    *byte = match *byte {
        b'a'..=b'y' | b'A'..=b'Y' | b'0'..=b'8' => *byte + 1,
        b'z' => b'y',
        b'Z' => b'Y',
        b'9' => b'1',
        _ => return false,
    };
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, max_global_rejects: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_aws_signs_verifies(signer in signers(), message in messages()) {
        let signed = signer.sign(message);
        let result = passes(&signer, &signed);
        prop_assert!(result.is_ok(), "{:?}\n{}", result, String::from_utf8_lossy(&signed.wire()));
    }

    #[test]
    fn no_signed_byte_can_change(
        signer in signers(),
        message in messages(),
        place in 0..4usize,
        field in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut changed = signer.sign(message);
        let did = match place {
            0 => other(&mut changed.target, at),
            1 => {
                // The reader takes any method that is a token.
                changed.method.push('X');
                true
            }
            2 => {
                let length = changed.fields.len();
                let (name, value) = &mut changed.fields[field.index(length)];
                // Its digits are framing; a body of another length is the next case.
                name != "content-length" && other(value, at)
            }
            _ => match changed.body.len() {
                // The body of a presigned S3 request isn't signed.
                0 => false,
                length => {
                    changed.body[at.index(length)] ^= 1;
                    !(signer.service.starts_with("s3") && signer.presign.is_some())
                }
            },
        };
        prop_assume!(did);
        let result = passes(&signer, &changed);
        prop_assert!(result.is_err(), "passed\n{}", String::from_utf8_lossy(&changed.wire()));
    }

    #[test]
    fn unsigned_fields_may_come_change_and_go(signer in signers(), message in messages(), value in value()) {
        let mut signed = signer.sign(message);
        for name in ["User-Agent", "x-amzn-trace-id", "amz-sdk-request"] {
            signed.set(name, &value);
        }
        prop_assert!(passes(&signer, &signed).is_ok());
        signed.set("x-amz-user-agent", &value);
        prop_assert!(passes(&signer, &signed).is_err());
    }

    #[test]
    fn no_field_can_be_dropped_from_a_signed_request(
        signer in signers(),
        message in messages(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut signed = signer.sign(message);
        let name = signed.fields[at.index(signed.fields.len())].0.clone();
        signed.remove(&name);
        prop_assert!(passes(&signer, &signed).is_err(), "{name}");
    }

    #[test]
    fn strange_bytes_are_refused_and_never_a_panic(
        bytes in "[ -~]{0,80}",
        kind in 0..4usize,
    ) {
        let mut message = Message { method: "GET".into(), target: "/".into(), ..Message::default() };
        message.set("host", "a.amazonaws.com");
        match kind {
            0 => message.set("authorization", &format!("AWS4-HMAC-SHA256 {bytes}")),
            1 => message.set("authorization", &bytes),
            2 => message.target = format!("/?X-Amz-Algorithm=AWS4-HMAC-SHA256&{bytes}").into(),
            _ => message.target = format!("/{bytes}?{bytes}").into(),
        }
        if let Ok(head) = message.head() {
            prop_assert!(!matches!(read(&head), Ok(Reading::Signed(_))), "{bytes}");
        }
    }
}
