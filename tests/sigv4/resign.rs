//! Requests that are put in another name: what is signed for again, and what is not.

use exeat::engine::facts::{AccountId, Auth, Secret, SignatureState, Timestamp};
use exeat::engine::request::RequestHead;
use exeat::engine::signature::resign::{Name, ResignError, Resigned, resign};
use exeat::engine::signature::{Algorithm, Claim, KnownKey, KnownKeys, Reading, read};
use exeat::engine::target::Authority;

use super::message::{Message, keys, signed, text, vectors};
use super::requests::{captured, recorded};
use super::rules::message;
use super::signer::Signer;

pub(super) const LATER: Timestamp = Timestamp(1_767_326_645);

pub(super) fn ours() -> KnownKey {
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
    anew_at(given, known, (at, LATER), host, owner)
}

/// The same; signed then, and then by us.
pub(super) fn anew_at(
    given: &Message,
    known: &KnownKeys,
    (then, now): (Timestamp, Timestamp),
    host: &str,
    owner: Option<&str>,
) -> Result<Resigned, ResignError> {
    let head = given.head().unwrap();
    let claim = signed(&head).unwrap();
    let body = claim.needs_body().then_some(&given.body[..]);
    let verdict = claim.verify(body, known, then).unwrap();
    let (key, host) = (ours(), Authority::parse(host, Some(443)).unwrap());
    let owner = owner.and_then(AccountId::parse);
    let name = Name { key: &key, host: &host, region: claim.scope().region, at: now, owner };
    resign(&head, &claim, &verdict, &name, body)
}

pub(super) fn parse(resigned: &Resigned) -> RequestHead {
    RequestHead::parse(resigned.head.clone().into()).unwrap()
}

pub(super) fn claim(head: &RequestHead) -> Claim<'_> {
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

/// A request of AWS's suite of version 4A, under the suite's key.
fn suite_4a(folder: &str, form: &str) -> (Message, KnownKeys, Timestamp) {
    let given = Message::parse(&text(&format!("v4a/{folder}/{form}-signed-request.txt")));
    let context: serde_json::Value =
        serde_json::from_str(&text(&format!("v4a/{folder}/context.json"))).unwrap();
    let part = |name: &str| context["credentials"][name].as_str();
    let known = keys(part("access_key_id").unwrap(), part("secret_access_key").unwrap(), part("token"));
    (given, known, Timestamp(1_440_938_160))
}

#[test]
fn version_4a_stays_version_4a_for_the_regions_that_the_client_named() {
    let mut count = 0;
    for folder in std::fs::read_dir(vectors("v4a")).unwrap() {
        let folder = folder.unwrap().file_name().into_string().unwrap();
        for form in ["header", "query"] {
            let (given, known, at) = suite_4a(&folder, form);
            if given.head().is_err() || given.verify(&known, at).is_err() {
                continue; // of those that must be refused
            }
            let name = format!("{folder} ({form})");
            let resigned = anew(&given, &known, at, "service.eu-west-1.example.com", None)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let head = parse(&resigned);
            let (after, before) = (claim(&head), given.head().unwrap());
            assert_eq!((after.auth(), after.algorithm()), (Auth::SigV4a, Algorithm::Ecdsa), "{name}");
            assert!(after.regions().eq(claim(&before).regions()), "{name}");
            assert_eq!(after.key_id(), &*ours().id, "{name}");
            assert_eq!((head.method(), head.path()), (before.method(), before.path()), "{name}");
            let body = after.needs_body().then_some(&given.body[..]);
            let verdict = after.verify(body, &KnownKeys::new([ours()]), LATER).unwrap();
            assert_eq!(verdict.identity.signature, SignatureState::Verified, "{name}");
            // Nobody else's key would do, nor another region set.
            let other = KnownKeys::new([KnownKey::new(&ours().id, Secret::new(b"other"), ours().token)]);
            assert!(after.verify(body, &other, LATER).is_err(), "{name}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
    let (given, known, at) = suite_4a("get-vanilla", "header");
    let resigned = anew(&given, &known, at, "service.test", None).unwrap();
    let text = String::from_utf8(resigned.head).unwrap();
    let wider = text.replacen("x-amz-region-set: us-east-1", "x-amz-region-set: *", 1);
    assert_ne!(wider, text);
    let head = RequestHead::parse(wider.into()).unwrap();
    assert!(claim(&head).verify(None, &KnownKeys::new([ours()]), LATER).is_err());
}
