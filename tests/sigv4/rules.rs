//! Each rule of the verifier: what passes, and the nearest request that must not.

use exeat::engine::facts::{AccountId, Auth, Secret, SignatureState, Timestamp};
use exeat::engine::reason::Reason;
use exeat::engine::signature::{Clock, KnownKey, KnownKeys, PayloadClaim, Reading, Refusal, read};

use super::message::{Message, keys, signed};
use super::signer::Signer;

pub fn message(method: &str, target: &str, fields: &[(&str, &str)]) -> Message {
    let mut message = Message { method: method.into(), target: target.into(), ..Message::default() };
    message.set("host", "sts.us-east-1.amazonaws.com");
    message.fields.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    message
}

/// The signer's key, with its token.
pub fn keys_of(signer: &Signer) -> KnownKeys {
    keys(signer.id, signer.secret, signer.token)
}

pub fn verify(signer: &Signer, message: &Message) -> Result<(), Refusal> {
    message.verify(&keys_of(signer), signer.at).map(|verdict| {
        assert_eq!(verdict.identity.signature, SignatureState::Verified);
    })
}

pub fn reason(result: Result<(), Refusal>) -> Reason {
    result.expect_err("a refusal").reason
}

/// What `read` says of a head: a kind of `auth`, or why it is refused.
pub fn reading(message: &Message) -> Result<Auth, Reason> {
    let head = message.head().unwrap();
    match read(&head) {
        Ok(Reading::Unsigned(auth)) => Ok(auth),
        Ok(Reading::Signed(claim)) => Ok(claim.auth()),
        Ok(Reading::Form) => Ok(Auth::PostForm),
        Err(refusal) => Err(refusal.reason),
    }
}

#[test]
fn names_what_is_not_signature_version_4() {
    for (value, expected) in [
        ("Bearer abc", Ok(Auth::Bearer)),
        ("bearer abc", Ok(Auth::Bearer)),
        ("Basic QTpC", Ok(Auth::Basic)),
        ("Negotiate x", Ok(Auth::Token)),
        ("opaque", Ok(Auth::Token)),
        ("AWS AKID:c2ln", Err(Reason::SigV4Version2)),
        ("aws AKID:c2ln", Err(Reason::SigV4Version2)),
        ("AWS3-HTTPS AWSAccessKeyId=AKID", Err(Reason::SigV4Malformed)),
        ("aws4-hmac-sha256 Credential=x", Err(Reason::SigV4Malformed)),
        ("AWS4-HMAC-SHA512 Credential=x", Err(Reason::SigV4Malformed)),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", Err(Reason::SigV4Malformed)),
        ("AWS4-HMAC-SHA256", Err(Reason::SigV4Malformed)),
        ("", Err(Reason::SigV4Malformed)),
    ] {
        assert_eq!(reading(&message("GET", "/", &[("Authorization", value)])), expected, "{value}");
    }
    assert_eq!(reading(&message("GET", "/?a=100%", &[])), Ok(Auth::None));
    assert_eq!(reading(&message("GET", "/", &[("x-amz-sso_bearer_token", "t")])), Ok(Auth::Token));
    let v2 = "/?AWSAccessKeyId=AKID&Signature=c2ln&Expires=1";
    assert_eq!(reading(&message("GET", v2, &[])), Err(Reason::SigV4Version2));
}

#[test]
fn an_s3_form_upload_is_signed_in_its_body_alone_and_other_forms_are_none() {
    let mut form = message("POST", "/", &[("Content-Type", "multipart/form-data; boundary=x")]);
    assert_eq!(reading(&form), Ok(Auth::None));
    for host in ["b.s3.us-east-1.amazonaws.com", "s3.amazonaws.com", "b.s3-accelerate.amazonaws.com"] {
        form.set("host", host);
        assert_eq!(reading(&form), Ok(Auth::PostForm), "{host}");
        for presign in [None, Some(60)] {
            let both = Signer { presign, ..Signer::s3() }.sign(form.clone());
            assert_eq!(reading(&both), Err(Reason::SigV4TwoForms), "{host}");
        }
        let mut more = form.clone();
        more.set("authorization", "Bearer x");
        assert_eq!(reading(&more), Err(Reason::SigV4TwoForms));
        let mut more = form.clone();
        more.set("X-Amz-Acl", "public-read");
        assert_eq!(reading(&more), Err(Reason::SigV4UnsignedHeader));
    }
}

#[test]
fn refuses_two_forms_at_once_in_any_spelling() {
    for query in
        ["X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Signature=", "X-Amz-Security-Token=t", "X-Amz-Date"]
    {
        for value in ["Bearer x", "AWS4-HMAC-SHA256 Credential=x", ""] {
            let both = message("GET", &format!("/?{query}"), &[("Authorization", value)]);
            assert_eq!(reading(&both), Err(Reason::SigV4TwoForms), "{query} {value}");
        }
    }
    // Spelt another way, it is refused with or without the other form.
    for query in ["x-amz-algorithm=A", "X-AMZ-CREDENTIAL=A", "%58-Amz-Credential=A", "X%2DAmz-Date=A"] {
        for fields in [&[][..], &[("Authorization", "Bearer x")]] {
            let other = message("GET", &format!("/?{query}"), fields);
            assert_eq!(reading(&other), Err(Reason::SigV4Malformed), "{query}");
        }
    }
}

#[test]
fn reads_authorization_by_one_grammar() {
    let signer = Signer::default();
    let good = signer.sign(message("GET", "/", &[]));
    verify(&signer, &good).unwrap();
    let value = good.value("authorization").unwrap().to_owned();
    let with = |value: &str| {
        let mut changed = good.clone();
        changed.set("authorization", value);
        verify(&signer, &changed)
    };
    with(&value.replace(", ", ",")).unwrap();
    with(&value.replace(", ", " ,  ")).unwrap();
    for (changed, why) in [
        (value.replace("SignedHeaders=", "signedheaders="), "key in lower case"),
        (value.replace(", Signature", ", X=1, Signature"), "a fourth key"),
        (value.replace(", Signature", " Signature"), "no comma"),
        (format!("{value}, Signature=00"), "a key twice"),
        (format!("{value},"), "an empty key"),
        (value.replace("Signature=", "Signature= "), "a blank before the value"),
        (value.replace("host;x-amz-date", "x-amz-date;host"), "unsorted"),
        (value.replace("host;x-amz-date", "host;host;x-amz-date"), "twice"),
        (value.replace("host;x-amz-date", "Host;x-amz-date"), "upper case"),
        (value.replace("host;x-amz-date", "accept;host;x-amz-date"), "a field that isn't there"),
    ] {
        assert_eq!(reason(with(&changed)), Reason::SigV4Malformed, "{why}");
    }
    for end in 0..value.len() {
        assert!(!matches!(reading_of(&good, &value[..end]), Ok(Auth::SigV4)), "{}", &value[..end]);
    }
}

fn reading_of(message: &Message, authorization: &str) -> Result<Auth, Reason> {
    let mut changed = message.clone();
    changed.set("authorization", authorization);
    reading(&changed)
}

#[test]
fn refuses_a_field_that_the_claim_rests_on_when_it_is_sent_twice() {
    let signer = Signer { token: Some("t"), ..Signer::s3() };
    let good = signer.sign(message("GET", "/", &[]));
    verify(&signer, &good).unwrap();
    for name in ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"] {
        let mut twice = good.clone();
        let value = good.value(name).unwrap().into();
        twice.fields.push((name.to_ascii_uppercase(), value));
        assert_eq!(reading(&twice), Err(Reason::SigV4Malformed), "{name}");
    }
}

#[test]
fn every_x_amz_field_must_be_signed_and_no_other() {
    for signer in [Signer::default(), Signer::s3()] {
        let good = signer.sign(message("GET", "/", &[]));
        for (name, refused) in [
            ("X-Amz-Acl", true),
            ("x-amz-meta-a", true),
            ("x-amz-", true),
            ("x-amzn-trace-id", false),
            ("x-am", false),
            ("amz-sdk-request", false),
        ] {
            let mut more = good.clone();
            more.set(name, "1");
            let result = verify(&signer, &more);
            assert_eq!(result.is_err(), refused, "{name}");
            if refused {
                assert_eq!(reason(result), Reason::SigV4UnsignedHeader, "{name}");
            }
        }
    }
}

#[test]
fn a_signed_field_that_stays_on_this_connection_is_refused() {
    let signer = Signer::default();
    let length = [("content-length", "0"), ("accept-encoding", "identity"), ("user-agent", "go")];
    verify(&signer, &signer.sign(message("POST", "/", &length))).unwrap();
    for field in [("te", "trailers"), ("connection", "close"), ("transfer-encoding", "chunked")] {
        let signed_field = signer.sign(message("POST", "/", &[field]));
        assert_eq!(reason(verify(&signer, &signed_field)), Reason::SigV4Malformed, "{field:?}");
    }
    let mut named_away = signer.sign(message("POST", "/", &[("x-own", "1")]));
    verify(&signer, &named_away).unwrap();
    named_away.set("connection", "x-own");
    assert_eq!(reason(verify(&signer, &named_away)), Reason::SigV4Malformed);
}

#[test]
fn the_session_token_must_be_the_keys_own() {
    let temporary = Signer { token: Some("Tok1"), ..Signer::default() };
    let forms = [None, Some(60)];
    for presign in forms {
        let sign = |token| Signer { token, presign, ..Signer::default() }.sign(message("GET", "/", &[]));
        let known = keys_of(&temporary);
        let judge = |token| sign(token).verify(&known, temporary.at).map(drop);
        judge(Some("Tok1")).unwrap();
        for token in [None, Some("Tok2"), Some("Tok"), Some("Tok11")] {
            assert_eq!(reason(judge(token)), Reason::SigV4Token, "{token:?}");
        }
        let without = keys(temporary.id, temporary.secret, None);
        let refusal = sign(Some("Tok1")).verify(&without, temporary.at).unwrap_err();
        assert_eq!(refusal.reason, Reason::SigV4Token);
        assert!(!refusal.said.contains("Tok1"), "{refusal:?}");
    }
}

#[test]
fn an_s3_express_token_counts_for_s3_express_only() {
    let field = [("x-amz-s3session-token", "express")];
    let express = Signer { service: "s3express", ..Signer::default() };
    let known = keys(express.id, express.secret, Some("express"));
    express.sign(message("GET", "/k", &field)).verify(&known, express.at).unwrap();
    let other = [("x-amz-s3session-token", "other")];
    let judge = |signer: &Signer, fields| {
        reason(signer.sign(message("GET", "/k", fields)).verify(&known, signer.at).map(drop))
    };
    assert_eq!(judge(&express, &other), Reason::SigV4Token);
    assert_eq!(judge(&Signer::s3(), &field), Reason::SigV4Token);
    assert_eq!(judge(&Signer { token: Some("express"), ..express.clone() }, &field), Reason::SigV4Token);
}

#[test]
fn an_s3_path_may_be_sent_raw_where_it_was_signed_escaped_but_never_with_a_plus() {
    let signer = Signer::s3();
    let sent_as = |signed: &str, sent: &str| {
        let mut message = signer.sign(message("GET", signed, &[]));
        message.target = sent.into();
        verify(&signer, &message)
    };
    for (signed, sent) in [
        ("/a%21b%28%29", "/a!b()"),
        ("/%C3%A9", "/%c3%a9"),
        ("/a/../b//c", "/a/../b//c"),
        ("/a%2Bb", "/a%2Bb"),
        ("/a%2Fb", "/a%2Fb"),
    ] {
        sent_as(signed, sent).unwrap_or_else(|e| panic!("{sent}: {e:?}"));
    }
    for (signed, sent, expected) in [
        ("/a%2Bb", "/a+b", Reason::SigV4Path),
        ("/a", "/a%", Reason::SigV4Path),
        ("/a!b", "/a%2521b", Reason::SigV4Signature),
        ("/a//b", "/a/b", Reason::SigV4Signature),
        ("/b", "/a/../b", Reason::SigV4Signature),
    ] {
        assert_eq!(reason(sent_as(signed, sent)), expected, "{sent}");
    }
    // Elsewhere the path is what it is.
    let other = Signer::default();
    let mut raw = other.sign(message("GET", "/a%21b", &[]));
    verify(&other, &raw).unwrap();
    raw.target = "/a!b".into();
    assert_eq!(reason(verify(&other, &raw)), Reason::SigV4Signature);
}

#[test]
fn the_clock_may_differ_by_fifteen_minutes_and_presigned_requests_end_at_their_second() {
    let judge = |signer: &Signer, seconds: i64| {
        let message = signer.sign(message("GET", "/", &[]));
        message.verify(&keys_of(signer), Timestamp(signer.at.0 + seconds)).map(drop)
    };
    // Also across midnight, where the scope has another day than the clock.
    let midnight = Timestamp(1_767_312_000 - 1);
    for signer in [Signer::default(), Signer { at: midnight, ..Signer::default() }] {
        for seconds in [-900, 0, 900] {
            judge(&signer, seconds).unwrap();
        }
        for seconds in [-901, 901] {
            assert_eq!(reason(judge(&signer, seconds)), Reason::SigV4Skew);
        }
    }
    let presigned = Signer { presign: Some(2000), ..Signer::default() };
    for seconds in [-900, 0, 2000] {
        judge(&presigned, seconds).unwrap();
    }
    assert_eq!(reason(judge(&presigned, -901)), Reason::SigV4Skew);
    assert_eq!(reason(judge(&presigned, 2001)), Reason::SigV4Expired);
    judge(&Signer { presign: Some(604_800), ..Signer::default() }, 0).unwrap();
    let long = Signer { presign: Some(604_800), ..Signer::default() };
    for expires in ["0", "604801", "-1", "1e3", ""] {
        let mut message = long.sign(message("GET", "/", &[]));
        let target = String::from_utf8(message.target).unwrap();
        message.target = target.replace("604800", expires).into();
        assert_eq!(reason(verify(&long, &message)), Reason::SigV4Malformed, "{expires}");
    }
}

#[test]
fn the_clock_may_be_held_closer() {
    let judge = |signer: &Signer, seconds: i64| {
        let message = signer.sign(message("GET", "/", &[]));
        let clock = Clock { now: Timestamp(signer.at.0 + seconds), max_skew: 300 };
        message.verify(&keys_of(signer), clock).map(|verdict| verdict.mark)
    };
    let presigned = Signer { presign: Some(2000), ..Signer::default() };
    for seconds in [-300, 0, 300] {
        assert_ne!(judge(&Signer::default(), seconds).unwrap(), 0, "it is known again");
        assert_eq!(judge(&presigned, seconds).unwrap(), 0, "it may come again");
    }
    for (signer, seconds) in [(&Signer::default(), -301), (&Signer::default(), 301), (&presigned, -301)] {
        assert_eq!(judge(signer, seconds).unwrap_err().reason, Reason::SigV4Skew);
    }
    // Its own end counts, not the skew.
    judge(&presigned, 2000).unwrap();
}

#[test]
fn a_date_that_was_changed_is_a_bad_signature_and_no_wrong_clock() {
    let signer = Signer::default();
    let mut message = signer.sign(message("GET", "/", &[]));
    let later = |seconds: i64| Timestamp(signer.at.0 + seconds);
    assert_eq!(reason(message.verify(&keys_of(&signer), later(7200)).map(drop)), Reason::SigV4Skew);
    message.set("x-amz-date", "20260102T050405Z");
    assert_eq!(reason(message.verify(&keys_of(&signer), later(0)).map(drop)), Reason::SigV4Signature);
    // Under a key that we don't know the date is all there is to judge.
    let unknown = message.verify(&KnownKeys::default(), later(0));
    assert_eq!(reason(unknown.map(drop)), Reason::SigV4Skew);
}

#[test]
fn without_x_amz_date_a_signed_date_of_the_same_form_counts() {
    use exeat::engine::signature::{Algorithm, string_to_sign};
    use exeat::engine::signature::{Parts, PathForm, Query, Scope, SignedFields, SigningKey};
    let signer = Signer::default();
    let sign = |names: &str, date: &str| {
        let mut message = message("GET", "/", &[("date", date)]);
        let scope = Scope { date: "20260102", region: "us-east-1", service: "sts" };
        let fields = message.fields.iter().map(|(name, value)| (name.as_bytes(), &**value));
        let fields = SignedFields::gather(names.into(), fields, |_, _| Ok(())).unwrap();
        let parts = Parts { method: "GET", path: b"/", query: Query::default(), fields };
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let canonical = parts.text(PathForm::EncodedAgain, empty.as_bytes());
        let key = SigningKey::derive(&Secret::new(signer.secret.as_bytes()), &scope);
        let signature =
            super::message::hex(&key.sign(&string_to_sign(Algorithm::Hmac, date, &scope, &canonical)));
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260102/us-east-1/sts/aws4_request, SignedHeaders={names}, \
             Signature={signature}",
            signer.id
        );
        message.set("authorization", &value);
        verify(&signer, &message)
    };
    sign("date;host", "20260102T030405Z").unwrap();
    assert_eq!(reason(sign("host", "20260102T030405Z")), Reason::SigV4UnsignedHeader);
    assert_eq!(reason(sign("date;host", "Fri, 02 Jan 2026 03:04:05 GMT")), Reason::SigV4Malformed);
}

#[test]
fn a_stated_digest_is_honoured_for_every_service() {
    let digest = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    for service in ["glacier", "s3"] {
        let signer = Signer { payload: Some(digest), service, ..Signer::default() };
        let mut message = signer.sign(self::message("PUT", "/a", &[("content-length", "21")]));
        message.body = b"Welcome to Amazon S3.".into();
        let head = message.head().unwrap();
        assert!(!signed(&head).unwrap().needs_body(), "{service}");
        let mut check = message.verify(&keys_of(&signer), signer.at).unwrap().due.start();
        check.update(&message.body[1..]).unwrap();
        assert_eq!(check.finish().unwrap_err().reason, Reason::SigV4Payload, "{service}");

        // No body, but the digest of one.
        let empty = signer.sign(self::message("PUT", "/a", &[("content-length", "0")]));
        assert_eq!(reason(verify(&signer, &empty)), Reason::SigV4Payload, "{service}");
    }
}

#[test]
fn a_body_that_the_signature_covers_must_be_shown() {
    let signer = Signer::default();
    let mut message = message("POST", "/", &[("content-length", "1")]);
    message.body = b"x".into();
    let message = signer.sign(message);
    let head = message.head().unwrap();
    let claim = signed(&head).unwrap();
    assert!(claim.needs_body());
    let due = claim.verify(Some(b"x"), &keys_of(&signer), signer.at).unwrap().due;
    assert!(matches!(due, PayloadClaim::Met));
    let refusal = claim.verify(None, &keys_of(&signer), signer.at).unwrap_err();
    assert_eq!(refusal.reason, Reason::Internal);
    // Under a key that we don't know there is nothing to compare.
    let unknown = claim.verify(None, &KnownKeys::default(), signer.at).unwrap();
    assert!(matches!(unknown.due, PayloadClaim::Nothing));
}

#[test]
fn the_verdict_names_the_signer_as_the_keys_source_does() {
    let signer = Signer { id: "AKIARZPUZDIKAAAAAAAA", ..Signer::default() };
    let message = signer.sign(message("GET", "/", &[]));
    let mut key = KnownKey::new(signer.id, Secret::new(signer.secret.as_bytes()), None);
    key.role = Some("deploy".into());
    let verdict = message.verify(&KnownKeys::new([key]), signer.at).unwrap();
    let known = verdict.identity.signer.unwrap();
    assert_eq!((known.account, known.own), (AccountId::parse("123456789012"), true));
    assert_eq!(known.role.as_deref(), Some("deploy"));

    let verdict = message.verify(&KnownKeys::default(), signer.at).unwrap();
    let unknown = verdict.identity.signer.unwrap();
    assert_eq!((unknown.account, unknown.own), (AccountId::parse("123456789012"), false));
}

#[test]
fn a_remembered_signing_key_serves_no_other_scope_and_no_other_signature() {
    let signer = Signer::default();
    let known = keys_of(&signer);
    let good = signer.sign(message("GET", "/", &[]));
    for _ in 0..2 {
        good.verify(&known, signer.at).unwrap();
        let mut bad = good.clone();
        bad.target = "/other".into();
        assert_eq!(bad.verify(&known, signer.at).unwrap_err().reason, Reason::SigV4Signature);
        let other = Signer { region: "eu-west-1", ..signer.clone() };
        other.sign(message("GET", "/", &[])).verify(&known, signer.at).unwrap();
    }
}
