//! Holes of other verifiers and of proxies around them, one test each, named for its advisory.

use exeat::engine::atlas::{Atlas, BodySeen, HostKind, Recognition};
use exeat::engine::facts::{AccountId, Auth, Resource};
use exeat::engine::reason::Reason;
use exeat::engine::request::RequestHead;

use super::message::keys;
use super::post;
use super::rules::{keys_of, message, reading, reason, verify};
use super::signer::Signer;

fn s3(method: &str, target: &str, fields: &[(&str, &str)]) -> super::message::Message {
    let mut message = message(method, target, fields);
    message.set("host", "s3.us-east-1.amazonaws.com");
    message
}

/// MinIO took uploads with an unsigned trailer without looking at the signature of their head.
#[test]
fn cve_2025_31489_an_unsigned_trailer_excuses_no_signature() {
    let signer = Signer { payload: Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"), ..Signer::s3() };
    let fields = [
        ("content-length", "60"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let good = signer.sign(s3("PUT", "/b/k", &fields));
    verify(&signer, &good).unwrap();
    let mut forged = good.clone();
    let value = good.value("authorization").unwrap();
    let (start, signature) = value.rsplit_once('=').unwrap();
    forged.set("authorization", &format!("{start}={}", signature.chars().rev().collect::<String>()));
    assert_eq!(reason(verify(&signer, &forged)), Reason::SigV4Signature);
    let other = Signer { secret: "guessed", ..signer.clone() }.sign(s3("PUT", "/b/k", &fields));
    assert_eq!(reason(verify(&signer, &other)), Reason::SigV4Signature);
}

/// MinIO: a handler knew nothing of the newest kind of signature, and fell through to "fine".
#[test]
fn cve_2026_40344_a_form_that_nobody_knows_is_refused_and_not_passed_over() {
    let signer = Signer::s3();
    for word in [
        "STREAMING-AWS4-HMAC-SHA512-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "streaming-unsigned-payload-trailer",
        "UNSIGNED",
        "",
    ] {
        let payload: &'static str = word.to_owned().leak();
        let fields = [("content-length", "5"), ("x-amz-decoded-content-length", "5")];
        let signed = Signer { payload: Some(payload), ..signer.clone() }.sign(s3("PUT", "/b/k", &fields));
        assert!(verify(&signer, &signed).is_err(), "{word:?}");
    }
    for algorithm in ["AWS5-HMAC-SHA256", "AWS4-HMAC-SHA384", "AWS4-X"] {
        let mut other = signer.sign(s3("GET", "/b/k", &[]));
        let value = other.value("authorization").unwrap().replacen("AWS4-HMAC-SHA256", algorithm, 1);
        other.set("authorization", &value);
        assert_eq!(reading(&other), Err(Reason::SigV4Malformed), "{algorithm}");
    }
}

/// MinIO asked the `Authorization` header whether a request is signed, and the query by whom.
#[test]
fn cve_2026_41145_who_signed_stands_in_one_place() {
    let signer = Signer::s3();
    let good = signer.sign(s3("GET", "/b/k", &[]));
    verify(&signer, &good).unwrap();
    for query in
        ["?X-Amz-Credential=AKIDADMIN%2F20260102%2Fus-east-1%2Fs3%2Faws4_request", "?X-Amz-Signature=00"]
    {
        let mut both = good.clone();
        both.target.extend(query.bytes());
        assert_eq!(reading(&both), Err(Reason::SigV4TwoForms), "{query}");
    }
    let mut presigned = Signer { presign: Some(60), ..signer }.sign(s3("GET", "/b/k", &[]));
    assert_eq!(reading(&presigned), Ok(Auth::Presigned));
    presigned.set("authorization", "Bearer x");
    assert_eq!(reading(&presigned), Err(Reason::SigV4TwoForms));
}

/// MinIO did not hold a form upload to the bucket that its policy names.
#[test]
fn cve_2023_28434_a_form_is_good_for_the_bucket_that_it_names_alone() {
    assert!(post::for_bucket("examplebucket").is_ok());
    for bucket in ["examplebuckeu", "", "examplebucket/x", "EXAMPLEBUCKET"] {
        assert_eq!(post::for_bucket(bucket), Err(Reason::SigV4Payload), "{bucket}");
    }
}

/// MinIO believed headers that only its own nodes should send. To S3 every `x-amz-` field says something.
#[test]
fn cve_2026_34204_no_header_with_a_meaning_slips_in_unsigned() {
    let signer = Signer::s3();
    let good = signer.sign(s3("PUT", "/b/k", &[]));
    verify(&signer, &good).unwrap();
    for name in [
        "x-amz-copy-source",
        "X-AMZ-ACL",
        "x-amz-meta-x-minio-internal-actual-size",
        "x-amz-server-side-encryption",
        "x-amz-security-token",
    ] {
        let mut more = good.clone();
        more.set(name, "1");
        assert_eq!(reading(&more), Err(Reason::SigV4UnsignedHeader), "{name}");
    }
}

fn recognised(host: &str, text: &str, body: &str) -> Recognition {
    let text = format!("{text}Host: {host}\r\nContent-Length: {}\r\n\r\n", body.len());
    let head = RequestHead::parse(text.into()).unwrap();
    let atlas = Atlas::built_in();
    let HostKind::Service(endpoint) = atlas.host(&head.authority().host) else { panic!("{host}") };
    let account = AccountId::parse("123456789012");
    atlas.recognise(&endpoint, None, None, &head, BodySeen::Whole(body.as_bytes()), account)
}

/// aws-iam-authenticator checked one of two `Action`s, and AWS read the other.
#[test]
fn cve_2022_2385_nothing_is_said_twice_in_any_spelling() {
    let sts = |query: &str, body: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        recognised("sts.us-east-1.amazonaws.com", &format!("POST /{query} HTTP/1.1\r\n{kind}"), body)
    };
    const ASKED: &str = "Action=GetCallerIdentity&Version=2011-06-15";
    assert!(matches!(sts("", ASKED), Recognition::Operation(_)));
    for (query, body) in [
        ("", "Action=GetCallerIdentity&Version=2011-06-15&Action=AssumeRole"),
        ("", "Action=GetCallerIdentity&Version=2011-06-15&action=AssumeRole"),
        ("?Action=AssumeRole", ASKED),
        ("?action=AssumeRole", ASKED),
        ("?%41ction=AssumeRole", ASKED),
    ] {
        let read = sts(query, body);
        assert!(
            matches!(read, Recognition::Refused(Reason::RequestAmbiguous, _)),
            "{query} {body}: {read:?}"
        );
    }
    for query in ["?X-Amz-Date=20260102T030405Z&X-Amz-Date=20260102T030405Z", "?x-amz-date=20260102T030405Z"]
    {
        assert!(reading(&message("GET", &format!("/{query}"), &[])).is_err(), "{query}");
    }
}

/// Vault sent an STS call wherever its caller said, and believed what came back. Here host, scope and signature must
/// agree before anything is sent (and the answer is only read from a host that the atlas calls STS: `tests/wire`).
#[test]
fn cve_2020_16250_a_call_is_good_for_its_own_host_alone() {
    let signer = Signer::default();
    let good = signer.sign(message("POST", "/", &[]));
    verify(&signer, &good).unwrap();
    for host in ["sts.us-east-1.amazonaws.com.evil.test", "evil.test", "sts.us-west-2.amazonaws.com"] {
        let mut other = good.clone();
        other.set("host", host);
        assert_eq!(reason(verify(&signer, &other)), Reason::SigV4Signature, "{host}");
    }
    let kind = Atlas::built_in().host(
        &RequestHead::parse("GET / HTTP/1.1\r\nHost: sts.us-east-1.amazonaws.com.evil.test\r\n\r\n".into())
            .unwrap()
            .authority()
            .host,
    );
    assert!(matches!(kind, HostKind::Outside));
}

/// RustFS let UploadPartCopy read what its caller might not.
#[test]
fn cve_2026_39360_the_source_of_a_copied_part_is_asked_for_too() {
    let read = recognised(
        "s3.us-east-1.amazonaws.com",
        "PUT /ours/k?partNumber=1&uploadId=u HTTP/1.1\r\nx-amz-copy-source: /theirs/secret%2Fk\r\n",
        "",
    );
    let Recognition::Operation(operation) = read else { panic!("{read:?}") };
    let asks: Vec<_> = operation
        .asks
        .iter()
        .map(|ask| match &ask.resource {
            Resource::Arn { arn, .. } => format!("{} {arn}", ask.action),
            other => format!("{} {other:?}", ask.action),
        })
        .collect();
    assert_eq!(asks, ["s3:PutObject arn:aws:s3:::ours/k", "s3:GetObject arn:aws:s3:::theirs/secret/k"]);
}

/// A re-signing proxy (ds_proxy, Traffic Server) signed for headers that the client had not: `resign.rs` has the test.
/// This one is of its verifier: values are folded and sorted as AWS does it, not as it is easiest.
#[test]
fn s3s_and_iron_proxy_blanks_are_folded_and_values_sorted() {
    let signer = Signer::default();
    let good = signer.sign(message("GET", "/?a=b&a=B&a=a", &[("x-note", "one  two")]));
    verify(&signer, &good).unwrap();
    let mut other = good.clone();
    other.target = b"/?a=a&a=b&a=B".to_vec();
    verify(&signer, &other).expect("the same parameters in another order");
    let mut other = good;
    other.set("x-note", "one two");
    verify(&signer, &other).expect("runs of blanks count as one");
    assert!(keys_of(&signer).get(signer.id).is_some() && keys("a", "b", None).get("b").is_none());
}
