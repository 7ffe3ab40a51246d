//! What HTTP/2 has its own name for, and the AWS SDK for JavaScript signs under that name.

use exeat::engine::facts::{Secret, SignatureState};
use exeat::engine::reason::Reason;
use exeat::engine::request::{Pseudo, RequestHead};
use exeat::engine::signature::{
    Algorithm, Parts, PathForm, Query, Scope, SignedFields, SigningKey, string_to_sign,
};

use super::message::{hex, signed};
use super::rules::keys_of;
use super::signer::Signer;

const DATE: &str = "20260102T030405Z";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HOST: &str = "sts.us-east-1.amazonaws.com";

/// An `authorization` over these fields, of which those that `names` lists are signed.
fn authorization(names: &str, fields: &[(&str, &str)]) -> String {
    let signer = Signer::default();
    let scope = Scope { date: &DATE[..8], region: signer.region, service: signer.service };
    let listed = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let fields = SignedFields::gather(names.into(), listed, |_, _| Ok(())).unwrap();
    let parts = Parts { method: "GET", path: b"/", query: Query::default(), fields };
    let text = parts.text(PathForm::EncodedAgain, EMPTY.as_bytes());
    let text = string_to_sign(Algorithm::Hmac, DATE, &scope, &text);
    let signature = hex(&SigningKey::derive(&Secret::new(signer.secret.as_bytes()), &scope).sign(&text));
    format!(
        "AWS4-HMAC-SHA256 Credential={}/20260102/us-east-1/sts/aws4_request, SignedHeaders={names}, Signature={signature}",
        signer.id
    )
}

fn http2(authority: &str, host: Option<&str>, authorization: &str) -> RequestHead {
    let pseudo = Pseudo { method: "GET", scheme: Some("https"), authority: Some(authority), path: Some("/") };
    let mut fields = vec![("x-amz-date", DATE), ("authorization", authorization)];
    fields.extend(host.map(|host| ("host", host)));
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    RequestHead::parse_http2(pseudo, &fields, true, None).unwrap()
}

fn http1(authorization: &str) -> RequestHead {
    let text = format!(
        "GET / HTTP/1.1\r\nhost: {HOST}\r\nx-amz-date: {DATE}\r\nauthorization: {authorization}\r\n\r\n"
    );
    RequestHead::parse(text.into()).unwrap()
}

fn judge(head: &RequestHead) -> Result<(), Reason> {
    let signer = Signer::default();
    let verdict = signed(head).and_then(|claim| claim.verify(None, &keys_of(&signer), signer.at));
    verdict
        .map(|verdict| assert_eq!(verdict.identity.signature, SignatureState::Verified))
        .map_err(|r| r.reason)
}

#[test]
fn a_request_may_sign_its_authority_under_the_name_that_http_2_has_for_it() {
    let (date, host, authority) = (("x-amz-date", DATE), ("host", HOST), (":authority", HOST));
    let pseudo = authorization(":authority;x-amz-date", &[authority, date]);
    assert_eq!(judge(&http2(HOST, None, &pseudo)), Ok(()));
    // With a `host` beside it, signed or not; and that alone, as in HTTP/1.1.
    assert_eq!(judge(&http2(HOST, Some(HOST), &pseudo)), Ok(()));
    let both = authorization(":authority;host;x-amz-date", &[authority, host, date]);
    assert_eq!(judge(&http2(HOST, Some(HOST), &both)), Ok(()));
    let plain = authorization("host;x-amz-date", &[host, date]);
    assert_eq!((judge(&http2(HOST, None, &plain)), judge(&http1(&plain))), (Ok(()), Ok(())));

    // For nobody else.
    assert_eq!(judge(&http2("sts.us-west-2.amazonaws.com", None, &pseudo)), Err(Reason::SigV4Signature));
    // HTTP/1.1 has no such name.
    assert_eq!(judge(&http1(&pseudo)), Err(Reason::SigV4Malformed));
    assert_eq!(judge(&http1(&both)), Err(Reason::SigV4Malformed));
    // Nor has HTTP/2 others that are signed, in another place or twice.
    for (names, reason) in [
        (":path;x-amz-date", Reason::SigV4Malformed),
        (":authority;:path;x-amz-date", Reason::SigV4Malformed),
        (":Authority;x-amz-date", Reason::SigV4Malformed),
        (":authority;:authority;x-amz-date", Reason::SigV4Malformed),
        ("x-amz-date;:authority", Reason::SigV4Malformed),
        (":authorit;x-amz-date", Reason::SigV4Malformed),
        (":;x-amz-date", Reason::SigV4Malformed),
        ("x-amz-date", Reason::SigV4UnsignedHeader),
        (":authority", Reason::SigV4UnsignedHeader),
    ] {
        let changed = pseudo.replace(":authority;x-amz-date", names);
        assert_eq!(judge(&http2(HOST, None, &changed)), Err(reason), "{names}");
    }
    // Either name's signature is none of the other.
    let swapped = plain.replace("=host;", "=:authority;");
    assert_eq!(judge(&http2(HOST, None, &swapped)), Err(Reason::SigV4Signature));
}
