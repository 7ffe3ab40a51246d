//! The S3 documentation's examples, and requests as botocore puts them on the wire.

use exeat::engine::facts::{Auth, PayloadOutcome, PayloadState, Secret, SignatureState, Timestamp};
use exeat::engine::signature::{KnownKeys, PathForm, PayloadClaim, Reading, Scope, SigningKey, read};
use serde_json::Value;

use super::message::{Message, hex, keys, signed, text, vectors};

/// 2013-05-24T00:00:00Z, the documentation's clock.
const DOCUMENTED: Timestamp = Timestamp(1_369_353_600);
/// 2026-01-02T03:04:05Z, the recorded requests' clock.
pub const RECORDED: Timestamp = Timestamp(1_767_323_045);

/// A request that an SDK made.
pub struct Recorded {
    pub id: String,
    /// When.
    pub at: Timestamp,
    pub message: Message,
    pub keys: KnownKeys,
    pub is_signed: bool,
    /// All that its file says.
    pub facts: Value,
}

pub fn recorded() -> Vec<Recorded> {
    let lines = std::fs::read_to_string(vectors("botocore-requests.jsonl")).unwrap();
    lines.lines().map(|line| recorded_from(serde_json::from_str(line).unwrap())).collect()
}

/// Requests of the AWS SDKs for Python, JavaScript, Go and Java, as they came through.
pub fn captured() -> Vec<Recorded> {
    ["boto3", "javascript", "go", "java"].into_iter().flat_map(|client| came_through(client, 14)).collect()
}

/// Event streams of the SDKs that send some.
pub fn streams() -> Vec<Recorded> {
    ["go-events", "javascript-events"].into_iter().flat_map(|client| came_through(client, 1)).collect()
}

fn came_through(client: &str, count: usize) -> Vec<Recorded> {
    let lines = std::fs::read_to_string(vectors(&format!("../captured/{client}.jsonl"))).unwrap();
    let all: Vec<_> = lines.lines().map(|line| recorded_from(serde_json::from_str(line).unwrap())).collect();
    assert_eq!(all.len(), count, "{client}");
    all
}

fn recorded_from(facts: Value) -> Recorded {
    use base64::Engine as _;
    let body = facts["body_b64"].as_str().unwrap();
    let message = Message {
        method: string(&facts, "method"),
        target: string(&facts, "target").into(),
        fields: fields(&facts["headers"]),
        body: base64::engine::general_purpose::STANDARD.decode(body).unwrap(),
    };
    let (id, secret) = (string(&facts, "access_key_id"), string(&facts, "secret_access_key"));
    Recorded {
        id: string(&facts, "id"),
        at: facts["at"].as_i64().map_or(RECORDED, Timestamp),
        message,
        keys: keys(&id, &secret, facts["session_token"].as_str()),
        is_signed: facts["expect"] == "valid",
        facts,
    }
}

fn string(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}")).to_owned()
}

fn fields(list: &Value) -> Vec<(String, Vec<u8>)> {
    let pair = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().into());
    list.as_array().unwrap().iter().map(pair).collect()
}

#[test]
fn derives_the_documented_signing_keys() {
    use aws_lc_rs::hmac;
    let examples: Value = serde_json::from_str(&text("s3-doc-examples.json")).unwrap();
    for example in examples["signing_keys"].as_array().unwrap() {
        let part = |name: &str| string(example, name);
        let (date, region, service) = (part("date"), part("region"), part("service"));
        let scope = Scope { date: &date, region: &region, service: &service };
        let ours = SigningKey::derive(&Secret::new(part("secret").as_bytes()), &scope).sign(b"any text");
        let published = part("signing_key_hex");
        let published: Vec<u8> =
            (0..64).step_by(2).map(|n| u8::from_str_radix(&published[n..n + 2], 16).unwrap()).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &published);
        assert_eq!(hmac::sign(&key, b"any text").as_ref(), ours, "{example}");
    }
}

#[test]
fn verifies_the_examples_of_the_s3_documentation() {
    let examples: Value = serde_json::from_str(&text("s3-doc-examples.json")).unwrap();
    let keys = keys(&string(&examples, "access_key_id"), &string(&examples, "secret_access_key"), None);
    for example in examples["requests"].as_array().unwrap() {
        let id = string(example, "id");
        let mut message = Message {
            method: string(example, "method"),
            target: string(example, "target").into(),
            fields: fields(&example["headers"]),
            body: string(example, "body_utf8").into(),
        };
        message.set("content-length", &message.body.len().to_string());
        let head = message.head().unwrap();
        let claim = signed(&head).unwrap_or_else(|e| panic!("{id}: {e:?}"));
        let canonical = claim.canonical_request(PathForm::AsSent, Some(&message.body)).unwrap();
        assert_eq!(String::from_utf8_lossy(&canonical), string(example, "canonical_request"), "{id}");
        let secret = Secret::new(string(&examples, "secret_access_key").as_bytes());
        let signature = SigningKey::derive(&secret, claim.scope()).sign(&claim.string_to_sign(&canonical));
        assert_eq!(hex(&signature), string(example, "signature"), "{id}");
        let verdict = message.verify(&keys, DOCUMENTED).unwrap_or_else(|e| panic!("{id}: {e:?}"));
        let mut check = verdict.due.start();
        check.update(&message.body).unwrap();
        let matched = check.finish().unwrap() == PayloadOutcome::Matched;
        assert_eq!(matched, id != "presigned-get", "{id}");
    }
}

#[test]
fn verifies_every_request_that_botocore_signs_and_its_body() {
    let mut seen = 0;
    for Recorded { id, message, keys, is_signed, facts, .. } in recorded() {
        let head = message.head().unwrap_or_else(|e| panic!("{id}: {e}"));
        if !is_signed {
            assert!(matches!(read(&head), Ok(Reading::Unsigned(Auth::None))), "{id}");
            continue;
        }
        seen += 1;
        let claim = signed(&head).unwrap_or_else(|e| panic!("{id}: {e:?}"));
        let scope = claim.scope();
        let said = format!("{}/{}/{}/aws4_request", scope.date, scope.region, scope.service);
        assert_eq!(said, string(&facts, "credential_scope"), "{id}");
        let names = facts["signed_headers"].as_array().unwrap();
        assert!(names.iter().all(|name| claim.signs(name.as_str().unwrap())), "{id}");
        let form = if scope.is_s3() { PathForm::AsSent } else { PathForm::EncodedAgain };
        let canonical = claim.canonical_request(form, Some(&message.body)).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &canonical);
        assert_eq!(hex(digest.as_ref()), string(&facts, "canonical_request_sha256"), "{id}");
        // Only a body whose digest no header states is needed up front.
        let is_stated = message.value("x-amz-content-sha256").is_some() || id.starts_with("s3-presign");
        assert_eq!(claim.needs_body(), !is_stated && !message.body.is_empty(), "{id}");

        let verdict = message.verify(&keys, RECORDED).unwrap_or_else(|e| panic!("{id}: {e:?}"));
        let identity = verdict.identity;
        let auth = if id.contains("presign") { Auth::Presigned } else { Auth::SigV4 };
        assert_eq!((identity.auth, identity.signature), (auth, SignatureState::Verified), "{id}");
        let (payload, outcome) = match string(&facts, "payload_hash").as_str() {
            "UNSIGNED-PAYLOAD" => (PayloadState::Unsigned, PayloadOutcome::Unchecked),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => (PayloadState::Checksum, PayloadOutcome::Matched),
            _ => (PayloadState::Signed, PayloadOutcome::Matched),
        };
        assert_eq!(identity.payload, payload, "{id}");
        for at in 0..=message.body.len() {
            let mut check = verdict.due.start();
            check.update(&message.body[..at]).unwrap();
            check.update(&message.body[at..]).unwrap();
            assert_eq!(check.finish().unwrap(), outcome, "{id} split at {at}");
        }
    }
    assert_eq!(seen, 71);
}

#[test]
fn a_key_we_do_not_know_is_named_not_refused_and_all_else_must_be_in_order() {
    for Recorded { id, message, keys, is_signed, .. } in recorded() {
        if !is_signed {
            continue;
        }
        let verdict = message.verify(&KnownKeys::default(), RECORDED).unwrap();
        assert_eq!(verdict.identity.signature, SignatureState::UnknownKey, "{id}");
        let signer = verdict.identity.signer.unwrap();
        assert_eq!(&*signer.key_id, &*keys.iter().next().unwrap().id, "{id}");
        assert!(!signer.own && signer.role.is_none(), "{id}");
        let late = Timestamp(RECORDED.0 + 1000);
        assert!(message.verify(&KnownKeys::default(), late).is_err(), "{id}");
    }
}

#[test]
fn a_whole_body_given_to_the_verifier_settles_the_payload() {
    for Recorded { id, message, keys, is_signed, .. } in recorded() {
        if !is_signed || message.body.is_empty() {
            continue;
        }
        let head = message.head().unwrap();
        let claim = signed(&head).unwrap();
        let due = claim.verify(Some(&message.body), &keys, RECORDED).unwrap().due;
        let unsigned = claim.payload() == PayloadState::Unsigned;
        assert!(
            matches!((unsigned, due), (true, PayloadClaim::Nothing) | (false, PayloadClaim::Met)),
            "{id}"
        );
        let mut other = message.body.clone();
        *other.first_mut().unwrap() ^= 1;
        assert_eq!(claim.verify(Some(&other), &keys, RECORDED).is_ok(), unsigned, "{id}");
    }
}
