//! Rules of the query form.

use exeat::engine::facts::{PayloadOutcome, PayloadState};
use exeat::engine::reason::Reason;
use exeat::engine::signature::PayloadClaim;

use super::rules::{keys_of, message, reading, reason, verify};
use super::signer::Signer;

#[test]
fn a_presigned_request_takes_date_and_token_from_its_query_alone() {
    let signer = Signer { presign: Some(60), ..Signer::default() };
    let good = signer.sign(message("GET", "/", &[]));
    verify(&signer, &good).unwrap();
    for (name, value) in [("x-amz-date", "20260102T030405Z"), ("x-amz-security-token", "t")] {
        let mut both = good.clone();
        both.set(name, value);
        assert_eq!(reason(verify(&signer, &both)), Reason::SigV4TwoForms, "{name}");
    }
    for name in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"] {
        let target = String::from_utf8(good.target.clone()).unwrap();
        let mut missing = good.clone();
        missing.target = target.replace(&format!("X-Amz-{name}="), "other=").into();
        assert_eq!(reading(&missing), Err(Reason::SigV4Malformed), "{name}");
    }
}

#[test]
fn a_presigned_s3_request_may_state_its_payload_in_the_query_or_in_a_signed_header() {
    let signer = Signer { presign: Some(60), ..Signer::s3() };
    let hoisted = signer.sign(message("PUT", "/k?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", &[]));
    verify(&signer, &hoisted).unwrap();

    let digest = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let stating = Signer { payload: Some(digest), ..signer.clone() };
    let fields = [("x-amz-content-sha256", digest), ("content-length", "21")];
    let stated = stating.sign(message("PUT", "/k", &fields));
    let verdict = stated.verify(&keys_of(&stating), stating.at).unwrap();
    assert!(matches!(verdict.due, PayloadClaim::Sha256(_)));
    assert_eq!(verdict.identity.payload, PayloadState::Signed);

    let twice = stating.sign(message("PUT", "/k?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", &fields));
    assert_eq!(reason(verify(&stating, &twice)), Reason::SigV4TwoForms);
    let elsewhere = Signer { presign: Some(60), ..Signer::default() };
    let message = elsewhere.sign(message("GET", "/?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", &[]));
    assert_eq!(reason(verify(&elsewhere, &message)), Reason::SigV4TwoForms);
}

#[test]
fn a_presigned_query_gives_no_x_amz_parameter_twice() {
    let signer = Signer { presign: Some(60), ..Signer::s3() };
    verify(&signer, &signer.sign(message("PUT", "/k?x-amz-acl=private&a=1&a=2", &[]))).unwrap();
    let twice = signer.sign(message("PUT", "/k?x-amz-acl=private&X-Amz-Acl=public-read", &[]));
    assert_eq!(reason(verify(&signer, &twice)), Reason::SigV4Malformed);
}

#[test]
fn a_token_that_comes_after_the_signature_counts_for_iot_alone() {
    let token = "Tok+1/=";
    for (service, ok) in [("iotdevicegateway", true), ("iotdata", false), ("sts", false)] {
        let plain = Signer { presign: Some(60), service, ..Signer::default() };
        let mut message = plain.sign(message("GET", "/mqtt", &[]));
        message
            .target
            .extend(format!("&X-Amz-Security-Token={}", super::signer::escaped(token.as_bytes())).bytes());
        let known = super::message::keys(plain.id, plain.secret, Some(token));
        let judged = message.verify(&known, plain.at).map(drop);
        if ok {
            judged.unwrap();
            let other = super::message::keys(plain.id, plain.secret, Some("Tok2"));
            assert_eq!(reason(message.verify(&other, plain.at).map(drop)), Reason::SigV4Token);
        } else {
            assert_eq!(reason(judged), Reason::SigV4Signature, "{service}");
        }
    }
}

#[test]
fn of_a_websocket_the_signature_says_nothing_of_what_travels() {
    const ASKS: [(&str, &str); 4] = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let target = "/stream-transcription-websocket?language-code=en-US&media-encoding=pcm&sample-rate=8000";
    for presign in [Some(300), None] {
        let signer = Signer { presign, service: "transcribe", ..Signer::default() };
        // What asks for it is not signed, as no client signs it.
        let plain = signer.sign(message("GET", target, &[]));
        let mut asking = plain.clone();
        asking.fields.extend(ASKS.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
        let payload = |message: &super::message::Message| {
            let verdict = message.verify(&keys_of(&signer), signer.at).unwrap();
            let outcome = verdict.due.start().finish().unwrap();
            (verdict.identity.payload, outcome)
        };
        assert_eq!(payload(&plain), (PayloadState::Signed, PayloadOutcome::Matched));
        assert_eq!(payload(&asking), (PayloadState::Unsigned, PayloadOutcome::Unchecked));
        // The head is verified all the same.
        let mut other = asking.clone();
        let changed = String::from_utf8(asking.target.clone()).unwrap().replace("8000", "8001");
        other.target = changed.into();
        assert_eq!(reason(verify(&signer, &other)), Reason::SigV4Signature);
    }
}
