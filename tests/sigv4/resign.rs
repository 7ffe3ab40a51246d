//! Requests that are put in another name: what is signed for again, and what is not.

use std::time::{Duration, UNIX_EPOCH};

use exeat::engine::facts::{AccountId, PayloadOutcome, Secret, SignatureState, Timestamp};
use exeat::engine::request::RequestHead;
use exeat::engine::signature::resign::{Name, NotChunked, ResignError, Resigned, resign};
use exeat::engine::signature::{Claim, KnownKey, KnownKeys, Reading, read};
use exeat::engine::target::Authority;

use super::chunk_signer::{ChunkSigner, seed_of};
use super::message::{Message, keys, signed};
use super::requests::{captured, recorded};
use super::rules::message;
use super::signer::Signer;

const LATER: Timestamp = Timestamp(1_767_326_645);

fn ours() -> KnownKey {
    let token = Some(Secret::new(b"our/token+=="));
    KnownKey::new("ASIARZPUZDIKEXAMPLE2", Secret::new(b"our+own/secret"), token)
}

/// Verified as the client's, then put in our name for `host`.
fn anew(
    given: &Message,
    known: &KnownKeys,
    at: Timestamp,
    host: &str,
    owner: Option<&str>,
) -> Result<Resigned, ResignError> {
    let head = given.head().unwrap();
    let claim = signed(&head).unwrap();
    let body = claim.needs_body().then_some(&given.body[..]);
    let verdict = claim.verify(body, known, at).unwrap();
    let (key, host) = (ours(), Authority::parse(host, Some(443)).unwrap());
    let owner = owner.and_then(AccountId::parse);
    let name = Name { key: &key, host: &host, region: claim.scope().region, at: LATER, owner };
    resign(&head, &claim, &verdict, &name, body)
}

fn parse(resigned: &Resigned) -> RequestHead {
    RequestHead::parse(resigned.head.clone().into()).unwrap()
}

fn claim(head: &RequestHead) -> Claim<'_> {
    let Ok(Reading::Signed(claim)) = read(head) else { panic!("signed") };
    claim
}

#[test]
fn every_request_of_four_sdks_is_verified_in_our_name_and_says_the_same() {
    let mut count = 0;
    for recorded in recorded().iter().chain(&captured()).filter(|recorded| recorded.is_signed) {
        let (id, given) = (&recorded.id, &recorded.message);
        let head = given.head().unwrap();
        let before = claim(&head);
        if before.verify(Some(&given.body), &recorded.keys, recorded.at).is_err() {
            continue; // of those that must be refused
        }
        let host = before.scope().service.to_owned() + ".eu-west-1.example.com";
        let resigned = anew(given, &recorded.keys, recorded.at, &host, None)
            .unwrap_or_else(|error| panic!("{id}: {error}"));
        let after_head = parse(&resigned);
        let after = claim(&after_head);
        let body = after.needs_body().then_some(&given.body[..]);
        let verdict = after.verify(body, &KnownKeys::new([ours()]), LATER).unwrap();
        assert_eq!(verdict.identity.signature, SignatureState::Verified, "{id}");
        assert_eq!(verdict.identity.payload, before.payload(), "{id}");
        assert_eq!(
            (after.key_id(), &*after_head.authority().host.to_string()),
            (&*ours().id, &*host),
            "{id}"
        );
        assert_eq!((after_head.method(), after_head.path()), (head.method(), head.path()), "{id}");
        assert_eq!(after_head.framing(), head.framing(), "{id}");
        for (name, value) in after_head.fields() {
            let text = std::str::from_utf8(name).unwrap();
            let ours =
                ["host", "authorization", "x-amz-date", "x-amz-security-token", "x-amz-s3session-token"];
            let framing = ["content-length", "transfer-encoding"];
            if ours.contains(&text) || framing.contains(&text) {
                continue;
            }
            if text == "x-amz-content-sha256" {
                assert!(given.value(text).is_none_or(|stated| stated.as_bytes() == value), "{id}");
                continue;
            }
            assert!(before.signs(text), "{id}: `{text}` was signed by nobody");
            assert!(head.all(text).any(|sent| sent == value), "{id}: `{text}`");
        }
        // And everything that was signed is still there.
        for (name, _) in head.fields() {
            let text = std::str::from_utf8(name).unwrap().to_ascii_lowercase();
            let gone = ["host", "x-amz-date", "date", "x-amz-security-token", "content-length", "expect"];
            if before.signs(&text) && !gone.contains(&&*text) && !text.contains("token") {
                assert!(after.signs(&text), "{id}: `{text}` is lost");
            }
        }
        count += 1;
    }
    assert!(count > 110, "{count}");
}

#[test]
fn what_was_added_unsigned_is_not_signed_for() {
    let signer = Signer::default();
    let mut given = signer.sign(message("GET", "/?a=b", &[("x-tag", "signed")]));
    given.set("x-other", "slipped in");
    given.set("content-type", "text/evil");
    let resigned = anew(&given, &keys(signer.id, signer.secret, None), signer.at, "sts.test", None).unwrap();
    let head = parse(&resigned);
    assert_eq!(head.only("x-tag"), Some(&b"signed"[..]));
    assert!(!head.has("x-other") && !head.has("content-type"));
    assert!(resigned.added.is_empty());
}

#[test]
fn nothing_is_signed_for_that_was_not_verified() {
    let signer = Signer::default();
    let given = signer.sign(message("GET", "/", &[]));
    assert_eq!(
        anew(&given, &KnownKeys::default(), signer.at, "sts.test", None).unwrap_err(),
        ResignError::Unverified
    );
    // A body other than the verified one is another request.
    let mut post = message("POST", "/", &[("content-length", "5")]);
    post.body = b"hello".to_vec();
    let post = signer.sign(post);
    let head = post.head().unwrap();
    let (claim, known) = (claim(&head), keys(signer.id, signer.secret, None));
    let verdict = claim.verify(Some(b"hello"), &known, signer.at).unwrap();
    let (key, host) = (ours(), Authority::parse("sts.test", Some(443)).unwrap());
    let name = Name { key: &key, host: &host, region: "us-east-1", at: LATER, owner: None };
    assert!(resign(&head, &claim, &verdict, &name, Some(b"hello")).is_ok());
    assert_eq!(resign(&head, &claim, &verdict, &name, None).unwrap_err(), ResignError::Unsignable);
}

#[test]
fn the_owner_that_the_policy_asserts_is_signed_for_and_never_contradicted() {
    let signer = Signer::s3();
    let known = keys(signer.id, signer.secret, None);
    let owner = |fields: &[(&str, &str)], owner| {
        let given = signer.sign(message("GET", "/b/k", fields));
        anew(&given, &known, signer.at, "s3.us-east-1.amazonaws.com", owner)
    };
    const NAME: &str = "x-amz-expected-bucket-owner";
    let resigned = owner(&[], Some("123456789012")).unwrap();
    let head = parse(&resigned);
    assert_eq!((head.only_text(NAME), &resigned.added[..]), (Some("123456789012"), &[NAME][..]));
    assert!(claim(&head).signs(NAME));
    let same = owner(&[(NAME, "123456789012")], Some("123456789012")).unwrap();
    assert_eq!((parse(&same).all(NAME).count(), same.added.len()), (1, 0));
    assert_eq!(owner(&[(NAME, "210987654321")], Some("123456789012")).unwrap_err(), ResignError::Owner);
    assert!(!parse(&owner(&[], None).unwrap()).has(NAME));
    // Only S3 knows it.
    let sts = Signer::default();
    let given = sts.sign(message("GET", "/", &[]));
    let other =
        anew(&given, &keys(sts.id, sts.secret, None), sts.at, "sts.test", Some("123456789012")).unwrap();
    assert!(!parse(&other).has(NAME));
}

#[test]
fn a_presigned_url_becomes_a_header_and_keeps_its_own_parameters() {
    let signer = Signer { presign: Some(60), token: Some("theirs"), ..Signer::s3() };
    let given = signer.sign(message("GET", "/b/k?versionId=1&x-id=GetObject", &[]));
    let known = keys(signer.id, signer.secret, signer.token);
    let resigned = anew(&given, &known, signer.at, "s3.us-east-1.amazonaws.com", None).unwrap();
    let head = parse(&resigned);
    assert_eq!(head.target(), "/b/k?versionId=1&x-id=GetObject");
    assert_eq!(head.only_text("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    assert_eq!(head.only_text("x-amz-security-token"), Some("our/token+=="));
}

/// A signed upload: its head, its body, and what checks the body in the end.
fn upload(trailer: Option<(&'static str, &str)>, end: &str) -> (Message, Vec<u8>) {
    let word = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let word = if trailer.is_some() { "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" } else { word };
    let signer = Signer { payload: Some(word), ..Signer::s3() };
    let mut head = message("PUT", "/b/k", &[("content-encoding", "aws-chunked")]);
    head.set("x-amz-decoded-content-length", "11");
    if let Some((name, _)) = trailer {
        head.set("x-amz-trailer", name);
    }
    let mut head = signer.sign(head);
    let at = UNIX_EPOCH + Duration::from_secs(signer.at.0.unsigned_abs());
    let chunks = ChunkSigner { id: signer.id, secret: signer.secret, region: signer.region, at };
    let seed = seed_of(head.value("authorization").unwrap()).to_owned();
    let wire = chunks.sign(&seed, &[b"hello ", b"world"], trailer).concat();
    let text = String::from_utf8(wire).unwrap();
    let wire = if end.is_empty() { text } else { text.replacen("==\r\n", &format!("==\n{end}"), 1) };
    head.set("content-length", &wire.len().to_string());
    (head, wire.into_bytes())
}

#[test]
fn signed_chunks_get_a_chain_of_ours_in_any_split_and_keep_their_length() {
    let crc = ("x-amz-checksum-crc32", "DUoRhQ==");
    for (trailer, end) in [(None, ""), (Some(crc), ""), (Some(crc), "\r\n")] {
        let (head, wire) = upload(trailer, end);
        let known = keys(Signer::s3().id, Signer::s3().secret, None);
        for split in 1..=wire.len() {
            let mut resigned = anew(&head, &known, Signer::s3().at, "s3.test", None).unwrap();
            let mut out = Vec::new();
            for piece in wire.chunks(split) {
                resigned.body.take(piece, &mut out).unwrap();
            }
            assert!(resigned.body.is_done());
            assert_eq!(out.len(), wire.len(), "the length is what the head says");
            assert_ne!(out, wire);
            let after = parse(&resigned);
            let due = claim(&after).verify(None, &KnownKeys::new([ours()]), LATER).unwrap().due;
            let mut check = due.start();
            assert_eq!(check.update(&out).unwrap(), 0);
            assert_eq!(check.finish().unwrap(), PayloadOutcome::Matched, "{split}");
            // What the client signed holds no more.
            assert!(due.start().update(&wire).is_err());
        }
    }
}

#[test]
fn what_is_not_chunked_is_no_body_in_our_name() {
    let (head, wire) = upload(None, "");
    let known = keys(Signer::s3().id, Signer::s3().secret, None);
    for (name, from, to) in [
        ("no signature", ";chunk-signature=", ";chunk-signatur="),
        ("no size", "6;", "z;"),
        ("a huge size", "6;", "ffffffffffffffff;"),
        ("data without its end", "hello \r\n", "hello ab"),
    ] {
        let changed = String::from_utf8(wire.clone()).unwrap().replacen(from, to, 1);
        let mut body = anew(&head, &known, Signer::s3().at, "s3.test", None).unwrap().body;
        assert_eq!(body.take(changed.as_bytes(), &mut Vec::new()), Err(NotChunked), "{name}");
    }
    let mut body = anew(&head, &known, Signer::s3().at, "s3.test", None).unwrap().body;
    body.take(&wire[..20], &mut Vec::new()).unwrap();
    assert!(!body.is_done());
}
